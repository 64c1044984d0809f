"""Removing the slow change of brightness across a scan that the coils leave."""

from typing import ClassVar

import numpy as np

from adnext_plugin.preprocessing.step import Scan, Step
from adnext_plugin.records import record


@record
class BiasCorrectionSettings:
    """Of N4: how much coarser the grid of the estimate is; iterations at most, per level of control points."""

    shrink_factor: int = 4
    iterations: tuple[int, ...] = (50, 50, 50, 50)


class BiasCorrection(Step):
    """N4 (`preprocessing/bias_field.py`), each channel by itself."""

    name: ClassVar[str] = "bias_correction"
    version: ClassVar[int] = 1
    settings_type: ClassVar[type] = BiasCorrectionSettings

    def apply(self, scan: Scan, settings: BiasCorrectionSettings) -> Scan:
        """The scan divided by its bias field."""
        from adnext_plugin.preprocessing.bias_field import correct_bias_field

        def corrected(volume_zyx: np.ndarray) -> np.ndarray:
            volume = scan.with_voxels(volume_zyx)
            return correct_bias_field(volume, settings.shrink_factor, settings.iterations).volume_zyx

        return scan.changed(corrected)

    def describe(self, settings: BiasCorrectionSettings) -> str:
        """The method."""
        return "bias-field correction by N4"
