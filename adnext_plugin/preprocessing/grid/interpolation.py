"""Axis-aligned resampling as three matrix products, one per axis. Arrays are z, y, x.

Smoothing, interpolation and the choice of places are all linear in the voxels and act on each axis by itself, so that
together they are one matrix per axis, of a few thousand numbers. Products of matrices are what processors are best at:
a cubic spline costs no more than linear interpolation.
"""

import functools
from collections.abc import Sequence

import numpy as np
from scipy.ndimage import gaussian_filter1d
from threadpoolctl import ThreadpoolController

from adnext_plugin.choices import Interpolation

DEGREES = {"linear": 1, "cubic": 3}


def sample(
    volumes_zyx: np.ndarray,
    shape_voxels: Sequence[int],
    step: np.ndarray,
    detail: np.ndarray,
    interpolation: Interpolation,
) -> np.ndarray:
    """Values on a grid about the centre of a volume, or of several.

    Args:
        volumes_zyx: (..., Z, Y, X), floating point; beyond its edge counts the nearest voxel.
        shape_voxels: of the result, z, y, x.
        step: between the grid's points, in voxels of the volume, z, y, x.
        detail: length in voxels of the finest detail wanted; a Gaussian removes what is finer.
        interpolation: linear, or by the cubic spline through all voxels. The spline overshoots beside sharp edges;
            where linear interpolation finds nothing but 0, so does it.

    Returns:
        Of the volumes' type.
    """
    geometry = list(zip(volumes_zyx.shape[-3:], shape_voxels, step, detail, strict=True))
    sampled_zyx = _multiply(volumes_zyx, [axis_weights(*axis, DEGREES[interpolation]) for axis in geometry])
    if interpolation == "linear":
        return sampled_zyx
    support_zyx = (volumes_zyx != 0).astype(volumes_zyx.dtype)
    inside_zyx = _multiply(support_zyx, [axis_weights(*axis, DEGREES["linear"]) for axis in geometry])
    return np.where(inside_zyx > 0, sampled_zyx, 0)


def axis_weights(size: int, count: int, step: float, detail: float, degree: int) -> np.ndarray:
    """The matrix that samples one axis.

    Args:
        size: voxels of the axis.
        count: points wanted, about its centre.
        step: between them, voxels.
        detail: as in `sample`; where it is above 1 a Gaussian comes first (`blur_voxels`).
        degree: of the spline, odd.

    Returns:
        (count, size); rows add up to 1.
    """
    from scipy.interpolate import make_interp_spline  # loads half of SciPy, which prepared scans do without

    places = (size - 1) / 2 + step * (np.arange(count) - (count - 1) / 2)
    voxels = np.eye(size)
    if detail > 1:
        voxels = gaussian_filter1d(voxels, blur_voxels(detail, degree), axis=0, mode="nearest")
    if size == 1:
        return np.repeat(voxels, count, axis=0)
    # an axis of two or three voxels has no cubic spline
    spline = make_interp_spline(np.arange(size), np.eye(size), k=degree if size > degree else 1)
    return spline(np.clip(places, 0, size - 1)) @ voxels


def blur_voxels(detail: np.ndarray | float, degree: int) -> np.ndarray | float:
    """Standard deviation of the Gaussian that comes before a spline, in voxels.

    With the cubic spline, which is sharp, that by which the mean over a voxel of `detail` is wider than the mean over a
    voxel of the scan: a voxel as long as d has variance d² / 12. Linear interpolation smooths as well, so that less is
    left to do: (detail - 1) / 2, scikit-image's rule.
    """
    excess = np.maximum(detail, 1) - 1
    return excess / 2 if degree == DEGREES["linear"] else np.sqrt(excess * (excess + 2) / 12)


def _multiply(volumes_zyx: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
    z, y, x = (matrix.astype(volumes_zyx.dtype) for matrix in weights)
    *others, size_z, size_y, size_x = volumes_zyx.shape
    # with one thread: cases run side by side already, and repeated runs must agree to the bit
    with _threads().limit(limits=1):
        along_z = z @ volumes_zyx.reshape(*others, size_z, size_y * size_x)
        return (y @ along_z.reshape(*others, len(z), size_y, size_x)) @ x.T


@functools.cache
def _threads() -> ThreadpoolController:
    return ThreadpoolController()
