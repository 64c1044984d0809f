"""What folds are trained on at once: GPUs or processors of this machine, a Dask cluster, a batch system."""

import importlib.util
import io
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from adnext_plugin.dask_cluster import SCHEME, open_cluster, require_dask
from adnext_plugin.environment import FOLDS_AT_ONCE, usable_cpus
from adnext_plugin.errors import AdnextError, SettingsError
from adnext_plugin.names import names_in, whole_number
from adnext_plugin.workflows.fold_tasks import (
    MOST_TRIES,
    Done,
    Executor,
    FoldTask,
    TaskProcess,
    killed_too_often,
    run_task,
)

LOCAL, DASK, SLURM = "local", "dask", "slurm"
POLL_SECONDS = 1
DAY_MINUTES = "1440"  # that a job may take, if nothing else is asked for
KILLED = "killed"


def executor_of(name: str, logs: Path) -> Executor:
    """What `--executor` names.

    Args:
        name: "local:N", N folds at once on this machine; "dask", a cluster of this machine, or dask://HOST:PORT of a
            scheduler; "slurm", or slurm:KEY=VALUE,... with options of `sbatch`.
        logs: where a batch system keeps what its jobs say.

    Raises:
        SettingsError: there is no such thing, or what it needs is not installed.
    """
    kind, _, rest = name.partition(":")
    if kind == LOCAL:
        count = whole_number(rest)
        if not count:
            raise SettingsError(f"--executor {name}: say how many folds at once, e.g. local:2")
        return LocalFolds(shares_of_machine(count))
    if name == DASK or name.removeprefix(SCHEME) not in ("", name):
        require_dask(name)  # before anything is begun or set aside
        return DaskFolds(name)
    if kind == SLURM:
        options = _options(name, rest)
        if importlib.util.find_spec("submitit") is None:
            raise SettingsError(f"--executor {name} needs submitit: pip install 'adnext_plugin[slurm]'")
        return BatchFolds(SLURM, options, logs)
    raise SettingsError(f"--executor {name}: give local:N, slurm, dask, or dask://HOST:PORT of a scheduler")


def trains_elsewhere(name: str) -> bool:
    """Whether an executor trains on machines whose devices cannot be seen from here."""
    kind = name.partition(":")[0]
    return kind == SLURM or (kind == DASK and name != DASK)


