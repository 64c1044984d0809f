"""Commands killed at any moment end with the files of one that never was, and redo only the cases in flight."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import pytest
from conftest import Workspace, write_cohort

from adnext_plugin.cli import import_dataset, plan_and_preprocess

SIZE = ["--input-size", "32", "32", "32", "--spacing", "2.5", "2.5", "2.5", "--no-splits"]
DATA = "ADNeXtPlans_3d_fullres"


def _command(*options: str) -> list[str | Path]:
    name = Path(sys.executable).parent / "adnext_plan_and_preprocess"
    return [name, "-d", "7", "-np", "2", *SIZE, *options]


def _hashes(workspace: Workspace) -> dict[str, str]:
    files = (path for path in workspace.preprocessed.rglob("*") if path.is_file())
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def _kill_when(command: list[str | Path], folder: Path, pattern: str, count: int) -> int:
    """Start a command, kill it and its workers soon after so many files are there; return how many there are then."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while len(list(folder.glob(pattern))) < count:
        assert process.poll() is None
        time.sleep(0.002)
    time.sleep(random.Random(count).uniform(0, 0.2))
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return len(list(folder.glob(pattern)))


def _check(
    workspace: Workspace, options: list[str], pattern: str, counts: list[int], capsys: pytest.CaptureFixture
) -> tuple[int, str]:
    """Compare the files; return how many of the pattern were there after the last kill, and what was then printed."""
    folder = workspace.preprocessed / "Dataset007_Toy"
    _, *words = map(str, _command(*options))
    assert plan_and_preprocess.main([*words, "-np", "1"]) == 0
    expected = _hashes(workspace)
    shutil.rmtree(folder)
    for count in counts:
        there = _kill_when(_command(*options), folder, pattern, count)
    capsys.readouterr()
    assert plan_and_preprocess.main(words) == 0
    assert _hashes(workspace) == expected
    return there, capsys.readouterr().out


@pytest.mark.slow
def test_preprocessing_killed_again_and_again(fresh, capsys) -> None:
    table = write_cohort(fresh.source, 15)
    assert import_dataset.main(["7", "Toy", "--table", str(table), "--target", "diagnosis", "-np", "1"]) == 0
    counts = [0, 1, 8]  # 0: while planning
    there, printed = _check(fresh, ["--bias-correction", "n4"], f"{DATA}/*.pkl", counts, capsys)
    assert f" {there} were finished already" in printed


@pytest.mark.slow
def test_brain_extraction_killed_after_the_first_brain(fresh, real_data, capsys) -> None:
    heads = [real_data / "ixi" / "head" / f"{name}.nii.gz" for name in ("IXI012_T1w", "IXI049_T1w")]
    rows = ["subject,path", *(f"{head.name[:6]},{head}" for head in heads)]
    (fresh.source / "heads.csv").write_text("\n".join(rows) + "\n")
    arguments = ["7", "Toy", "--table", str(fresh.source / "heads.csv"), "--unlabelled", "-np", "1"]
    assert import_dataset.main(arguments) == 0
    there, printed = _check(fresh, ["-np", "1"], "brain_masks/deepbet/*.json", [1], capsys)
    assert f"({2 - there} scans new)" in printed
