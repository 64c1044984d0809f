"""Writing checkpoints so that a kill at any moment leaves a whole one, and keeping those of earlier runs."""

import shutil
from datetime import datetime
from pathlib import Path

import torch

from adnext_plugin.files import disk_full, replacing
from adnext_plugin.paths import FITTED_STEPS_FILE, METER_FOLDER


def write_checkpoint(checkpoint: dict, path: Path) -> None:
    """Write a checkpoint beside `path`, then put it in its place.

    Raises:
        PathsError: the disk is full; the earlier checkpoint is still whole.
    """
    with replacing(path) as temporary:
        try:
            torch.save(checkpoint, temporary)
        except RuntimeError as error:
            # torch's writer reports a full disk as a RuntimeError without the system's error number
            if shutil.disk_usage(path.parent).free < sum(_tensor_bytes(checkpoint)):
                raise disk_full(path) from error
            raise


def set_earlier_run_aside(fold_folder: Path) -> Path | None:
    """Move checkpoints and predictions of an earlier run out of the way of a new one.

    `--c` prefers `checkpoint_final.pth`: one left by an earlier run would be taken for this run's.

    Returns:
        The folder they are in now; None if there were none.
    """
    names = ("checkpoint_*.pth", "validation", METER_FOLDER, FITTED_STEPS_FILE)
    found = [path for name in names for path in fold_folder.glob(name)]
    if not found:
        return None
    aside = fold_folder / f"earlier_run_{datetime.now():%Y%m%d_%H%M%S_%f}"
    aside.mkdir()
    for path in found:
        path.rename(aside / path.name)
    return aside


def _tensor_bytes(content: object) -> list[int]:
    if isinstance(content, torch.Tensor):
        return [content.nbytes]
    if isinstance(content, dict):
        return [size for value in content.values() for size in _tensor_bytes(value)]
    return []
