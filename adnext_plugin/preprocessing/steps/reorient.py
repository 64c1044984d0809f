"""RAS orientation: axes are flipped and swapped, no voxel is interpolated."""

from dataclasses import replace
from typing import ClassVar

import numpy as np

from adnext_plugin.images import reorient_to_ras
from adnext_plugin.preprocessing.step import NoSettings, Scan, Step


class Reorient(Step):
    """Lets z, y, x run to superior, anterior, right."""

    name: ClassVar[str] = "reorient"
    version: ClassVar[int] = 1

    def apply(self, scan: Scan, settings: NoSettings) -> Scan:
        """The turned scan."""
        turned = [reorient_to_ras(scan.with_voxels(volume_zyx)) for volume_zyx in scan.image_czyx]
        return replace(scan, image_czyx=np.stack([volume.volume_zyx for volume in turned]), affine=turned[0].affine)

    def describe(self, settings: NoSettings) -> str:
        """The orientation."""
        return "RAS orientation"
