"""What made a model: versions of the software and the machine, written beside every checkpoint."""

import functools
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

PACKAGE = Path(__file__).parents[1]
NO_COMMIT = "unknown (installed from a package)"


@functools.cache
def provenance() -> dict[str, str]:
    """Versions of what computes, the git commit where there is one, and the processor or GPU."""
    packages = {name: version(name) for name in ("adnext_plugin", "nnunetv2", "torch", "monai", "numpy")}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {**packages, "python": platform.python_version(), "device": device, "commit": commit_of(PACKAGE)}


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
