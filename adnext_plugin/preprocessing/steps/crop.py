"""Cutting away what is all background."""

from dataclasses import replace
from typing import ClassVar

import numpy as np

from adnext_plugin.images import foreground, foreground_box
from adnext_plugin.preprocessing.step import NoSettings, Scan, Step, refuse_emptied


class Crop(Step):
    """Keeps the box of the first channel's foreground, and notes where it was."""

    name: ClassVar[str] = "crop"
    version: ClassVar[int] = 1

    def apply(self, scan: Scan, settings: NoSettings) -> Scan:
        """The brain's box.

        Raises:
            ImageError: there is no foreground.
        """
        volume = scan.volume
        box = foreground_box(volume.volume_zyx)
        voxel_litres = float(np.prod(volume.spacing_mm)) / 1e6
        affine = scan.affine.copy()
        affine[:3, 3] = (scan.affine @ [*(part.start for part in reversed(box)), 1])[:3]
        cropped = replace(scan, image_czyx=scan.image_czyx[(slice(None), *box)], affine=affine)
        refuse_emptied(scan, cropped)
        return cropped.noting(
            brain_litres=int(np.count_nonzero(foreground(volume.volume_zyx[box]))) * voxel_litres,
            ras_shape_voxels=volume.volume_zyx.shape,
            ras_affine=volume.affine.tolist(),
            spacing_mm=volume.spacing_mm,
            foreground_box=[[part.start, part.stop] for part in box],
        )

    def describe(self, settings: NoSettings) -> str:
        """What is kept."""
        return "the box of the foreground is cut out"
