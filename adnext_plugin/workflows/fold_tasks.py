"""Folds as tasks of their own: each is trained by a process that knows nothing of the others, here or elsewhere.

A fold's files are those of a command that trains one fold after the other: nothing is exchanged, and each lies in its
own folder. A task that was killed is tried again and goes on from what it had saved.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from adnext_plugin.errors import AdnextError
from adnext_plugin.workflows.endings import end_in_words

MODULE = "adnext_plugin.cli.fold_task"
MOST_TRIES = 3  # of a fold, if it is killed each time
PASSED_ON = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "ADNEXT_SETTINGS", "ADNEXT_LOGGERS")
# what torchrun tells its processes of their group, which a fold's own process does not belong to
OF_TORCHRUN = re.compile("TORCHELASTIC_.*|((LOCAL_|GROUP_|ROLE_)?(RANK|WORLD_SIZE))|ROLE_NAME|MASTER_ADDR|MASTER_PORT")
DEVICE = "device: "  # begins the line in which the process says what it trained on
MENDABLE = 2  # exit code of a command that said in one line what to mend
SECONDS_TO_END = 30
KILLED = 9  # SIGKILL, which Windows does not have


@dataclass(frozen=True, kw_only=True)
class FoldTask:
    """One fold of one seed: `request`, a training whose fold is a number, and the variables that it needs anywhere.

    `module`: what a process runs that is given the request, as JSON.
    """

    name: str
    request: Mapping[str, Any]
    variables: Mapping[str, str] = field(default_factory=dict)
    module: str = MODULE

    @classmethod
    def of(cls, name: str, request: Mapping[str, Any], further: Mapping[str, str] | None = None) -> "FoldTask":
        """A task in the environment of now, which another machine need not have, with `further` variables."""
        here = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        folders = {name: str(Path(value).absolute()) for name, value in here.items() if name.startswith("nnUNet_")}
        return cls(name=name, request=dict(request), variables={**here, **folders, **(further or {})})


Done = Callable[[FoldTask, str], None]  # is told of a task that has ended well, and what it was trained on


class Executor(Protocol):
    """What tasks are run on."""

    @property
    def manner(self) -> str:
        """How many at once or where, to follow a number of folds."""
        ...

    def check(self) -> None:
        """Make sure that tasks can be run, before anything is looked at or set aside for them.

        Raises:
            AdnextError: whoever would run them is not there, or refuses.
        """
        ...

    def run(self, tasks: Sequence[FoldTask], done: Done) -> None:
        """Run tasks, each until it has ended well.

        Args:
            tasks: in the order in which they are begun.
            done: is told of each that has ended well, and of its device.

        Raises:
            AdnextError: a task said what to mend, or was killed too often.
        """
        ...


class TaskProcess:
    """A process that trains a fold; it ends by itself when this process is gone.

    Args:
        task: the fold.
        variables: further ones of its environment, as which GPU to use.
    """

    def __init__(self, task: FoldTask, variables: Mapping[str, str]) -> None:
        self.device = ""  # is known in the end
        self.ended_by = 0  # the signal that killed it, if one did
        self._task = task
        self._process = subprocess.Popen(
            [sys.executable, "-m", task.module, json.dumps(dict(task.request))],
            env={**_without_torchruns(os.environ), **task.variables, **variables},
            stdin=subprocess.PIPE,  # its end tells the process that nobody is left who waits for it
            stdout=subprocess.DEVNULL,  # the log of a fold is in its folder
            stderr=subprocess.PIPE,
            text=True,
        )

    def is_finished(self) -> bool:
        """Wait until it has ended; False where it was killed, so that another may go on.

        Raises:
            AdnextError: it ended otherwise, with what it said.
        """
        assert self._process.stderr is not None
        lines = self._process.stderr.read().strip().splitlines()  # and not `communicate`, which closes its stdin
        code = self._process.wait()
        self.device = next((line.removeprefix(DEVICE) for line in lines if line.startswith(DEVICE)), "")
        if code == MENDABLE:
            said = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
            raise AdnextError(f"{self._task.name}: {(said or lines or ['it said nothing'])[-1]}")
        if code > 0 and code - 128 not in (KILLED, signal.SIGTERM):
            raise AdnextError("\n".join([f"{self._task.name} ended with exit code {code}:", *lines[-20:]]))
        self.ended_by = -code if code < 0 else max(0, code - 128)
        return code == 0

    def end(self) -> None:
        """Let it end, if it has not: first so that it removes what it has not finished writing."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _without_torchruns(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if not OF_TORCHRUN.fullmatch(name)}


def run_task(task: FoldTask, variables: Mapping[str, str] | None = None) -> str:
    """Train a fold in a process, and again where that is killed.

    Returns:
        What it was trained on.

    Raises:
        AdnextError: what the process said is to be mended, or it was killed too often.
    """
    for _ in range(MOST_TRIES):
        process = TaskProcess(task, variables or {})
        try:
            if process.is_finished():
                return process.device
        finally:
            process.end()
    raise AdnextError(killed_too_often(task, process.ended_by))


def killed_too_often(task: FoldTask, ended_by: int | None = None) -> str:
    """What is said of a task that is given up.

    Args:
        task: that was tried so often.
        ended_by: the signal that killed it last; None where another machine was to tell, and is gone or has not.
    """
    times, again = f"{MOST_TRIES} times", "run the same command again"
    if ended_by is None:
        reasons = "as for want of memory, or of the time that it was given"
        return f"{task.name} was killed {times}, {reasons}; {again} with more of it, and it goes on"
    fewer = " with fewer folds at once" if ended_by == KILLED else ""
    return f"{task.name} {end_in_words(ended_by, times)}; {again}{fewer}, and it goes on"
