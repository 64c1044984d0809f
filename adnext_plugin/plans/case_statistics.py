"""What the fingerprint needs to know of one scan; kept apart from nnU-Net, which worker processes need not load."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adnext_plugin.channel_files import read_channels
from adnext_plugin.images import foreground, foreground_box, reorient_to_ras


@dataclass(frozen=True, kw_only=True)
class CaseStatistics:
    """Geometry of the first image in z, y, x order after reorientation to RAS, and samples of foreground intensities.

    `intensities` (C, N): of each image, NaN of one that is missing.
    """

    spacing_mm: tuple[float, float, float]
    shape_after_crop: tuple[int, int, int]
    relative_size_after_crop: float
    intensities: np.ndarray


def measure_case(images: Sequence[Path], voxels: int) -> CaseStatistics:
    """Measure one scan.

    Args:
        images: NIfTI files, one for each channel, of which the first shows where the brain is.
        voxels: how many foreground intensities to draw, with replacement, always the same ones.

    Raises:
        ImageError: the scan is unusable.
    """
    volume, *others = (reorient_to_ras(read) for read in read_channels(images))
    box = foreground_box(volume.volume_zyx)
    brain_zyx = volume.volume_zyx[box]
    return CaseStatistics(
        spacing_mm=volume.spacing_mm,
        shape_after_crop=brain_zyx.shape,
        relative_size_after_crop=brain_zyx.size / volume.volume_zyx.size,
        intensities=np.stack([_sample(one.volume_zyx[box], voxels) for one in (volume, *others)]),
    )


def _sample(volume_zyx: np.ndarray, voxels: int) -> np.ndarray:
    inside = volume_zyx[foreground(volume_zyx)]
    return np.random.default_rng(0).choice(inside, voxels) if inside.size else np.full(voxels, np.nan, np.float32)
