"""From a scan to the network's input, one function a step. Arrays are z, y, x; nothing is modified in place.

The order: RAS orientation, bias field, foreground box, clipping, z-score; then position, spacing and fit to the input
size in one interpolation.
"""

from dataclasses import dataclass

import numpy as np

from adnext_plugin.errors import ImageError
from adnext_plugin.images import Volume, foreground, foreground_box, reorient_to_ras
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.grid.geometry import Fitted, fit, fit_aligned


@dataclass(frozen=True, kw_only=True)
class NetworkInput:
    """A prepared scan: `volume_zyx` of the input size, float16, and what was done to get there."""

    volume_zyx: np.ndarray
    properties: dict


def prepare(volume: Volume, settings: PreprocessingSettings) -> NetworkInput:
    """All steps in order.

    Args:
        volume: a brain without skull, in any orientation.
        settings: what to do.

    Raises:
        ImageError: the scan has no foreground, or a constant one, or cannot be aligned.
    """
    volume = reorient_to_ras(volume)
    if settings.bias_correction == "n4":
        from adnext_plugin.preprocessing.bias_field import correct_bias_field

        volume = correct_bias_field(volume, settings)
    box = foreground_box(volume.volume_zyx)
    brain_zyx = volume.volume_zyx[box]
    if settings.clip_percentiles is not None:
        brain_zyx = clip_foreground(brain_zyx, settings.clip_percentiles)
    brain_zyx = z_score_foreground(brain_zyx)
    voxel_litres = float(np.prod(volume.spacing_mm)) / 1e6
    properties = {
        "fit": settings.fit,
        "brain_litres": int(np.count_nonzero(foreground(volume.volume_zyx[box]))) * voxel_litres,
        "ras_shape_voxels": volume.volume_zyx.shape,
        "ras_affine": volume.affine.tolist(),
        "spacing_mm": volume.spacing_mm,
        "foreground_box": [[part.start, part.stop] for part in box],
    }
    if settings.alignment == "none":
        fitted = fit(brain_zyx, volume.spacing_mm, settings)
    else:
        fitted, scan_from_mni_mm = _fit_to_mni152(volume, brain_zyx, box, settings)
        properties["scan_from_mni_mm"] = scan_from_mni_mm.tolist()
    properties["resampled_shape_voxels"] = fitted.resampled_shape_voxels
    properties["share_of_foreground_cut_off"] = fitted.share_of_foreground_cut_off
    return NetworkInput(volume_zyx=fitted.volume_zyx.astype(np.float16), properties=properties)


def _fit_to_mni152(
    volume: Volume, brain_zyx: np.ndarray, box: tuple[slice, ...], settings: PreprocessingSettings
) -> tuple[Fitted, np.ndarray]:
    from adnext_plugin.preprocessing.alignment import align_to_mni152, template_centre_mm

    box_affine = volume.affine.copy()
    box_affine[:3, 3] = (volume.affine @ [*(part.start for part in reversed(box)), 1])[:3]
    cropped = Volume(volume_zyx=volume.volume_zyx[box], affine=box_affine)
    scan_from_mni_mm = align_to_mni152(cropped, settings.alignment)
    voxel_from_mni_mm = np.linalg.inv(box_affine) @ scan_from_mni_mm
    return fit_aligned(brain_zyx, voxel_from_mni_mm, template_centre_mm(), settings), scan_from_mni_mm


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
