"""The one interpolation: position, spacing and fit to the network's input size."""

from dataclasses import replace
from typing import ClassVar, Literal

import numpy as np

from adnext_plugin.preprocessing.grid.geometry import Fitted, fit, fit_aligned
from adnext_plugin.preprocessing.grid.interpolation import Interpolation
from adnext_plugin.preprocessing.step import Scan, Step
from adnext_plugin.records import record


@record
class FitSettings:
    """The network's grid, z, y, x, and the way to it."""

    spacing_mm: tuple[float, float, float] = (1.75, 1.75, 1.75)
    input_size_voxels: tuple[int, int, int] = (128, 128, 128)
    fit: Literal["resize", "pad_crop"] = "pad_crop"
    interpolation: Interpolation = "linear"


class Fit(Step):
    """Takes each channel to where the scan's placement says; notes what is cut off, and where voxels lie."""

    name: ClassVar[str] = "fit"
    version: ClassVar[int] = 1
    settings_type: ClassVar[type] = FitSettings

    def apply(self, scan: Scan, settings: FitSettings) -> Scan:
        """The scan on the network's grid, with the affine of that grid in the scan's own space."""
        fitted = [_fit(scan, place, settings) for place in range(len(scan.image_czyx))]
        first = fitted[0]
        affine = scan.affine @ first.box_from_input
        image_czyx = np.stack([one.volume_zyx for one in fitted])
        return replace(scan, image_czyx=image_czyx, affine=affine, placement=None, modulated=()).noting(
            fit=settings.fit,
            resampled_shape_voxels=first.resampled_shape_voxels,
            share_of_foreground_cut_off=first.share_of_foreground_cut_off,
            input_affine=affine.tolist(),
        )

    def describe(self, settings: FitSettings) -> str:
        """Grid and way."""
        spacing, size = (
            " × ".join(f"{value:g}" for value in of) for of in (settings.spacing_mm, settings.input_size_voxels)
        )
        way = "padded or cropped to" if settings.fit == "pad_crop" else "stretched to"
        return f"{settings.interpolation} interpolation to voxels of {spacing} mm, {way} {size} voxels (z, y, x)"


def _fit(scan: Scan, place: int, settings: FitSettings) -> Fitted:
    volume_zyx = scan.image_czyx[place]
    if scan.placement is None:
        return fit(volume_zyx, scan.spacing_mm, settings)
    voxel_from_space_mm = np.linalg.inv(scan.affine) @ scan.placement.scan_from_space_mm
    # the first channel sets the grid of all, so that they stay on one
    return fit_aligned(
        volume_zyx,
        voxel_from_space_mm,
        scan.placement.centre_mm,
        settings,
        scan.image_czyx[0],
        scan.placement.warp,
        modulate=place in scan.modulated,
    )