def folds_on_gpus(gpus: Sequence[str], there_are: int) -> Executor:
    """One fold at a time on each GPU.

    Args:
        gpus: numbers, as torch counts them.
        there_are: how many GPUs torch sees.

    Raises:
        SettingsError: there is no such GPU.
    """
    numbers = [whole_number(gpu) for gpu in gpus]
    for gpu, number in zip(gpus, numbers, strict=True):
        if number is None or number >= there_are or gpus.count(gpu) > 1:
            seen = f"torch sees {there_are}, counted from 0" if there_are else "torch sees no GPU here"
            raise SettingsError(f"--gpus {','.join(gpus)}: {seen}; use --executor local:N for folds on processors")
    # those that torch sees may be some of the machine's
    named = names_in(os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    names = [named[number] if named else str(number) for number in numbers if number is not None]
    shares = shares_of_machine(len(names))
    return LocalFolds([{**share, "CUDA_VISIBLE_DEVICES": name} for name, share in zip(names, shares, strict=True)])


def shares_of_machine(count: int) -> list[dict[str, str]]:
    """Variables that give each of some processes its share of memory, and of processors if the user does not."""
    share = {FOLDS_AT_ONCE: str(count)}
    if "OMP_NUM_THREADS" not in os.environ:
        share["OMP_NUM_THREADS"] = str(max(1, usable_cpus() // count))
    return [dict(share) for _ in range(count)]


@dataclass(frozen=True, kw_only=True)
class _Running:
    """Processes that are to be ended when one of them has failed."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    processes: set[TaskProcess] = field(default_factory=set)
    is_over: threading.Event = field(default_factory=threading.Event)


class LocalFolds:
    """As many tasks at once as there are places, each with variables of its own.

    Args:
        places: variables of each.
    """

    def __init__(self, places: Sequence[Mapping[str, str]]) -> None:
        self._places = list(places)

    @property
    def manner(self) -> str:
        """As `Executor` says."""
        return f"{len(self._places)} at a time on this machine"

    def check(self) -> None:
        """As `Executor` says: this machine is there."""

    def run(self, tasks: Sequence[FoldTask], done: Done) -> None:
        """As `Executor` says; when a task fails, those that run are ended, and go on with the next command."""
        running, free = _Running(), list(self._places)
        with ThreadPoolExecutor(len(self._places)) as pool:
            futures = [pool.submit(self._run, task, running, free, done) for task in tasks]
            try:
                wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                running.is_over.set()
                for future in futures:
                    future.cancel()
                with running.lock:
                    left = list(running.processes)
                for process in left:
                    process.end()
        for future in futures:
            if not future.cancelled():
                future.result()

    def _run(
        self,
        task: FoldTask,
        running: _Running,
        free: list[Mapping[str, str]],
        done: Done,
    ) -> None:
        with running.lock:
            place = free.pop()
        try:
            for _ in range(MOST_TRIES):
                with running.lock:
                    if running.is_over.is_set():
                        return
                    process = TaskProcess(task, place)
                    running.processes.add(process)
                if process.is_finished():
                    done(task, process.device)
                    return
                with running.lock:
                    running.processes.discard(process)
                if running.is_over.is_set():
                    return
            raise AdnextError(killed_too_often(task, process.ended_by))
        finally:
            with running.lock:
                free.append(place)


class DaskFolds:
    """Tasks on a Dask cluster; the task of a worker that died goes to another one.

    Args:
        name: "dask", or dask://HOST:PORT.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @property
    def manner(self) -> str:
        """As `Executor` says."""
        return "on a Dask cluster"

    def check(self) -> None:
        """As `Executor` says; one's own cluster has to answer, and to have a worker."""
        if self._name != DASK:
            with open_cluster(self._name, 1):
                pass

    def run(self, tasks: Sequence[FoldTask], done: Done) -> None:
        """As `Executor` says."""
        workers = max(1, min(len(tasks), usable_cpus()))
        with open_cluster(self._name, workers) as cluster:
            share = shares_of_machine(workers)[0] if cluster.is_local else {}
            arguments = [(task, share) for task in tasks]
            for index, outcome in cluster.each(_outcome_of, arguments, workers):
                if isinstance(outcome, AdnextError):  # workers died of it
                    raise AdnextError(killed_too_often(tasks[index])) from outcome
                device, problem = outcome
                if problem is not None:
                    raise AdnextError(problem)
                done(tasks[index], device)


class BatchFolds:
    """Tasks as jobs of a batch system, by submitit; a job that is killed is submitted again.

    Args:
        cluster: submitit's name of it.
        options: of its submission, as `sbatch` names them.
        logs: folder for what jobs say.
    """

    def __init__(self, cluster: str, options: Mapping[str, str], logs: Path) -> None:
        self._cluster, self._options, self._logs = cluster, {"time": DAY_MINUTES, **options}, logs

    @property
    def manner(self) -> str:
        """As `Executor` says."""
        return f"each as a job of {self._cluster}"

    def run(self, tasks: Sequence[FoldTask], done: Done) -> None:
        """As `Executor` says; when a task fails, jobs of the others are cancelled, and go on with the next command."""
        executor = self._submitter()
        jobs: dict[Any, tuple[FoldTask, int]] = {}
        try:
            for task in tasks:
                jobs[self._submit(executor, task)] = (task, 1)
            while jobs:
                ended = [job for job in jobs if job.done()]
                for job in ended:
                    task, tries = jobs.pop(job)
                    device, problem = self._outcome(job)
                    if problem is None:
                        done(task, device)
                    elif problem != KILLED:
                        raise AdnextError(problem)
                    elif tries == MOST_TRIES:
                        raise AdnextError(f"{killed_too_often(task)} (its logs are in {self._logs})")
                    else:
                        jobs[self._submit(executor, task)] = (task, tries + 1)
                if not ended:
                    time.sleep(POLL_SECONDS)
        finally:
            for job in jobs:
                job.cancel()

    def check(self) -> None:
        """As `Executor` says; Slurm is asked whether it would take such a job."""
        self._submitter()
        if self._cluster != SLURM or shutil.which("sbatch") is None:
            return
        words = [f"--{name.replace('_', '-')}={value}" for name, value in self._options.items()]
        asked = subprocess.run(
            ["sbatch", "--test-only", *words, "--wrap=true"], stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        if asked.returncode != 0:
            raise self._refusal(asked.stderr or asked.stdout)

    def _submitter(self) -> Any:
        import submitit

        try:
            executor = submitit.AutoExecutor(folder=self._logs, cluster=self._cluster)
        except RuntimeError as error:
            raise SettingsError(f"--executor {self._cluster}: {error}") from error
        executor.update_parameters(name="adnext", slurm_additional_parameters=self._options)
        return executor

    def _submit(self, executor: Any, task: FoldTask) -> Any:
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        try:
            with redirect_stderr(io.StringIO()):  # where submitit repeats what it raises
                return executor.submit(BatchJob(task))
        except (FailedJobError, FailedSubmissionError) as error:
            raise self._refusal(str(error)) from error
        except FileNotFoundError as error:
            raise SettingsError(f"--executor {self._cluster}: there is no {error.filename} on this machine") from error

    def _refusal(self, said: str) -> SettingsError:
        """One line with what `sbatch` said to the options."""
        lines = [line.removeprefix("sbatch: ").removeprefix("error: ").strip() for line in said.splitlines()]
        options = ",".join(f"{name}={value}" for name, value in self._options.items())
        what = "; ".join(filter(None, lines)) or "it gave no reason"
        return SettingsError(f"--executor {self._cluster}: sbatch refuses a job with {options}: {what}")

    def _outcome(self, job: Any) -> tuple[str, str | None]:
        from submitit.core.utils import FailedJobError, UncompletedJobError

        try:
            return job.result()
        except FailedJobError:
            raise
        except UncompletedJobError:
            return "", KILLED


class BatchJob:
    """A fold as a job that may be preempted, or run out of its time, and is then queued again.

    Args:
        task: the fold.
    """

    def __init__(self, task: FoldTask) -> None:
        self._task = task

    def __call__(self) -> tuple[str, str | None]:
        """Train the fold; on what it was trained, and what is to be mended, if anything."""
        from submitit.core.logger import get_logger

        device, problem = _outcome_of((self._task, {}))
        get_logger().info(f"{self._task.name}: {problem or f'trained on {device}'}")
        return device, problem

    def checkpoint(self) -> Any:
        """What is queued again: the same, which goes on from what has been saved."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _outcome_of(argument: tuple[FoldTask, Mapping[str, str]]) -> tuple[str, str | None]:
    """Train a fold; on what it was trained, and what is to be mended. Called on another machine."""
    task, variables = argument
    try:
        return run_task(task, variables), None
    except AdnextError as error:
        return "", str(error)


def _options(name: str, text: str) -> dict[str, str]:
    options = {}
    for item in filter(None, text.split(",")):
        key, is_given, value = item.partition("=")
        if not is_given:
            raise SettingsError(
                f"--executor {name}: write options as KEY=VALUE, e.g. slurm:partition=gpu,gpus=1,time=720"
            )
        options[key] = value
    return options
