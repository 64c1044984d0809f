"""Gaussian smoothing of volumes in millimetres, on a grid that can just show the result, and its transpose."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from adnext_plugin.images import FWHM_OF_SIGMA

STEPS_PER_WIDTH = 2  # points in a full width at half maximum: a finer grid shows nothing more


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """A Gaussian of `fwhm_mm` full width at half maximum, of which every so manieth voxel along an axis is kept.

    With 0 nothing is smoothed, and with steps of 1 every voxel is kept.
    """

    fwhm_mm: float
    spacing_mm: tuple[float, ...]
    steps: tuple[int, ...]

    @classmethod
    def of(cls, fwhm_mm: float, spacing_mm: Sequence[float]) -> "Smoothing":
        """With the coarsest grid that still shows it: half the width apart."""
        finest_mm = fwhm_mm / STEPS_PER_WIDTH
        steps = tuple(max(1, round(finest_mm / edge)) for edge in spacing_mm)
        return cls(fwhm_mm=fwhm_mm, spacing_mm=tuple(spacing_mm), steps=steps)

    def __call__(self, volume_zyx: np.ndarray) -> np.ndarray:
        """A volume smoothed, float32; outside of it everything counts as 0."""
        return self._blurred(np.asarray(volume_zyx, np.float32))[self.kept]

    def spread(self, values_zyx: np.ndarray, shape_voxels: tuple[int, ...]) -> np.ndarray:
        """The transpose: `(spread(v) * x).sum() == (v * smoothing(x)).sum()` for any volume x of that shape.

        Args:
            values_zyx: one for every point of the coarse grid, float64.
            shape_voxels: of the fine one.
        """
        full = np.zeros(shape_voxels)
        full[self.kept] = values_zyx
        return self._blurred(full)

    @property
    def kept(self) -> tuple[slice, ...]:
        """The points of the coarse grid, as an index of the fine one."""
        return tuple(slice(step // 2, None, step) for step in self.steps)

    def _blurred(self, volume_zyx: np.ndarray) -> np.ndarray:
        if self.fwhm_mm == 0:
            return volume_zyx
        sigmas = [self.fwhm_mm / FWHM_OF_SIGMA / edge for edge in self.spacing_mm]
        # zeros beyond the border make the filter its own transpose
        return gaussian_filter(volume_zyx, sigmas, mode="constant", truncate=3)
