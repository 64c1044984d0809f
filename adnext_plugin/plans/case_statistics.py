"""What the fingerprint needs to know of one scan; kept apart from nnU-Net, which worker processes need not load."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adnext_plugin.images import foreground, foreground_box, read_volume, reorient_to_ras


@dataclass(frozen=True, kw_only=True)
class CaseStatistics:
    """Geometry in z, y, x order after reorientation to RAS, and a sample of foreground intensities."""

    spacing_mm: tuple[float, float, float]
    shape_after_crop: tuple[int, int, int]
    relative_size_after_crop: float
    intensities: np.ndarray


def measure_case(image: Path, voxels: int) -> CaseStatistics:
    """Measure one scan.

    Args:
        image: NIfTI file.
        voxels: how many foreground intensities to draw, with replacement, always the same ones.

    Raises:
        ImageError: the scan is unusable.
    """
    volume = reorient_to_ras(read_volume(image))
    brain_zyx = volume.volume_zyx[foreground_box(volume.volume_zyx)]
    return CaseStatistics(
        spacing_mm=volume.spacing_mm,
        shape_after_crop=brain_zyx.shape,
        relative_size_after_crop=brain_zyx.size / volume.volume_zyx.size,
        intensities=np.random.default_rng(0).choice(brain_zyx[foreground(brain_zyx)], voxels),
    )
