"""The images of a case, one file for each, as nnU-Net keeps them; they are read as channels of one grid."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import nibabel
import numpy as np

from adnext_plugin.errors import ImageError
from adnext_plugin.images import Volume, read_volume

MOST_APART = 0.1  # of a voxel's shortest edge: what rounding in a header can move a corner by


def channel_file(folder: Path, case: str, index: int = 0, ending: str = ".nii.gz") -> Path:
    """Where an image of a case lies, by its place among the channels."""
    return folder / f"{case}_{index:04d}{ending}"


def channel_files(folder: Path, case: str, channels: int) -> tuple[Path, ...]:
    """All images of a case, in their order."""
    return tuple(channel_file(folder, case, index) for index in range(channels))


def read_channels(images: Sequence[Path]) -> tuple[Volume, ...]:
    """Read the images of a case on the grid of the first.

    Those after the first may be 0 everywhere: a person has no such image.

    Raises:
        ImageError: one is unusable, or lies on another grid.
    """
    first = read_volume(images[0])
    others = []
    for path in images[1:]:
        other = read_volume(path, may_be_empty=True)
        turned = on_grid_of(first, other)
        if turned is None:
            raise other_grid(path, other, images[0], first)
        others.append(turned)
    return (first, *others)


def on_grid_of(first: Volume, other: Volume) -> Volume | None:
    """Another volume with its axes as those of the first, not interpolated; None where its voxels lie elsewhere."""
    axes = (nibabel.io_orientation(volume.affine) for volume in (other, first))
    turned = nibabel.Nifti1Image(other.volume_zyx.T, other.affine).as_reoriented(
        nibabel.orientations.ornt_transform(*axes)
    )
    if turned.shape != first.volume_zyx.T.shape or _apart_mm(turned.affine, first) > MOST_APART * min(first.spacing_mm):
        return None
    volume_zyx = np.ascontiguousarray(np.asarray(turned.dataobj).T)
    return Volume(volume_zyx=volume_zyx, affine=first.affine, doubts=other.doubts)


def other_grid(path: Path, volume: Volume, first_path: Path, first: Volume) -> ImageError:
    """The error for an image that lies on another grid than the first of its case."""
    return ImageError(
        f"{path} has {_in_words(volume)}, but {first_path} {_in_words(first)}; images of one person must lie on one "
        "grid: import them with --coregister, or bring them there yourself"
    )


def _in_words(volume: Volume) -> str:
    """Number, size and place of voxels."""
    shape = " × ".join(map(str, volume.volume_zyx.shape[::-1]))
    sizes = " × ".join(f"{size:.4g}" for size in volume.spacing_mm[::-1])
    middle = volume.affine @ [*((np.array(volume.volume_zyx.shape[::-1]) - 1) / 2), 1]
    place = ", ".join(f"{value:.1f}" for value in middle[:3])
    axes = "".join(nibabel.aff2axcodes(volume.affine))
    return f"{shape} voxels of {sizes} mm about ({place}), axes {axes}"


def _apart_mm(affine: np.ndarray, first: Volume) -> float:
    """How far a corner of a grid of the first's shape lies from that of the first, at most."""
    corners = np.array([[*corner, 1] for corner in product(*[(0, size - 1) for size in first.volume_zyx.shape[::-1]])])
    return float(np.linalg.norm((corners @ (affine - first.affine).T)[:, :3], axis=1).max())
