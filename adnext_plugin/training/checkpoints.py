"""Checkpoints on disk: whole after a kill at any moment, known when damaged, and those of earlier runs kept.

torch writes a zip archive. Its comment, which no reader of such archives minds, takes a seal: the SHA-256 of everything
before it. So file and checksum are one, whatever becomes of the file.
"""

import os
import shutil
import zipfile
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

import torch

from adnext_plugin.errors import WeightsError
from adnext_plugin.files import disk_full, replacing
from adnext_plugin.paths import METER_FOLDER
from adnext_plugin.run_folder import FoldFolder

SEAL = b"adnext-sha256:"
SEAL_BYTES = len(SEAL) + 64
END_BYTES = 22  # of an archive's last record, whose last two bytes say how long the comment after it is
BLOCK_BYTES = 2**20


def write_checkpoint(checkpoint: dict, path: Path, earlier: Path | None = None) -> None:
    """Write a checkpoint with its seal beside `path`, then put it in its place.

    Args:
        checkpoint: what to write.
        path: file to write.
        earlier: where to keep what has been in its place.

    Raises:
        PathsError: the disk is full; the earlier checkpoint is still whole.
    """
    with replacing(path) as temporary:
        try:
            with temporary.open("wb") as stream:  # given a path, torch writes the temporary name into the file
                torch.save(checkpoint, stream)
            _seal(temporary)
        except RuntimeError as error:
            # torch's writer reports a full disk as a RuntimeError without the system's error number
            if shutil.disk_usage(path.parent).free < sum(_tensor_bytes(checkpoint)):
                raise disk_full(path) from error
            raise
        _keep(path, earlier)


def copy_checkpoint(source: Path, path: Path, earlier: Path | None = None) -> None:
    """Write a checkpoint that is the same as another once more, as a file of its own: damage to one leaves the other.

    Args:
        source: a checkpoint that was just written.
        path: file to write.
        earlier: where to keep what has been in its place.

    Raises:
        PathsError: the disk is full; the earlier checkpoint is still whole.
    """
    with replacing(path) as temporary:
        shutil.copyfile(source, temporary)
        _keep(path, earlier)


def require_undamaged(path: Path) -> bool:
    """Make sure that a checkpoint is as it was written.

    Returns:
        Whether it could be told: earlier versions and other programs set no seal.

    Raises:
        WeightsError: it was cut short or altered.
    """
    with path.open("rb") as stream:
        is_archive = stream.read(4) == b"PK\x03\x04"
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - SEAL_BYTES))
        ending = stream.read()
        is_sealed = ending.startswith(SEAL) and len(ending) == SEAL_BYTES
        if not is_sealed:
            end = ending[-END_BYTES:]
            if is_archive and not (end.startswith(b"PK\x05\x06") and end.endswith(b"\0\0")):
                raise WeightsError(f"{path} is damaged: it was cut short or altered")
            return False
        stream.seek(0)
        if _sha256(stream, size - 64) != ending[-64:]:
            raise WeightsError(f"{path} is damaged: it is not what its checksum was made of")
    return True


def require_sound_archive(path: Path) -> None:
    """Make sure that a checkpoint without a seal holds what its archive's own checksums were made of.

    Raises:
        WeightsError: it does not.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            bad = archive.testzip()
    except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise WeightsError(f"{path} is damaged ({error})") from error
    if bad is not None:
        raise WeightsError(f"{path} is damaged: {bad} in it is not what its checksum was made of")


def set_earlier_run_aside(fold_folder: Path) -> Path | None:
    """Move what an earlier run left out of the way of a new one; its log stays.

    `--c` prefers `checkpoint_final.pth`: one left by an earlier run would be taken for this run's.

    Returns:
        The folder they are in now; None if there were none.
    """
    fold = FoldFolder(fold_folder)
    further = (fold.summary_file.parent, fold_folder / METER_FOLDER, fold.fitted_steps_file)
    results = [*fold.checkpoints, *(path for path in further if path.exists())]
    if not results:
        return None
    aside = fold_folder / f"earlier_run_{datetime.now():%Y%m%d_%H%M%S_%f}"
    aside.mkdir()
    # what says which run it is goes first: were this interrupted, the rest would not be taken for a run to continue
    about = [path for path in (fold.run_file, fold.trained_on_file, fold.pretraining_data_file) if path.is_file()]
    for path in [*about, *results]:
        path.rename(aside / path.name)
    return aside


def _keep(path: Path, earlier: Path | None) -> None:
    if earlier is not None and path.is_file():
        earlier.unlink(missing_ok=True)
        try:
            os.link(path, earlier)
        except OSError:  # a file system without hard links
            path.replace(earlier)


def _seal(archive: Path) -> None:
    with archive.open("r+b") as stream:
        size = stream.seek(-END_BYTES, os.SEEK_END) + END_BYTES
        if not stream.read(4) == b"PK\x05\x06":
            raise RuntimeError(f"torch wrote {archive} otherwise than as an archive without a comment")
        stream.seek(size - 2)
        stream.write(SEAL_BYTES.to_bytes(2, "little"))
        stream.write(SEAL)
        stream.seek(0)
        digest = _sha256(stream, size + len(SEAL))
        stream.write(digest)


def _sha256(stream: BinaryIO, length: int) -> bytes:
    """Of the next `length` bytes, in hexadecimal digits."""
    digest = sha256()
    while length > 0 and (block := stream.read(min(BLOCK_BYTES, length))):
        digest.update(block)
        length -= len(block)
    return digest.hexdigest().encode()


def _tensor_bytes(content: object) -> list[int]:
    if isinstance(content, torch.Tensor):
        return [content.nbytes]
    if isinstance(content, dict):
        return [size for value in content.values() for size in _tensor_bytes(value)]
    return []
