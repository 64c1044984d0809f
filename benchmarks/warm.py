"""A tiny cohort, and commands run on it as processes of their own that need not import anything first.

A process that has imported what the commands need forks one child for each run of a command. The child leads a session
of its own, so that it can be killed with everything that it starts. A run costs a second instead of half a minute.
"""

import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

ALONE = {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLOSC_NTHREADS"), "1"),
    "nnUNet_n_proc_DA": "0",
}
VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")
PRESET = {
    "preprocessing": {"input_size_voxels": [32, 32, 32], "spacing_mm": [2.5, 2.5, 2.5]},
    "network": {"name": "adnext_t", "options": {"init": "fan_in"}},
}
TRAINING = ["--set", "epochs=2", "--set", "batch_size=8", "--set", "learning_rate=1e-3", "-device", "cpu"]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a run of a command ended: exit code, negative for a signal, what it printed, and how long it took."""

    code: int
    text: str
    seconds: float
    was_killed: bool = False


def begin_again_with_one_thread() -> None:
    """Start the script again where libraries have been told otherwise: a process with threads cannot be forked."""
    if any(os.environ.get(name) != value for name, value in ALONE.items()):
        os.environ.update(ALONE)
        os.execv(sys.executable, [sys.executable, *sys.argv])


def write_cohort(folder: Path, subjects: int = 16) -> Path:
    """Write noisy ellipsoids, those of patients with a hole, and their table; return the table."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = ["subject,path,diagnosis,age,sex"]
    for index in range(subjects):
        generator = np.random.default_rng(index)
        grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in (36, 40, 38)], indexing="ij"))
        radius = np.sqrt((grid**2).sum(axis=0)) / generator.uniform(0.75, 0.95)
        brain = 100 + 20 * grid[1] + generator.normal(0, 8, radius.shape)
        brain = np.where((radius < 0.35) & (index % 2 == 1), 30.0, brain)
        image = nibabel.Nifti1Image(np.where(radius < 1, brain, 0).astype(np.float32), np.diag([2.0, 2.0, 2.0, 1.0]))
        nibabel.save(image, folder / f"sub{index:02d}.nii.gz")
        rows.append(
            f"sub{index:02d},sub{index:02d}.nii.gz,{('CN', 'AD')[index % 2]},{60 + index},{'MF'[index // 2 % 2]}"
        )
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    (folder / "preset.json").write_text(json.dumps(PRESET))
    return folder / "table.csv"


def folders(home: Path) -> dict[str, str]:
    """nnU-Net's variables for the folders below `home`."""
    return {name: str(home / name) for name in VARIABLES}


def start(
    command: Sequence[str],
    home: Path,
    log: Path,
    modules: Path | None = None,
    gate: tuple[int, int] | None = None,
) -> int:
    """Run a command, such as `["train", "301", ...]` for `adnext_train`, in a child.

    Args:
        command: module of `adnext_plugin.cli`, and its arguments.
        home: working directory, with nnU-Net's folders in it.
        log: file for what it prints.
        modules: file for the names of all modules that are imported at the end.
        gate: both ends of a pipe; the command begins when everybody else has closed the second.

    Returns:
        The child's process id.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        os.chdir(home)
        os.environ.update(folders(home))
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(output, stream)
        if gate is not None:
            os.close(gate[1])
            os.read(gate[0], 1)
        main = importlib.import_module(f"adnext_plugin.cli.{command[0]}").main
        code = main(list(command[1:]))
        if modules is not None:
            modules.write_text(json.dumps(sorted(sys.modules)))
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 70
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def end(child: int, log: Path, begun: float, *, was_killed: bool = False) -> Ended:
    """Wait for a child."""
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return Ended(
        code=code, text=log.read_text(errors="replace"), seconds=time.monotonic() - begun, was_killed=was_killed
    )


def run(command: Sequence[str], home: Path, log: Path, modules: Path | None = None) -> Ended:
    """Run a command to its end."""
    begun = time.monotonic()
    return end(start(command, home, log, modules), log, begun)


def run_and_kill(command: Sequence[str], home: Path, log: Path, number: int, after_seconds: float) -> Ended:
    """Run a command and send a signal to its process group after a while, if it is still there."""
    begun = time.monotonic()
    child = start(command, home, log)
    while (left := begun + after_seconds - time.monotonic()) > 0:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return end(child, log, begun)
        time.sleep(min(left, 0.005))
    try:
        os.killpg(child, number)
    except ProcessLookupError:  # it leads no group yet
        os.kill(child, number)
    return end(child, log, begun, was_killed=True)


def warm_up(names: Iterable[str]) -> None:
    """Import modules that commands have been seen to need; those that cannot be imported by name are passed over."""
    for name in names:
        if name not in sys.modules and not name.startswith(("__", "adnext_nnunet_hook")):
            with suppress(Exception):
                importlib.import_module(name)
