"""The one interpolation: position, spacing and fit to the network's input size."""

from dataclasses import replace
from typing import ClassVar

import numpy as np

from adnext_plugin.choices import FitWay, Interpolation
from adnext_plugin.preprocessing.grid.geometry import fit, fit_aligned
from adnext_plugin.preprocessing.step import Scan, Step
from adnext_plugin.records import record


@record
class FitSettings:
    """The network's grid, z, y, x, and the way to it."""

    spacing_mm: tuple[float, float, float] = (1.75, 1.75, 1.75)
    input_size_voxels: tuple[int, int, int] = (128, 128, 128)
    fit: FitWay = "pad_crop"
    interpolation: Interpolation = "linear"


class Fit(Step):
    """Takes all channels to where the scan's placement says; notes what is cut off, and where voxels lie."""

    name: ClassVar[str] = "fit"
    version: ClassVar[int] = 1
    settings_type: ClassVar[type] = FitSettings

    def apply(self, scan: Scan, settings: FitSettings) -> Scan:
        """The scan on the network's grid, with the affine of that grid in the scan's own space."""
        if scan.placement is None:
            fitted = fit(scan.image_czyx, scan.spacing_mm, settings)
        else:
            voxel_from_space_mm = np.linalg.inv(scan.affine) @ scan.placement.scan_from_space_mm
            centre_mm, warp = scan.placement.centre_mm, scan.placement.warp
            fitted = fit_aligned(scan.image_czyx, voxel_from_space_mm, centre_mm, settings, warp, scan.modulated)
        affine = scan.affine @ fitted.box_from_input
        return replace(scan, image_czyx=fitted.image_czyx, affine=affine, placement=None, modulated=()).noting(
            fit=settings.fit,
            resampled_shape_voxels=fitted.resampled_shape_voxels,
            share_of_foreground_cut_off=fitted.share_of_foreground_cut_off,
            input_affine=affine.tolist(),
        )

    def describe(self, settings: FitSettings) -> str:
        """Grid and way."""
        spacing, size = (
            " × ".join(f"{value:g}" for value in of) for of in (settings.spacing_mm, settings.input_size_voxels)
        )
        way = "padded or cropped to" if settings.fit == "pad_crop" else "stretched to"
        return f"{settings.interpolation} interpolation to voxels of {spacing} mm, {way} {size} voxels (z, y, x)"
