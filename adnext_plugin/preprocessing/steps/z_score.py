"""Bringing intensities of all scans to one scale."""

from typing import ClassVar

import numpy as np

from adnext_plugin.errors import ImageError
from adnext_plugin.images import foreground
from adnext_plugin.preprocessing.step import NoSettings, Scan, Step


class ZScore(Step):
    """Each channel by itself."""

    name: ClassVar[str] = "z_score"
    version: ClassVar[int] = 1

    def apply(self, scan: Scan, settings: NoSettings) -> Scan:
        """The scan with a foreground of mean 0 and standard deviation 1.

        Raises:
            ImageError: the foreground is constant.
        """
        return scan.changed(z_score_foreground)

    def describe(self, settings: NoSettings) -> str:
        """Of what."""
        return "z-score of the foreground"


def z_score_foreground(volume_zyx: np.ndarray) -> np.ndarray:
    """Foreground to mean 0 and standard deviation 1; the background becomes 0. Float32.

    Raises:
        ImageError: the foreground is constant.
    """
    mask = foreground(volume_zyx)
    inside = volume_zyx[mask].astype(np.float64)
    deviation = inside.std()
    if not deviation > 0:
        raise ImageError("the foreground is constant; is this a mask instead of a scan?")
    scored = np.zeros(volume_zyx.shape, dtype=np.float32)
    scored[mask] = (inside - inside.mean()) / deviation
    return scored
