"""The first hour of a new user plays what the README says, and nothing else."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest
from conftest import Workspace, write_cohort

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def first_hour() -> ModuleType:
    spec = importlib.util.spec_from_file_location("first_hour", ROOT / "benchmarks" / "first_hour.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["first_hour"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("source", ["--table", "--bids"])
def test_the_commands_are_those_of_the_readme_in_order_to_the_letter(first_hour, source: str) -> None:
    readme = (ROOT / "README.md").read_text()
    commands = first_hour.commands_of(readme, source)
    assert all(command in readme for command in commands)
    names = [command.split()[0] for command in commands]
    assert names[:3] == ["export", "adnext_import", "adnext_plan_and_preprocess"] and source in commands[1]
    assert names[3:] == [f"adnext_{name}" for name in ("quality", "regions", "train", "evaluate", "predict", "export")]
    assert first_hour.optional_of(readme) == {"adnext_regions -d 101"} < set(commands)
    without = first_hour.commands_of(readme, source, has_gpu=False)
    assert [pair for pair in zip(commands, without, strict=True) if pair[0] != pair[1]] == [
        ("adnext_plan_and_preprocess -d 101", "adnext_plan_and_preprocess -d 101 --preset coarse")
    ]
    for old in first_hour.CHANGED_FOR_DS000011:
        assert any(old in command for command in first_hour.commands_of(readme, "--bids"))


def test_steps_are_played_until_one_fails_and_gone_on_with(first_hour, tmp_path: Path, capsys) -> None:
    commands = ["export WHERE=here", "echo at $WHERE | tee -a said", "test -e ready"]
    steps = first_hour.play(commands, tmp_path)
    assert [step.code for step in steps] == [0, 1] and steps[0].output == ("at here",)
    assert [step.code for step in first_hour.play([*commands, "true"], tmp_path, {commands[-1]})] == [0, 1, 0]
    (tmp_path / "ready").touch()
    steps = first_hour.play(commands, tmp_path)
    assert [step.code for step in steps] == [0, 0]
    assert (tmp_path / "said").read_text() == "at here\n"  # once


def test_the_readmes_import_takes_the_table_that_is_laid_out(first_hour, fresh: Workspace, monkeypatch) -> None:
    write_cohort(fresh.source)
    text = (fresh.source / "table.csv").read_text()
    lines = [f"{line},{'nWBV' if number == 0 else 0.7}" for number, line in enumerate(text.splitlines())]
    (fresh.source / "scans.csv").write_text("\n".join(lines) + "\n")
    where, command, *_ = first_hour.commands_of((ROOT / "README.md").read_text(), "--table")
    (step,) = first_hour.play([where, command], fresh.source)
    assert step.code == 0 and step.cpu_seconds > 0, step.output
    dataset = fresh.source / "nnUNet_raw" / "Dataset101_AD"
    assert len(list((dataset / "imagesTr").iterdir())) == 17
    assert "nWBV" in (dataset / "subjects.csv").read_text().partition("\n")[0]
    shutil.rmtree(fresh.source)
    assert "nnUNet_raw" in os.environ  # the commands run in an environment of their own
