"""The queue of jobs of the benchmarks: what a job waits for, what fails, when nothing is begun any more."""

import importlib
import json
import math
import time
from functools import partial
from pathlib import Path
from threading import Timer
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("worker_pool")


def _made(path: Path, is_fine: bool = True) -> list[dict[str, Any]]:
    if not is_fine:
        raise ValueError("no such thing")
    path.touch()
    return [{"made": path.name}]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_jobs_wait_for_what_they_need_and_what_fails_twice_holds_up_no_other(
    pool: ModuleType, tmp_path: Path, start: str, capsys
) -> None:
    def job(name: str, is_fine: bool = True, **waits: tuple[Path, ...]) -> Any:
        found = partial(_made, tmp_path / name, is_fine)
        return pool.Job(key={"job": name}, commands=[], results=tmp_path / "results", found=found, **waits)

    jobs = [
        job("last", needs=(tmp_path / "second",)),
        job("never", needs=(tmp_path / "wrong",)),
        job("wrong", is_fine=False),
        job("second", needs=(tmp_path / "first",)),
        job("first", awaits=(tmp_path / "prepared",)),
    ]
    log = tmp_path / "log.jsonl"
    run = partial(pool.run_jobs, jobs, 2, math.inf, log, tmp_path / "logs", start=start)
    Timer(1.0, (tmp_path / "prepared").touch).start()  # by another process
    assert run() == 1
    said = capsys.readouterr().out
    assert said.count("wrong: FAILED: ValueError: no such thing") == 2 and "1 of 5 jobs were not ended" in said
    made = [json.loads(line)["made"] for line in log.read_text().splitlines()]
    assert made == ["first", "second", "last"]
    # what is in the log is not run again, and after a time nothing is begun
    (tmp_path / "first").unlink()
    assert run(begin_until=time.monotonic()) == 0
    assert not (tmp_path / "first").exists()
