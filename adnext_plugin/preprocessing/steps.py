"""From a scan to the network's input, one function a step. Arrays are z, y, x; nothing is modified in place.

The order: RAS orientation, foreground box, clipping, z-score, resampling to the target spacing, fit to the input size.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from adnext_plugin.errors import ImageError
from adnext_plugin.images import Volume, foreground, foreground_box, reorient_to_ras
from adnext_plugin.records import PreprocessingSettings

Shape = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class NetworkInput:
    """A prepared scan: `volume_zyx` of the input size, float16, and what was done to get there."""

    volume_zyx: np.ndarray
    properties: dict


def prepare(volume: Volume, settings: PreprocessingSettings) -> NetworkInput:
    """All steps in order.

    Raises:
        ImageError: the scan has no foreground, or a constant one.
    """
    volume = reorient_to_ras(volume)
    box = foreground_box(volume.volume_zyx)
    brain_zyx = volume.volume_zyx[box]
    if settings.clip_percentiles is not None:
        brain_zyx = clip_foreground(brain_zyx, settings.clip_percentiles)
    brain_zyx = z_score_foreground(brain_zyx)
    resampled_zyx = resample(brain_zyx, volume.spacing_mm, settings.spacing_mm)
    fitted_zyx = fit(resampled_zyx, settings)
    foreground_voxels = np.count_nonzero(resampled_zyx)
    lost = 1 - np.count_nonzero(fitted_zyx) / foreground_voxels if settings.fit == "pad_crop" else 0.0
    properties = {
        "ras_shape_voxels": volume.volume_zyx.shape,
        "ras_affine": volume.affine.tolist(),
        "spacing_mm": volume.spacing_mm,
        "foreground_box": [[part.start, part.stop] for part in box],
        "resampled_shape_voxels": resampled_zyx.shape,
        "share_of_foreground_cut_off": float(lost),
    }
    return NetworkInput(volume_zyx=fitted_zyx.astype(np.float16), properties=properties)


def clip_foreground(volume_zyx: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """Limit foreground intensities to these percentiles of themselves, so that one bright vessel sets no scale."""
    mask = foreground(volume_zyx)
    low, high = np.percentile(volume_zyx[mask], percentiles)
    return np.where(mask, np.clip(volume_zyx, low, high), volume_zyx)


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


def resample(volume_zyx: np.ndarray, spacing_mm: tuple[float, ...], target_spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Resample to another voxel size about the same centre; the extent changes by less than half a voxel per side."""
    step = np.divide(target_spacing_mm, spacing_mm)
    shape = np.maximum(1, np.rint(np.divide(volume_zyx.shape, step))).astype(int)
    return _sample(volume_zyx, tuple(shape), step)


def resize(volume_zyx: np.ndarray, shape_voxels: Shape) -> np.ndarray:
    """Stretch or squeeze each axis by its own factor to the given shape."""
    return _sample(volume_zyx, shape_voxels, np.divide(volume_zyx.shape, shape_voxels))


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


def fit(volume_zyx: np.ndarray, settings: PreprocessingSettings) -> np.ndarray:
    """Bring a resampled volume to the network's input size in the way the plan says."""
    change = resize if settings.fit == "resize" else pad_crop
    return change(volume_zyx, settings.input_size_voxels)


def fit_stock_volume(
    volume_zyx: np.ndarray, spacing_mm: tuple[float, ...], settings: PreprocessingSettings
) -> np.ndarray:
    """Bring a volume that nnU-Net's own preprocessing stored, normalised already, to the network's input size.

    Args:
        volume_zyx: any shape, float32.
        spacing_mm: of nnU-Net's plan, z, y, x.
        settings: target spacing, input size and fit.
    """
    return fit(resample(volume_zyx[foreground_box(volume_zyx)], spacing_mm, settings.spacing_mm), settings)


def _sample(volume_zyx: np.ndarray, shape_voxels: Shape, step: np.ndarray) -> np.ndarray:
    """Linear interpolation on a grid of `step` input voxels about the volume's centre.

    Where the grid is coarser than the voxels, a Gaussian of (step - 1) / 2 voxels comes first, as in scikit-image's
    anti-aliasing. Linear, because cubic interpolation would ring at the sharp edge of a brain-extracted scan.
    """
    if volume_zyx.shape == tuple(shape_voxels) and np.allclose(step, 1):
        return volume_zyx
    smooth = ndimage.gaussian_filter(volume_zyx, sigma=np.maximum(0, (step - 1) / 2), mode="nearest")
    offset = (np.array(volume_zyx.shape) - 1) / 2 - step * (np.array(shape_voxels) - 1) / 2
    return ndimage.affine_transform(smooth, step, offset, tuple(shape_voxels), order=1, mode="nearest")
