"""What a viewer shows: cases, each a scan with what lies over it and what is said of it; and volumes for a browser."""

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import nibabel
import numpy as np

from adnext_plugin.images import Volume, read_volume

Kind = Literal["scan", "mask", "map"]
LARGEST_INTEGER = np.iinfo(np.int16).max


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A volume in the space of the scan. `name` is what it is called on the page."""

    name: str
    kind: Kind
    file: Path


@dataclass(frozen=True, kw_only=True)
class ViewedCase:
    """A case: the scan first of its layers; `said` are rows of label and text; `missing` says what there is not."""

    name: str
    layers: tuple[Layer, ...]
    said: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Viewed:
    """All cases, and on what page: a title, and sentences for the top of it."""

    title: str
    sentences: tuple[str, ...]
    cases: tuple[ViewedCase, ...]


def as_nifti(layer: Layer, level: int) -> bytes:
    """A volume as a .nii.gz file, just as this package reads it, whatever its file's format is.

    Args:
        layer: the volume.
        level: of compression, 1 to 9.

    Raises:
        ImageError: the file is missing, damaged or no scan.
    """
    volume = read_volume(layer.file)
    image = nibabel.Nifti1Image(_small(volume, layer.kind).T, volume.affine)
    image.set_sform(volume.affine, code=1)
    image.header.set_xyzt_units("mm")
    return gzip.compress(image.to_bytes(), compresslevel=level, mtime=0)


def _small(volume: Volume, kind: Kind) -> np.ndarray:
    """The voxels in a type that holds them without loss."""
    voxels = volume.volume_zyx
    if kind == "mask":
        return (voxels != 0).astype(np.uint8)
    if np.abs(voxels).max() <= LARGEST_INTEGER and (voxels == np.rint(voxels)).all():
        return voxels.astype(np.int16)
    return voxels
