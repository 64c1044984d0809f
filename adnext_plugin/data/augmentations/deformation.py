"""Where voxels are looked up when a head is deformed, turned and scaled at once.

Source: Munk et al. 2024 (AMAES), Table 1, and what is known of its code.
"""

from collections.abc import Sequence

import numpy as np
from scipy.linalg import toeplitz

TRUNCATE = 4.0  # standard deviations, as SciPy's Gaussian filter


def smoothed(noise_zyx: np.ndarray, sigma_voxels: float) -> np.ndarray:
    """A Gaussian of the noise, zeros outside: what SciPy's filter gives, as one product of matrices along each axis."""
    for axis in range(3):
        kernel = _gaussian(noise_zyx.shape[axis], sigma_voxels)
        noise_zyx = np.moveaxis(np.tensordot(kernel, noise_zyx, axes=(1, axis)), 0, axis)
    return noise_zyx


def rotation(angles_xyz: Sequence[float]) -> np.ndarray:
    """The rotation about x, then y, then z, for positions (z, y, x); radians."""
    about_x, about_y, about_z = (_turn(axis, angle) for axis, angle in zip((2, 1, 0), angles_xyz, strict=True))
    return about_z @ about_y @ about_x


def looked_up_at(
    size_voxels: Sequence[int], *, offsets: np.ndarray | None, turn: np.ndarray | None, scale: float
) -> np.ndarray:
    """Positions (3, Z, Y, X) in the image for every voxel of the result, about the common centre.

    Args:
        size_voxels: of image and result.
        offsets: (3, Z, Y, X) voxels, added first; None: none.
        turn: (3, 3), after that; None: none.
        scale: of positions, last, so that 0.9 makes things larger.
    """
    centre = (np.asarray(size_voxels, dtype=np.float64) - 1) / 2
    grid = np.stack(np.meshgrid(*(np.arange(length) for length in size_voxels), indexing="ij")).astype(np.float64)
    grid -= centre[:, None, None, None]
    if offsets is not None:
        grid += offsets
    if turn is not None:
        grid = np.tensordot(turn, grid, axes=(1, 0))
    return grid * scale + centre[:, None, None, None]


def _gaussian(length: int, sigma_voxels: float) -> np.ndarray:
    reach = int(TRUNCATE * sigma_voxels + 0.5)
    weights = np.exp(-0.5 * (np.arange(max(length, reach + 1)) / sigma_voxels) ** 2)
    weights[reach + 1 :] = 0
    return toeplitz(weights[:length]) / (2 * weights.sum() - weights[0])


def _turn(axis: int, angle: float) -> np.ndarray:
    first, second = (one for one in range(3) if one != axis)
    matrix = np.eye(3)
    matrix[first, first] = matrix[second, second] = np.cos(angle)
    matrix[first, second], matrix[second, first] = -np.sin(angle), np.sin(angle)
    return matrix
