"""Many runs of commands at once, in few processes that import everything once, most important first, until time is up.

Each worker runs one job after the other: commands called as functions, so that only the first of them waits for the
GPU's driver and for kernels. A process that has imported what commands need, and has neither touched the GPU nor begun
threads, forks its workers; any other has them imported anew.
"""

import ctypes
import importlib
import json
import math
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

Command = Sequence[str] | Callable[[], Sequence[str]]
Task = tuple[int, int]  # number of a job, attempt
FIRST, SECOND = 1, 2
MORE_SIMPLY = {"ADNEXT_KERNELS": "stock", "ADNEXT_LAUNCH": "eager"}
END_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux
SECONDS_BETWEEN_LOOKS = 2.0  # for files of other processes
AUDITED = {"skip_audit": "audited where scans were prepared"}  # settings of jobs on a machine that only trains


@dataclass(frozen=True, kw_only=True)
class Job:
    """Commands to be run in turn, and what they found.

    `key` names the job in the log of results. A command is a module of `adnext_plugin.cli` and its arguments, or
    a function that finds them when their turn has come.
    `results` takes the place of `nnUNet_results`. `needs` are files without which the job is not begun, and which other
    jobs make; `awaits` such that other processes make. `found` is called in the worker when all has been run, and
    returns what the log is to say.
    """

    key: dict[str, Any]
    commands: list[Command]
    results: Path
    needs: tuple[Path, ...] = ()
    awaits: tuple[Path, ...] = ()
    found: Callable[[], list[dict[str, Any]]] = field(default=list)

    @property
    def name(self) -> str:
        """Of its log file."""
        return "_".join(str(value).replace(" ", "") for value in self.key.values())

    @property
    def is_awaiting(self) -> bool:
        """Whether another process has still to make something for it."""
        return not all(path.is_file() for path in self.awaits)

    @property
    def is_ready(self) -> bool:
        """Whether it can be begun."""
        return not self.is_awaiting and all(path.is_file() for path in self.needs)


def run_jobs(
    jobs: Sequence[Job],
    processes: int,
    until: float,
    log_of_runs: Path,
    logs: Path,
    *,
    begin_until: float = math.inf,
    start: str = "fork",
    warm: Callable[[], None] | None = None,
) -> int:
    """Run jobs in the order given, as far as what they need is there; one that fails a second time, more simply.

    Args:
        jobs: to run; those whose `key` is in the log are left out.
        processes: at once.
        until: of `time.monotonic`; then workers are killed.
        log_of_runs: JSON lines, to which a line for each thing found is added at once.
        logs: folder for what commands print.
        begin_until: of `time.monotonic`; then no job is begun any more.
        start: of workers, "fork" or "spawn".
        warm: what a worker does first.

    Returns:
        How many failed twice.
    """
    logs.mkdir(parents=True, exist_ok=True)
    waiting = [(number, FIRST) for number, job in enumerate(jobs) if not _is_done(job, log_of_runs)]
    new_worker = partial(_Worker, jobs, logs, start, warm)
    idle = [new_worker() for _ in range(processes)]
    busy: list[_Worker] = []
    failed, begun = 0, time.monotonic()
    try:
        while (now := time.monotonic()) < until:
            may_begin = now < begin_until
            for task in [task for task in waiting if may_begin and jobs[task[0]].is_ready][: len(idle)]:
                waiting.remove(task)
                busy.append(idle.pop(0))
                busy[-1].send(task)
            if not busy and not (may_begin and any(jobs[number].is_awaiting for number, _ in waiting)):
                break
            ended = wait([worker.connection for worker in busy], timeout=min(SECONDS_BETWEEN_LOOKS, until - now))
            for worker in [worker for worker in busy if worker.connection in ended]:
                busy.remove(worker)
                number, attempt = worker.task
                seconds, lines, error = worker.found()
                said = f"{time.monotonic() - begun:6.1f} s  {jobs[number].name}: "
                print(said + (f"{seconds:.1f} s" if error is None else f"FAILED: {error}"), flush=True)
                if error is None:
                    idle.append(worker)
                else:  # a driver that has failed once fails in all that the process does
                    worker.end()
                    idle.append(new_worker())
                    if attempt == FIRST:
                        waiting.insert(0, (number, SECOND))
                    failed += attempt == SECOND
                with log_of_runs.open("a") as log:
                    for line in lines:
                        log.write(json.dumps({**jobs[number].key, **line}) + "\n")
    finally:
        for worker in (*idle, *busy):
            worker.end()
    print(f"{len(waiting) + len(busy)} of {len(jobs)} jobs were not ended, {failed} failed", flush=True)
    return failed


def warm_training() -> None:
    """Import what training needs, and begin the GPU's driver: what a worker does first that only trains."""
    import torch
    from nnunetv2.run import run_training  # noqa: F401

    if torch.cuda.is_available():
        torch.zeros(1, device="cuda")


class _Worker:
    """A process that runs one task after the other."""

    def __init__(self, jobs: Sequence[Job], logs: Path, start: str, warm: Callable[[], None] | None) -> None:
        self.connection, theirs = multiprocessing.Pipe()
        context = multiprocessing.get_context(start)
        self._process = context.Process(target=_work, args=(jobs, logs, theirs, warm))
        self._process.start()
        theirs.close()
        self.task = (-1, FIRST)

    def send(self, task: Task) -> None:
        """Begin a task."""
        self.task = task
        self.connection.send(task)

    def found(self) -> tuple[float, list[dict[str, Any]], str | None]:
        """How long the task took, what it found, and what went wrong."""
        try:
            found: tuple[float, list[dict[str, Any]], str | None] = self.connection.recv()
        except EOFError:  # killed by the system for memory, or by a fault of the driver
            return 0.0, [], "the process is gone"
        return found

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.join()


def _is_done(job: Job, log_of_runs: Path) -> bool:
    if not log_of_runs.is_file():
        return False
    return any(job.key.items() <= json.loads(line).items() for line in log_of_runs.read_text().splitlines())


def _work(jobs: Sequence[Job], logs: Path, connection: Connection, warm: Callable[[], None] | None) -> None:
    ctypes.CDLL(None).prctl(END_WITH_PARENT, signal.SIGKILL)
    if warm is not None:
        warm()
    while True:
        number, attempt = connection.recv()
        job, begun = jobs[number], time.monotonic()
        lines: list[dict[str, Any]] = []
        error = None
        output = os.open(logs / f"{job.name}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(output, stream)
        os.close(output)
        try:
            os.environ["nnUNet_results"] = str(job.results)
            job.results.mkdir(parents=True, exist_ok=True)
            if attempt == SECOND:
                os.environ.update(MORE_SIMPLY)
            for command in job.commands:
                words = command() if callable(command) else command
                print(f"\n>>> {' '.join(words)}", flush=True)
                code = importlib.import_module(f"adnext_plugin.cli.{words[0]}").main(list(words[1:]))
                if code:
                    raise RuntimeError(f"exit code {code} of {' '.join(words)}")
            lines = job.found()
        except BaseException as problem:
            traceback.print_exc()
            error = f"{type(problem).__name__}: {problem}"[:300]
        sys.stdout.flush()
        sys.stderr.flush()
        connection.send((time.monotonic() - begun, lines, error))
