"""What blurs, sharpens or resamples along one axis, as a matrix (Z, Z): one product does it, on any device.

Matrices are made on the device from numbers alone, so that nothing is copied to it; those that SciPy must make depend
on lengths only, and are kept.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import spline_filter1d, zoom

ERF_TRUNCATE = 4.0  # standard deviations, MONAI's and SciPy's alike


def along(image_czyx: torch.Tensor, matrix: torch.Tensor, axis: int) -> torch.Tensor:
    """An image (C, Z, Y, X) with a matrix applied along one of its spatial axes, 0 to 2, in full float32."""
    moved = image_czyx.movedim(axis + 1, -1)
    with _full_precision():
        return (moved @ matrix.T.to(image_czyx.dtype)).movedim(-1, axis + 1)


def blur_of_monai(length: int, sigma_voxels: float, device: torch.device) -> torch.Tensor:
    """A Gaussian integrated over voxels, zeros outside: `monai.networks.layers.GaussianFilter`, approx "erf"."""
    tail = int(max(sigma_voxels * ERF_TRUNCATE, 0.5) + 0.5)
    distance = _distances(length, device)
    scale = 0.70710678 / abs(sigma_voxels) if sigma_voxels else float("inf")
    weights = 0.5 * (torch.erf(scale * (distance + 0.5)) - torch.erf(scale * (distance - 0.5)))
    return torch.where(distance.abs() <= tail, weights.clamp(min=0), 0.0).float()


def blur_of_scipy(length: int, sigma_voxels: float, device: torch.device) -> torch.Tensor:
    """A Gaussian whose weights add up to 1, images mirrored at their ends: `scipy.ndimage.gaussian_filter1d`."""
    return _mirrored_blur(length, sigma_voxels, int(ERF_TRUNCATE * sigma_voxels + 0.5), device, ends_twice=True)


def blur_of_reflected(length: int, sigma_voxels: float, reach: int, device: torch.device) -> torch.Tensor:
    """A Gaussian of some reach whose weights add up to 1, images mirrored about their outermost voxels."""
    return _mirrored_blur(length, sigma_voxels, reach, device, ends_twice=False)


def _mirrored_blur(
    length: int, sigma_voxels: float, reach: int, device: torch.device, *, ends_twice: bool
) -> torch.Tensor:
    if reach == 0:
        return torch.eye(length, device=device)
    place = torch.arange(length, device=device, dtype=torch.float64)
    period = 2 * length if ends_twice else 2 * (length - 1)
    matrix = torch.zeros(length, length, device=device, dtype=torch.float64)
    total = 0.0
    for offset in range(-reach, reach + 1):
        weight = float(np.exp(-0.5 * (offset / sigma_voxels) ** 2))
        total += weight
        found = torch.remainder(place + offset, period)
        source = torch.minimum(found, period - ends_twice - found)
        matrix += weight * (source[:, None] == place[None, :])
    return (matrix / total).float()


def blur_of_noise(length: int, sigma_voxels: float, device: torch.device) -> torch.Tensor:
    """A Gaussian whose weights add up to 1, zeros outside: `augmentations.deformation.smoothed`."""
    reach = int(ERF_TRUNCATE * sigma_voxels + 0.5)
    offsets = torch.arange(reach + 1, device=device, dtype=torch.float64)
    weights = torch.exp(-0.5 * (offsets / sigma_voxels) ** 2)
    distance = _distances(length, device).abs()
    found = torch.where(distance <= reach, torch.exp(-0.5 * (distance / sigma_voxels) ** 2), 0.0)
    return (found / (2 * weights.sum() - weights[0])).float()


@lru_cache(maxsize=64)
def spline_coefficients(length: int, device: torch.device) -> torch.Tensor:
    """From voxels to coefficients of cubic B-splines, as `scipy.ndimage.map_coordinates` takes them."""
    return torch.from_numpy(spline_filter1d(np.eye(length), order=3, axis=0, mode="constant")).float().to(device)


@lru_cache(maxsize=512)
def low_resolution(length: int, small: int, device: torch.device) -> torch.Tensor:
    """Down to `small` voxels by the nearest, and up again by cubic splines: `skimage.transform.resize` twice."""
    down = _zoomed(np.eye(length), small, order=0)
    return torch.from_numpy(_zoomed(down, length, order=3)).float().to(device)


def _zoomed(columns: np.ndarray, length: int, order: int) -> np.ndarray:
    factors = (length / len(columns), 1)
    return zoom(columns, factors, order=order, mode="nearest", grid_mode=True)


def _distances(length: int, device: torch.device) -> torch.Tensor:
    place = torch.arange(length, device=device, dtype=torch.float64)
    return place[:, None] - place[None, :]


@contextmanager
def _full_precision() -> Iterator[None]:
    """Whatever the network computes in, images are not rounded to ten bits."""
    products = torch.backends.cuda.matmul
    # PyTorch before 2.9 has no other name
    name, exact = ("fp32_precision", "ieee") if hasattr(products, "fp32_precision") else ("allow_tf32", False)
    before = getattr(products, name)
    setattr(products, name, exact)
    try:
        yield
    finally:
        setattr(products, name, before)
