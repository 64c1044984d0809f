"""From the scan's grid to the network's, with one interpolation of the image. Arrays are z, y, x."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
from scipy import ndimage

from adnext_plugin.choices import FitWay, Interpolation
from adnext_plugin.images import foreground_box
from adnext_plugin.preprocessing.grid.interpolation import DEGREES, blur_voxels, sample
from adnext_plugin.preprocessing.grid.warp import Warp

Shape = tuple[int, int, int]


class Grid(Protocol):
    """The network's grid and the way to it, as a plan (`PreprocessingSettings`) and the step `fit` know them."""

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Target spacing, z, y, x."""

    @property
    def input_size_voxels(self) -> tuple[int, int, int]:
        """Shape of the network's input, z, y, x."""

    @property
    def fit(self) -> FitWay:
        """Stretch the brain's box to the input, or keep true size."""

    @property
    def interpolation(self) -> Interpolation:
        """Linear or cubic."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """An image (C, Z, Y, X) of the input size; its first channel's shape at the target spacing, and the share cut off.

    `box_from_input` is a 4×4 matrix from voxel indices of the input to those of the brain's box, both x, y, z.
    """

    image_czyx: np.ndarray
    box_from_input: np.ndarray
    resampled_shape_voxels: Shape
    share_of_foreground_cut_off: float


def fit(image_czyx: np.ndarray, spacing_mm: tuple[float, ...], settings: Grid) -> Fitted:
    """Bring a brain's box to the network's input size, in the scan's own position.

    Args:
        image_czyx: a brain's box, background 0; its first channel says what is brain.
        spacing_mm: its voxel size, z, y, x.
        settings: target spacing, input size and whether to pad and crop or to resize.
    """
    box = image_czyx.shape[1:]
    if settings.fit == "resize":
        shape = resampled_shape(box, spacing_mm, settings.spacing_mm)
        detail = np.divide(settings.spacing_mm, spacing_mm)
        return Fitted(
            image_czyx=resize(image_czyx, settings.input_size_voxels, detail, settings.interpolation),
            box_from_input=_box_from_input(
                box,
                settings.input_size_voxels,
                np.divide(box, settings.input_size_voxels),
                settings.input_size_voxels,
            ),
            resampled_shape_voxels=shape,
            share_of_foreground_cut_off=0.0,
        )
    resampled_czyx = resample(image_czyx, spacing_mm, settings.spacing_mm, settings.interpolation)
    fitted_czyx = pad_crop(resampled_czyx, settings.input_size_voxels)
    lost = 1 - np.count_nonzero(fitted_czyx[0]) / max(int(np.count_nonzero(resampled_czyx[0])), 1)
    return Fitted(
        image_czyx=fitted_czyx,
        box_from_input=_box_from_input(
            box,
            resampled_czyx.shape[1:],
            np.divide(settings.spacing_mm, spacing_mm),
            settings.input_size_voxels,
        ),
        resampled_shape_voxels=resampled_czyx.shape[1:],
        share_of_foreground_cut_off=float(lost),
    )


def fit_aligned(
    image_czyx: np.ndarray,
    voxel_from_mni_mm: np.ndarray,
    centre_mm: np.ndarray,
    settings: Grid,
    warp: Warp | None = None,
    modulated: Sequence[int] = (),
) -> Fitted:
    """Bring a brain's box to the network's input size in MNI152 space.

    Args:
        image_czyx: a brain's box, background 0; its first channel says what is brain, and sets the grid of all.
        voxel_from_mni_mm: 4×4 matrix from MNI millimetres to voxels of the box, both x, y, z.
        centre_mm: x, y, z in MNI space of the middle of the grid for `pad_crop`, so that a voxel of the result is the
            same place in all brains; `resize` stretches the box around the aligned brain instead.
        settings: target spacing, input size and fit.
        warp: in MNI152 space, composed with the matrix.
        modulated: channels that are multiplied by the warp's volume change, so that their sum over space is kept.
    """
    inside_mm = _inside_mm(image_czyx[0], np.linalg.inv(voxel_from_mni_mm))
    low, high = inside_mm.min(axis=0), inside_mm.max(axis=0)
    spacing_mm = np.array(settings.spacing_mm[::-1])
    size = np.array(settings.input_size_voxels[::-1])
    lost = 0.0
    if settings.fit == "resize":
        edge_mm, centre_mm = np.maximum(high - low, spacing_mm) / (size - 1), (low + high) / 2
    else:
        edge_mm = spacing_mm
        lost = float((np.abs(inside_mm - centre_mm) > size * edge_mm / 2).any(axis=1).mean())
    grid = np.diag([*edge_mm, 1.0])
    grid[:3, 3] = centre_mm - edge_mm * (size - 1) / 2
    # the length in voxels, along each of the volume's axes, of the finest detail that the plan asks for
    detail = np.linalg.norm(voxel_from_mni_mm[:3, :3] * np.maximum(edge_mm, spacing_mm), axis=1)[::-1]
    fitted_czyx = sample_oblique(
        image_czyx,
        voxel_from_mni_mm @ grid,
        settings.input_size_voxels,
        detail,
        settings.interpolation,
        None if warp is None else _shifts_voxels(warp, grid, voxel_from_mni_mm, settings.input_size_voxels),
    )
    if warp is not None and modulated:
        fitted_czyx[list(modulated)] *= warp.volume_change_on(grid, settings.input_size_voxels)
    shape = np.maximum(1, np.rint((high - low) / spacing_mm)).astype(int)[::-1]
    return Fitted(
        image_czyx=fitted_czyx,
        box_from_input=voxel_from_mni_mm @ grid,
        resampled_shape_voxels=tuple(shape.tolist()),
        share_of_foreground_cut_off=lost,
    )


def fit_stock_volume(volume_zyx: np.ndarray, spacing_mm: tuple[float, ...], settings: Grid) -> np.ndarray:
    """Bring a volume that nnU-Net's own preprocessing stored, normalised already, to the network's input size.

    Args:
        volume_zyx: any shape, float32.
        spacing_mm: of nnU-Net's plan, z, y, x.
        settings: target spacing, input size and fit.
    """
    return fit(volume_zyx[foreground_box(volume_zyx)][None], spacing_mm, settings).image_czyx[0]


def resampled_shape(shape_voxels: Shape, spacing_mm: tuple[float, ...], target_spacing_mm: tuple[float, ...]) -> Shape:
    """Shape with another voxel size; the extent changes by less than half a voxel per side."""
    voxels = np.rint(np.divide(shape_voxels, np.divide(target_spacing_mm, spacing_mm)))
    return tuple(np.maximum(1, voxels).astype(int).tolist())


def resample(
    volumes_zyx: np.ndarray,
    spacing_mm: tuple[float, ...],
    target_spacing_mm: tuple[float, ...],
    interpolation: Interpolation = "linear",
) -> np.ndarray:
    """Resample a volume, or several on one grid, (..., Z, Y, X), to another voxel size about the same centre."""
    step = np.divide(target_spacing_mm, spacing_mm)
    shape = resampled_shape(volumes_zyx.shape[-3:], spacing_mm, target_spacing_mm)
    return _sample(volumes_zyx, shape, step, step, interpolation)


def resize(
    volumes_zyx: np.ndarray,
    shape_voxels: Shape,
    resolution: np.ndarray | float = 1.0,
    interpolation: Interpolation = "linear",
) -> np.ndarray:
    """Stretch or squeeze each axis by its own factor to the given shape.

    Args:
        volumes_zyx: (..., Z, Y, X).
        shape_voxels: wanted shape of each.
        resolution: spacing in voxels of a grid whose detail is all that is kept, even where the result is finer. So
            the target spacing counts here too, without a second interpolation.
        interpolation: linear or cubic.
    """
    step = np.divide(volumes_zyx.shape[-3:], shape_voxels)
    return _sample(volumes_zyx, shape_voxels, step, np.maximum(step, resolution), interpolation)


def pad_crop(volumes_zyx: np.ndarray, shape_voxels: Shape) -> np.ndarray:
    """Cut or pad (..., Z, Y, X) with 0 around the centre to the given shape; an odd voxel is at the far end."""
    result = np.zeros((*volumes_zyx.shape[:-3], *shape_voxels), dtype=volumes_zyx.dtype)
    source, target = ([slice(None)] * (volumes_zyx.ndim - 3) for _ in range(2))
    for have, want in zip(volumes_zyx.shape[-3:], shape_voxels, strict=True):
        length = min(have, want)
        source.append(slice((have - length) // 2, (have - length) // 2 + length))
        target.append(slice((want - length) // 2, (want - length) // 2 + length))
    result[tuple(target)] = volumes_zyx[tuple(source)]
    return result


def _box_from_input(box: Shape, sampled: Shape, step: np.ndarray, size_voxels: Shape) -> np.ndarray:
    """4×4 matrix from voxels of the input to those of a box that was sampled about its centre, then padded and cropped.

    Args:
        box: shape of the box, z, y, x, as all of these.
        sampled: number of points that it was sampled at.
        step: between them, voxels of the box.
        size_voxels: of the input; 0 where the points did not reach.
    """
    # as `pad_crop` has it: what is too much goes first, half of it at the near end
    shift = np.array(
        [
            (have - want) // 2 if have > want else -((want - have) // 2)
            for have, want in zip(sampled, size_voxels, strict=True)
        ]
    )
    start = (np.array(box) - 1) / 2 + step * (shift - (np.array(sampled) - 1) / 2)
    matrix = np.diag([*step[::-1], 1.0])
    matrix[:3, 3] = start[::-1]
    return matrix


def _sample(
    volumes_zyx: np.ndarray, shape_voxels: Shape, step: np.ndarray, detail: np.ndarray, interpolation: Interpolation
) -> np.ndarray:
    if volumes_zyx.shape[-3:] == tuple(shape_voxels) and np.allclose(step, 1) and np.all(detail <= 1):
        return volumes_zyx
    return sample(volumes_zyx, shape_voxels, step, detail, interpolation)


def sample_oblique(
    image_czyx: np.ndarray,
    voxel_from_grid: np.ndarray,
    shape_voxels: Shape,
    detail: np.ndarray,
    interpolation: Interpolation,
    shifts_voxels: np.ndarray | None = None,
) -> np.ndarray:
    """As `sample`, on a turned grid, with 0 around the image.

    Args:
        image_czyx: the brain's box.
        voxel_from_grid: 4×4 matrix from indices of the result to indices of the box, both x, y, z.
        shape_voxels: of the result.
        detail: voxels of the box, z, y, x.
        interpolation: linear or cubic.
        shifts_voxels: (3, Z, Y, X), how much further along z, y, x of the box each place lies.
    """
    sigma = blur_voxels(detail, DEGREES[interpolation])
    matrix_zyx, offset_zyx = voxel_from_grid[:3, :3][::-1, ::-1], voxel_from_grid[:3, 3][::-1]
    if shifts_voxels is None:
        grid = {"matrix": matrix_zyx, "offset": offset_zyx, "output_shape": tuple(shape_voxels)}
        look_up = partial(ndimage.affine_transform, mode="grid-constant", **grid)
    else:
        places = np.tensordot(matrix_zyx, np.indices(shape_voxels), 1) + offset_zyx[:, None, None, None]
        look_up = partial(ndimage.map_coordinates, coordinates=places + shifts_voxels, mode="grid-constant")
    sampled_czyx = np.empty((len(image_czyx), *shape_voxels), dtype=image_czyx.dtype)
    for volume_zyx, sampled_zyx in zip(image_czyx, sampled_czyx, strict=True):
        smooth = ndimage.gaussian_filter(volume_zyx, sigma, mode="constant")
        look_up(smooth, order=DEGREES[interpolation], output=sampled_zyx)
        if interpolation != "linear":
            sampled_zyx[look_up((smooth != 0).astype(np.float32), order=1) <= 0] = 0
    return sampled_czyx


def _shifts_voxels(warp: Warp, grid: np.ndarray, voxel_from_mni_mm: np.ndarray, shape: Shape) -> np.ndarray:
    """(3, Z, Y, X): a warp's shifts at the voxels of a grid, in voxels of the brain along z, y, x."""
    shifts_mm = warp.shifts_on(grid, shape)
    return np.moveaxis(shifts_mm @ voxel_from_mni_mm[:3, :3].T.astype(np.float32), -1, 0)[::-1]


def _inside_mm(brain_zyx: np.ndarray, mm_from_voxel: np.ndarray) -> np.ndarray:
    """Coordinates (voxels, x y z) of all voxels that are not 0."""
    indices_xyz = np.argwhere(brain_zyx)[:, ::-1]
    return indices_xyz @ mm_from_voxel[:3, :3].T + mm_from_voxel[:3, 3]
