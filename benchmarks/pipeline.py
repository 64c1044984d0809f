"""What the benchmarks that go through the commands a user types have in common."""

import os
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path

from adnext_plugin.paths import PLANS_NAME, run_name


def use_folders(work: Path) -> None:
    """Make nnU-Net's three folders in a folder of work, and name them in the environment."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (work / name).mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(work / name)


def run_command(*words: str, accepted: tuple[int, ...] = (0,)) -> float:
    """Run one of the project's commands, end the benchmark where it fails, and return the seconds it took."""
    started = time.monotonic()
    if (
        subprocess.run([str(Path(sys.executable).parent / words[0]), *words[1:]], check=False).returncode
        not in accepted
    ):
        sys.exit(f"failed: {' '.join(words)}")
    return time.monotonic() - started


def run_here(*words: str, accepted: tuple[int, ...] = (0,)) -> float:
    """The same within this process, which saves the seconds that a new one needs to begin."""
    started = time.monotonic()
    (command,) = entry_points(group="console_scripts", name=words[0])
    if command.load()(list(words[1:])) not in accepted:
        sys.exit(f"failed: {' '.join(words)}")
    return time.monotonic() - started


def set_options(settings: Iterable[str]) -> list[str]:
    """KEY=VALUE texts as options of a training command."""
    return [word for setting in settings for word in ("--set", setting)]


def dataset_folder(number: int, name: str) -> str:
    """Name of a dataset's folder."""
    return f"Dataset{number}_{name}"


def run_of(trainer: str) -> str:
    """Name of a trainer's run in its dataset's folder of results."""
    return run_name(trainer, PLANS_NAME, "3d_fullres")
