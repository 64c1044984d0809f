"""Intensities in units of deep white matter, which disease changes least.

The mean and deviation of a z-score move with the share of fluid in the foreground, that is with atrophy itself.
"""

from dataclasses import replace
from typing import ClassVar

import numpy as np

from adnext_plugin.errors import SettingsError
from adnext_plugin.preprocessing.anatomy.template import GRID, mni152, resampled
from adnext_plugin.preprocessing.anatomy.tissues import white_matter_intensity
from adnext_plugin.preprocessing.step import NoSettings, Scan, Step


class WhiteMatter(Step):
    """Divides each image by its own; found where the template has white matter, so that the scan must be aligned."""

    name: ClassVar[str] = "white_matter"
    version: ClassVar[int] = 1
    after: ClassVar[str] = "alignment"

    def apply(self, scan: Scan, settings: NoSettings) -> Scan:
        """The scan with white matter at 1; notes what it was in the first image.

        Raises:
            ImageError: there is no brain where white matter should be.
            SettingsError: the plan does not align scans.
        """
        white = on_scan(mni152().white, scan, self.name)
        image_czyx, intensities = in_units_of_white_matter(scan, white)
        return replace(scan, image_czyx=image_czyx).noting(white_matter_intensity=intensities[0])

    def describe(self, settings: NoSettings) -> str:
        """The unit."""
        return "intensities in units of deep white matter"


def in_units_of_white_matter(scan: Scan, white: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """All channels, with images divided by their deep white matter, and what that was; 0 of an image that is missing.

    Args:
        scan: aligned.
        white: the template's probabilities on its voxels.

    Raises:
        ImageError: there is no brain where white matter should be.
    """
    image_czyx, intensities = scan.image_czyx.copy(), []
    for place in range(scan.images):
        is_there = place == 0 or image_czyx[place].any()
        intensities.append(white_matter_intensity(image_czyx[place], white) if is_there else 0.0)
        if is_there:
            image_czyx[place] /= np.float32(intensities[-1])
    return image_czyx, intensities


def on_scan(map_zyx: np.ndarray, scan: Scan, step: str) -> np.ndarray:
    """A map of the template on the voxels of an aligned scan, by linear interpolation.

    Args:
        map_zyx: on the template's grid of 2 mm.
        scan: with its placement.
        step: which asks, for the message.

    Raises:
        SettingsError: the scan was not aligned.
    """
    if scan.placement is None:
        raise SettingsError(
            f"step {step!r} needs to know where MNI152 space is: plan with --alignment affine, or rigid"
        )
    mni_from_voxel = np.linalg.inv(scan.placement.scan_from_space_mm) @ scan.affine
    return resampled(map_zyx.astype(np.float32), GRID, mni_from_voxel, scan.image_czyx.shape[1:])
