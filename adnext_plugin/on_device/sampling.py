"""Voxels looked up at positions between voxels."""

import itertools
from collections.abc import Sequence

import torch
from torch.nn import functional as F

from adnext_plugin.on_device.linear import along, spline_coefficients

Positions = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # z, y and x in voxels, each (Z, Y, X)


def centred_grid(size_voxels: Sequence[int], device: torch.device) -> Positions:
    """Positions of voxels relative to the common centre, each (Z, Y, X) by broadcasting."""
    z, y, x = (torch.arange(length, device=device, dtype=torch.float32) - (length - 1) / 2 for length in size_voxels)
    return z[:, None, None], y[None, :, None], x[None, None, :]


def transformed(positions: Positions, matrix: Sequence[Sequence[float]]) -> Positions:
    """Positions under a matrix of 3 rows and 3 columns, or 4 with what is added; its numbers are not copied as data."""
    found = []
    for row in matrix:
        moved = row[0] * positions[0] + row[1] * positions[1] + row[2] * positions[2]
        found.append(moved + row[3] if len(row) > 3 else moved)
    z, y, x = found
    return z, y, x


def linear(image_czyx: torch.Tensor, positions: Positions) -> torch.Tensor:
    """Trilinear, zeros outside. Positions are relative to the centre."""
    size = image_czyx.shape[1:]
    # of positions from -1 to 1 between the centres of the outermost voxels, x first
    unit = [2 * place / max(length - 1, 1) for place, length in zip(positions, size, strict=True)]
    grid = torch.stack([place.expand(size) for place in reversed(unit)], dim=-1)
    return F.grid_sample(image_czyx[None], grid[None], padding_mode="zeros", align_corners=True)[0]


def nearest(volume_zyx: torch.Tensor, positions: Positions, outside: torch.Tensor) -> torch.Tensor:
    """The nearest voxel; `outside`, a scalar, beyond the outermost voxels' centres. Positions count from 0."""
    size = volume_zyx.shape
    places = [(place + 0.5).floor().clamp(0, length - 1).long() for place, length in zip(positions, size, strict=True)]
    found = volume_zyx.flatten()[(places[0] * size[1] + places[1]) * size[2] + places[2]]
    return torch.where(_is_inside(positions, size), found, outside)


def cubic(volume_zyx: torch.Tensor, positions: Positions, outside: torch.Tensor) -> torch.Tensor:
    """By cubic B-splines, as `scipy.ndimage.map_coordinates` of order 3; the rest as in `nearest`."""
    size, device = volume_zyx.shape, volume_zyx.device
    coefficients = volume_zyx[None]
    for axis, length in enumerate(size):
        coefficients = along(coefficients, spline_coefficients(length, device), axis)
    flat = coefficients.flatten()
    taps = [_taps(place, length) for place, length in zip(positions, size, strict=True)]
    total = torch.zeros(torch.broadcast_shapes(*(place.shape for place in positions)), device=device)
    for (z, of_z), (y, of_y), (x, of_x) in itertools.product(*taps):
        total += flat[(z * size[1] + y) * size[2] + x] * (of_z * of_y * of_x)
    return torch.where(_is_inside(positions, size), total, outside)


def _taps(place: torch.Tensor, length: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Indices and weights of the four coefficients around a position; beyond the ends the image is mirrored."""
    first = place.floor()
    t = place - first
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    found = []
    for offset, weight in zip((-1, 0, 1, 2), weights, strict=True):
        index = (first + offset).clamp(-1, length).long().abs()
        mirrored = torch.where(index > length - 1, 2 * (length - 1) - index, index).clamp(min=0)
        found.append((mirrored, weight / 6))
    return found


def _is_inside(positions: Positions, size: Sequence[int]) -> torch.Tensor:
    z, y, x = ((place >= 0) & (place <= length - 1) for place, length in zip(positions, size, strict=True))
    return z & y & x
