"""Prepared volumes on disk: written once, read with a check that not one bit has changed since.

`{case}.b2nd` is the image (C, Z, Y, X) in float16, compressed. Its SHA-256 stands in `{case}.pkl`, which carries one of
its own. The file is hashed while it is read, which takes a fifth of the time of decompressing it. Cases prepared before
there were hashes, and those of nnU-Net's own preprocessing, are read as they are and only looked at for values that are
no numbers.
"""

from hashlib import sha256
from pathlib import Path

import blosc2
import numpy as np

from adnext_plugin.case_properties import CaseProperties, read_case_properties
from adnext_plugin.errors import ImageError, PathsError
from adnext_plugin.files import replacing

REMEDY = "run adnext_plan_and_preprocess, which prepares it again"
VOLUME_SUFFIX = ".b2nd"
COMPRESSION = {"codec": blosc2.Codec.LZ4HC, "clevel": 5, "nthreads": 1}


def volume_file(folder: Path, case: str) -> Path:
    """Where the volume of a case lies."""
    return folder / f"{case}{VOLUME_SUFFIX}"


def properties_file(folder: Path, case: str) -> Path:
    """Where it is noted how the case was prepared."""
    return folder / f"{case}.pkl"


def write_volume(image_czyx: np.ndarray, path: Path, beside: Path) -> str:
    """Store a volume; its SHA-256 as a file, for the case's properties.

    Args:
        image_czyx: float16.
        path: of the volume.
        beside: folder for the file until it is complete.

    Raises:
        ImageError: a value is not finite.
        PathsError: the disk is full.
    """
    if not np.isfinite(image_czyx).all():
        raise ImageError("preparing it gives values that are not finite; look at the scan, or exclude it")
    # blosc2's own writing to a file hides why it failed, and keeps the file open when it does
    content = blosc2.asarray(image_czyx, cparams=COMPRESSION).to_cframe()
    with replacing(path, beside=beside) as temporary:
        temporary.write_bytes(content)
    return sha256(content).hexdigest()


def read_volume_of(path: Path, properties: CaseProperties | None) -> np.ndarray:
    """The stored image, as it was written.

    Args:
        path: of the volume.
        properties: of the case; None for one that was not prepared by us.

    Raises:
        PathsError: the file is missing, not what was written, or holds values that are not finite.
    """
    if path.exists() and not path.is_file():  # a pipe would never end
        raise PathsError(f"{path} is not a file; {REMEDY}")
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise PathsError(f"{path} does not exist; {REMEDY}") from error
    except OSError as error:
        raise PathsError(f"{path} cannot be read: {error.strerror}; {REMEDY}") from error
    digest = None if properties is None else properties.volume_sha256
    if digest is not None and sha256(content).hexdigest() != digest:
        raise PathsError(f"{path} is damaged: it is not what was written (its SHA-256 is another); {REMEDY}")
    try:
        image_czyx = blosc2.ndarray_from_cframe(content)[:]
    except (RuntimeError, ValueError, MemoryError, TypeError) as error:
        raise PathsError(f"{path} is damaged ({error}); {REMEDY}") from error
    if digest is None and not np.isfinite(image_czyx).all():
        raise PathsError(f"{path} holds values that are not finite; {REMEDY}")
    return image_czyx


def is_intact(path: Path, properties: CaseProperties) -> bool:
    """Whether the volume can be read as it was written, by a reader that takes no notice of why not."""
    if not path.is_file():
        return False
    if properties.volume_sha256 is not None:  # no need to decompress it
        try:
            return sha256(path.read_bytes()).hexdigest() == properties.volume_sha256
        except OSError:
            return False
    try:
        read_volume_of(path, properties)
    except PathsError:
        return False
    return True


def read_case(folder: Path, case: str) -> tuple[np.ndarray, CaseProperties]:
    """Volume and properties of a case that we have prepared.

    Raises:
        PathsError: one of them is missing or damaged.
    """
    properties = read_case_properties(properties_file(folder, case))
    return read_volume_of(volume_file(folder, case), properties), properties
