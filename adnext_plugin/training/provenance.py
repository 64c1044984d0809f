"""What made a model: versions of the software and the machine, written beside every checkpoint."""

import functools
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch


@functools.cache
def provenance() -> dict[str, str]:
    """Versions of what computes, the git commit where there is one, and the processor or GPU."""
    packages = {name: version(name) for name in ("adnext_plugin", "nnunetv2", "torch", "monai", "numpy")}
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or platform.machine()
    return {**packages, "python": platform.python_version(), "device": device, "commit": _commit()}


def _commit() -> str:
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown (installed from a package)"
    return found.stdout.strip()
