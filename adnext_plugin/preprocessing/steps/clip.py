"""Limiting intensities, so that one bright vessel sets no scale."""

from functools import partial
from typing import ClassVar

import numpy as np

from adnext_plugin.images import foreground
from adnext_plugin.preprocessing.step import Scan, Step
from adnext_plugin.records import record


@record
class ClipSettings:
    """Percentiles of the foreground."""

    percentiles: tuple[float, float] = (0.5, 99.5)


class Clip(Step):
    """Each channel by itself."""

    name: ClassVar[str] = "clip"
    version: ClassVar[int] = 1
    settings_type: ClassVar[type] = ClipSettings

    def apply(self, scan: Scan, settings: ClipSettings) -> Scan:
        """The scan within its percentiles."""
        return scan.changed(partial(clip_foreground, percentiles=settings.percentiles))

    def describe(self, settings: ClipSettings) -> str:
        """The percentiles."""
        low, high = settings.percentiles
        return f"intensities of the foreground are clipped to percentiles {low:g} and {high:g}"


def clip_foreground(volume_zyx: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """Limit foreground intensities to these percentiles of themselves."""
    mask = foreground(volume_zyx)
    low, high = np.percentile(volume_zyx[mask], percentiles)
    return np.where(mask, np.clip(volume_zyx, low, high), volume_zyx)
