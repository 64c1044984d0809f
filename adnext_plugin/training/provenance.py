"""What made a model: versions of the software and the machine, written beside every checkpoint."""

import functools
import platform
import subprocess
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGE = Path(__file__).parents[1]
CPU_INFO = Path("/proc/cpuinfo")
NO_COMMIT = "unknown (installed from a package)"


def provenance(device: str | None = None) -> dict[str, str]:
    """Versions of what computes, the git commit where there is one, and the processor or GPU.

    Args:
        device: that computed, in words; None: whatever this machine would compute on by itself.
    """
    if device is None:
        device = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    packages = {name: version(name) for name in ("adnext_plugin", "nnunetv2", "torch", "monai", "numpy")}
    return {**packages, "python": platform.python_version(), "device": device, "commit": _commit()}


def device_in_words(device: torch.device) -> str:
    """A device and what it is: "cuda:0 NVIDIA H100 80GB HBM3", or "cpu AMD EPYC 9454"."""
    if device.type != "cuda":
        return f"{device.type} {_processor()}"
    number = torch.cuda.current_device() if device.index is None else device.index
    return f"cuda:{number} {torch.cuda.get_device_name(number)}"


def commit_of(package: Path) -> str:
    """The commit of a package that lies at the top of a git repository of its own.

    An environment often lies inside of somebody's repository, whose commit says nothing of the package, and is not ours
    to tell.
    """
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--show-toplevel", "HEAD"], cwd=package, capture_output=True, text=True, check=True
        )
        tracked = ["git", "ls-files", "--error-unmatch", "__init__.py"]
        subprocess.run(tracked, cwd=package, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return NO_COMMIT
    top, commit = found.stdout.splitlines()
    return commit if Path(top).resolve() == package.resolve().parent else NO_COMMIT


@functools.cache
def _commit() -> str:
    return commit_of(PACKAGE)


@functools.cache
def _processor() -> str:
    """Its name, or where the system tells none, its kind."""
    with suppress(OSError):  # Linux, where Python itself knows no name
        names = [line.partition(":")[2] for line in CPU_INFO.read_text().splitlines() if line.startswith("model name")]
        if names:
            return " ".join(names[0].split())
    return platform.processor() or platform.machine()
