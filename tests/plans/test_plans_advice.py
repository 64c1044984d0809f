"""What a cohort is told to begin with."""

import pandas as pd
import pytest
import torch

from adnext_plugin.plan import Plan
from adnext_plugin.plans.advice import advice
from adnext_plugin.task import Task
from adnext_plugin.workflows.plan_and_preprocess import _tell_advice

OASIS = {"voxels": 48 * 56 * 48, "epochs": 40, "folds": 4}


@pytest.mark.parametrize(
    ("learn_from", "threads", "trainer"),
    [(90, 2, "T_Small"), (90, None, "T_Small"), (5000, 8, "T_Small"), (5000, None, "ADNeXtTrainer_B,")],
)
def test_few_subjects_or_no_gpu_call_for_the_small_recipe(learn_from: int, threads: int | None, trainer: str) -> None:
    assert trainer in advice(learn_from, threads=threads, **OASIS)


def test_time_is_told_without_a_gpu_and_a_coarser_grid_where_it_is_long() -> None:
    coarse = advice(220, threads=2, **OASIS)
    # 220 scans, 40 epochs, 4 folds, 129,024 voxels of 0.9 µs, two threads
    assert "On this CPU, 4 folds of it take about 34 minutes." in coarse
    assert "about 9 hours" in advice(220, threads=2, voxels=2_097_152, epochs=40, folds=4)
    assert "twice the --spacing" in advice(900, threads=2, voxels=2_097_152, epochs=40, folds=4)
    assert "half the --input-size, as --preset coarse has them, about 69 minutes" in advice(
        220, threads=2, voxels=2_097_152, epochs=40, folds=4
    )
    assert "coarse" not in advice(60, threads=4, voxels=2_097_152, epochs=20, folds=4)
    assert "about" not in advice(220, threads=None, **OASIS)


@pytest.mark.parametrize(
    ("device", "is_there", "of_cpu"),
    [("cpu", True, True), ("cuda", False, False), (None, True, False), (None, False, True)],
)
def test_time_is_that_of_the_device_that_was_asked_for(monkeypatch, device: str | None, is_there, of_cpu) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    people = pd.DataFrame({"case_id": ["a", "b"], "subject_id": ["a", "b"]})
    said: list[str] = []
    splits = [{"train": ["a", "b"]}]
    _tell_advice(people, Task(name="t", target="x", classes=("n", "y")), splits, Plan(), device, said.append)
    assert len(said) == 1 and ("On this CPU" in said[0]) == of_cpu
