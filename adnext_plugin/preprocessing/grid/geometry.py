"""From the scan's grid to the network's, with one interpolation of the image. Arrays are z, y, x."""

from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol

import numpy as np
from scipy import ndimage

from adnext_plugin.images import foreground_box
from adnext_plugin.preprocessing.grid.interpolation import DEGREES, Interpolation, blur_voxels, sample
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
    def fit(self) -> Literal["resize", "pad_crop"]:
        """Stretch the brain's box to the input, or keep true size."""

    @property
    def interpolation(self) -> Interpolation:
        """Linear or cubic."""


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A volume of the input size, its shape at the target spacing before it was fitted, and the share cut off.

    `box_from_input` is a 4×4 matrix from voxel indices of the input to those of the brain's box, both x, y, z.
    """

    volume_zyx: np.ndarray
    box_from_input: np.ndarray
    resampled_shape_voxels: Shape
    share_of_foreground_cut_off: float


def fit(brain_zyx: np.ndarray, spacing_mm: tuple[float, ...], settings: Grid) -> Fitted:
    """Bring a brain's box to the network's input size, in the scan's own position.

    Args:
        brain_zyx: a brain's box, background 0.
        spacing_mm: its voxel size, z, y, x.
        settings: target spacing, input size and whether to pad and crop or to resize.
    """
    if settings.fit == "resize":
        shape = resampled_shape(brain_zyx.shape, spacing_mm, settings.spacing_mm)
        detail = np.divide(settings.spacing_mm, spacing_mm)
        resized_zyx = resize(brain_zyx, settings.input_size_voxels, detail, settings.interpolation)
        return Fitted(
            volume_zyx=resized_zyx,
            box_from_input=_box_from_input(
                brain_zyx.shape,
                settings.input_size_voxels,
                np.divide(brain_zyx.shape, settings.input_size_voxels),
                settings.input_size_voxels,
            ),
            resampled_shape_voxels=shape,
            share_of_foreground_cut_off=0.0,
        )
    resampled_zyx = resample(brain_zyx, spacing_mm, settings.spacing_mm, settings.interpolation)
    fitted_zyx = pad_crop(resampled_zyx, settings.input_size_voxels)
    lost = 1 - np.count_nonzero(fitted_zyx) / max(int(np.count_nonzero(resampled_zyx)), 1)
    return Fitted(
        volume_zyx=fitted_zyx,
        box_from_input=_box_from_input(
            brain_zyx.shape,
            resampled_zyx.shape,
            np.divide(settings.spacing_mm, spacing_mm),
            settings.input_size_voxels,
        ),
        resampled_shape_voxels=resampled_zyx.shape,
        share_of_foreground_cut_off=float(lost),
    )


def fit_aligned(
    brain_zyx: np.ndarray,
    voxel_from_mni_mm: np.ndarray,
    centre_mm: np.ndarray,
    settings: Grid,
    outline_zyx: np.ndarray | None = None,
    warp: Warp | None = None,
    *,
    modulate: bool = False,
) -> Fitted:
    """Bring a brain's box to the network's input size in MNI152 space.

    Args:
        brain_zyx: a brain's box, background 0.
        voxel_from_mni_mm: 4×4 matrix from MNI millimetres to voxels of the box, both x, y, z.
        centre_mm: x, y, z in MNI space of the middle of the grid for `pad_crop`, so that a voxel of the result is the
            same place in all brains; `resize` stretches the box around the aligned brain instead.
        settings: target spacing, input size and fit.
        outline_zyx: of the same shape, whose foreground is the brain; `brain_zyx` itself by default.
        warp: in MNI152 space, composed with the matrix.
        modulate: multiply by the warp's volume change, so that the sum over space is kept.
    """
    inside_mm = _inside_mm(brain_zyx if outline_zyx is None else outline_zyx, np.linalg.inv(voxel_from_mni_mm))
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
    volume_zyx = sample_oblique(
        brain_zyx,
        voxel_from_mni_mm @ grid,
        settings.input_size_voxels,
        detail,
        settings.interpolation,
        None if warp is None else _shifts_voxels(warp, grid, voxel_from_mni_mm, settings.input_size_voxels),
    )
    if warp is not None and modulate:
        volume_zyx = volume_zyx * warp.volume_change_on(grid, settings.input_size_voxels)
    shape = np.maximum(1, np.rint((high - low) / spacing_mm)).astype(int)[::-1]
    return Fitted(
        volume_zyx=volume_zyx,
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
    return fit(volume_zyx[foreground_box(volume_zyx)], spacing_mm, settings).volume_zyx


def resampled_shape(shape_voxels: Shape, spacing_mm: tuple[float, ...], target_spacing_mm: tuple[float, ...]) -> Shape:
    """Shape with another voxel size; the extent changes by less than half a voxel per side."""
    voxels = np.rint(np.divide(shape_voxels, np.divide(target_spacing_mm, spacing_mm)))
    return tuple(np.maximum(1, voxels).astype(int).tolist())


def resample(
    volume_zyx: np.ndarray,
    spacing_mm: tuple[float, ...],
    target_spacing_mm: tuple[float, ...],
    interpolation: Interpolation = "linear",
) -> np.ndarray:
    """Resample to another voxel size about the same centre."""
    step = np.divide(target_spacing_mm, spacing_mm)
    shape = resampled_shape(volume_zyx.shape, spacing_mm, target_spacing_mm)
    return _sample(volume_zyx, shape, step, step, interpolation)


def resize(
    volume_zyx: np.ndarray,
    shape_voxels: Shape,
    resolution: np.ndarray | float = 1.0,
    interpolation: Interpolation = "linear",
) -> np.ndarray:
    """Stretch or squeeze each axis by its own factor to the given shape.

    Args:
        volume_zyx: any shape.
        shape_voxels: wanted shape.
        resolution: spacing in voxels of a grid whose detail is all that is kept, even where the result is finer. So
            the target spacing counts here too, without a second interpolation.
        interpolation: linear or cubic.
    """
    step = np.divide(volume_zyx.shape, shape_voxels)
    return _sample(volume_zyx, shape_voxels, step, np.maximum(step, resolution), interpolation)


def pad_crop(volume_zyx: np.ndarray, shape_voxels: Shape) -> np.ndarray:
    """Cut or pad with 0 around the centre to the given shape; an odd voxel more or less is at the far end."""
    result = np.zeros(shape_voxels, dtype=volume_zyx.dtype)
    source, target = [], []
    for have, want in zip(volume_zyx.shape, shape_voxels, strict=True):
        length = min(have, want)
        source.append(slice((have - length) // 2, (have - length) // 2 + length))
        target.append(slice((want - length) // 2, (want - length) // 2 + length))
    result[tuple(target)] = volume_zyx[tuple(source)]
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
    volume_zyx: np.ndarray, shape_voxels: Shape, step: np.ndarray, detail: np.ndarray, interpolation: Interpolation
) -> np.ndarray:
    if volume_zyx.shape == tuple(shape_voxels) and np.allclose(step, 1) and np.all(detail <= 1):
        return volume_zyx
    return sample(volume_zyx, shape_voxels, step, detail, interpolation)


def sample_oblique(
    volume_zyx: np.ndarray,
    voxel_from_grid: np.ndarray,
    shape_voxels: Shape,
    detail: np.ndarray,
    interpolation: Interpolation,
    shifts_voxels: np.ndarray | None = None,
) -> np.ndarray:
    """As `sample`, on a turned grid, with 0 around the volume.

    Args:
        volume_zyx: the brain's box.
        voxel_from_grid: 4×4 matrix from indices of the result to indices of the volume, both x, y, z.
        shape_voxels: of the result.
        detail: voxels of the volume, z, y, x.
        interpolation: linear or cubic.
        shifts_voxels: (3, Z, Y, X), how much further along z, y, x of the volume each place lies.
    """
    sigma = blur_voxels(detail, DEGREES[interpolation])
    smooth = ndimage.gaussian_filter(volume_zyx, sigma, mode="constant")
    matrix_zyx, offset_zyx = voxel_from_grid[:3, :3][::-1, ::-1], voxel_from_grid[:3, 3][::-1]
    if shifts_voxels is None:
        grid = {"matrix": matrix_zyx, "offset": offset_zyx, "output_shape": tuple(shape_voxels)}
        look_up = partial(ndimage.affine_transform, mode="grid-constant", **grid)
    else:
        places = np.tensordot(matrix_zyx, np.indices(shape_voxels), 1) + offset_zyx[:, None, None, None]
        look_up = partial(ndimage.map_coordinates, coordinates=places + shifts_voxels, mode="grid-constant")
    sampled_zyx: np.ndarray = look_up(smooth, order=DEGREES[interpolation])
    if interpolation == "linear":
        return sampled_zyx
    inside_zyx = look_up((smooth != 0).astype(np.float32), order=1)
    return np.where(inside_zyx > 0, sampled_zyx, 0)


def _shifts_voxels(warp: Warp, grid: np.ndarray, voxel_from_mni_mm: np.ndarray, shape: Shape) -> np.ndarray:
    """(3, Z, Y, X): a warp's shifts at the voxels of a grid, in voxels of the brain along z, y, x."""
    shifts_mm = warp.shifts_on(grid, shape)
    return np.moveaxis(shifts_mm @ voxel_from_mni_mm[:3, :3].T.astype(np.float32), -1, 0)[::-1]


def _inside_mm(brain_zyx: np.ndarray, mm_from_voxel: np.ndarray) -> np.ndarray:
    """Coordinates (voxels, x y z) of all voxels that are not 0."""
    indices_xyz = np.argwhere(brain_zyx)[:, ::-1]
    return indices_xyz @ mm_from_voxel[:3, :3].T + mm_from_voxel[:3, 3]
