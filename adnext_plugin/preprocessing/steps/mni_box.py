"""A box of MNI152 space as the network's input, the same in every scan."""

from dataclasses import replace
from typing import ClassVar

import numpy as np

from adnext_plugin.errors import SettingsError
from adnext_plugin.preprocessing.step import Scan, Step
from adnext_plugin.records import record


@record
class MNIBoxSettings:
    """Middle of the box, x, y, z in MNI millimetres; the plan's spacing and input size say how large it is."""

    centre_mm: tuple[float, float, float] = (0.0, -18.0, -16.0)

    def __post_init__(self) -> None:
        if not all(abs(place) < 150 for place in self.centre_mm):
            raise SettingsError(f"step mni_box: centre_mm must lie within the head, got {list(self.centre_mm)}")


class MNIBox(Step):
    """Moves the middle of the grid; by default to between the medial temporal lobes."""

    name: ClassVar[str] = "mni_box"
    version: ClassVar[int] = 1
    after: ClassVar[str] = "alignment"
    settings_type: ClassVar[type] = MNIBoxSettings

    def apply(self, scan: Scan, settings: MNIBoxSettings) -> Scan:
        """The scan with another placement; voxels are left alone.

        Raises:
            SettingsError: the plan does not align scans.
        """
        if scan.placement is None:
            raise SettingsError("step 'mni_box' needs to know where MNI152 space is: plan with --alignment affine")
        return replace(scan, placement=replace(scan.placement, centre_mm=np.array(settings.centre_mm)))

    def describe(self, settings: MNIBoxSettings) -> str:
        """Where."""
        return (
            "a box around " + ", ".join(f"{place:g}" for place in settings.centre_mm) + " mm of MNI152 space (x, y, z)"
        )
