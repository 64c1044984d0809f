"""The benchmark of hostile inputs notices what it is there for, and goes on where it stopped."""

import importlib
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def hostile(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("hostile")


@pytest.mark.parametrize(
    ("status", "printed", "problems"),
    [
        (2, "error: a.json is damaged\n", []),
        (0, "", []),
        (1, "Traceback (most recent call last):\nKeyError: 'a'\n", ["traceback"]),
        (2, "no reason", ["silent"]),
        (2, "error: \x1b[2J\n", ["control_characters"]),
    ],
)
def test_what_a_command_ends_with_is_judged(hostile: ModuleType, status: int, printed: str, problems: list) -> None:
    assert hostile.judge(status, printed) == problems


def test_a_command_leaves_the_process_as_it_was(hostile: ModuleType, tmp_path: Path) -> None:
    printed, streams, environment = tmp_path / "printed", (sys.stdout, sys.stderr), dict(os.environ)

    def fails(_: list[str]) -> int:
        os.environ["ADNEXT_SETTINGS"] = "x"
        raise KeyError("a")

    assert hostile.run_here(lambda words: print(*words) or 2, ["a", "b"], printed) == 2
    assert printed.read_text() == "a b\n"
    assert hostile.run_here(fails, [], printed) == 1
    assert "Traceback (most recent call last)" in printed.read_text() and "KeyError" in printed.read_text()
    assert hostile.run_here(lambda _: sys.exit(2), [], printed) == 2
    assert (sys.stdout, sys.stderr) == streams and dict(os.environ) == environment


def test_a_trial_that_hangs_or_dies_costs_no_other(hostile: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def trial(number: int) -> dict:
        if number == 2:
            time.sleep(60)
        if number == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return {"number": number, "problems": []}

    monkeypatch.setattr(hostile, "SECONDS", 3)
    found = {one["number"]: one["problems"] for one in hostile.in_processes(range(7), trial, size=3)}
    assert found == {0: [], 1: [], 2: ["hang"], 3: [], 4: ["crash"], 5: [], 6: []}


def test_files_elsewhere_and_planted_code_are_found(hostile: ModuleType, tmp_path: Path, monkeypatch) -> None:
    box = tmp_path / "a" / "b" / "box"
    (box / "out").mkdir(parents=True)
    monkeypatch.chdir(box)
    before = hostile.state_of(tmp_path)
    pickle.loads(pickle.dumps(hostile.inputs.Planted()))
    assert (box / "CANARY").is_dir()
    Path("out/result").touch()
    Path("../../x").touch()
    Path("raw").mkdir()
    new = hostile.state_of(tmp_path).keys() - before.keys()
    assert {path for path in new if not hostile.may_write(path, box)} == {
        str(box / "CANARY"),
        str(tmp_path / "a" / "x"),
        str(box / "raw"),
    }


def test_trials_are_counted_once_and_continued(tmp_path: Path) -> None:
    command = [sys.executable, FOLDER / "hostile.py", "--work", tmp_path / "work", "--result", tmp_path / "result.json"]
    for trials in (5, 10, 10):
        subprocess.run([*command, "--trials", str(trials)], check=True, capture_output=True)
        report = json.loads((tmp_path / "result.json").read_text())
        assert report["trials"] == trials and set(report["by_kind"]) == {
            "json",
            "table",
            "image",
            "bundle",
            "command line",
        }
        assert all(report[problem] == 0 for problem in ("traceback", "hang", "crash", "outside", "code_run")), report
