"""What a cohort is told to begin with."""

import pytest

from adnext_plugin.plans.advice import advice

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
