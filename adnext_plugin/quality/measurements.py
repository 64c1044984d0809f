"""What the quality report needs to know of one case; arrays are z, y, x in RAS order."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from scipy import ndimage, stats

from adnext_plugin.case_properties import CaseProperties
from adnext_plugin.errors import ImageError, PathsError
from adnext_plugin.quality.thumbnails import thumbnails
from adnext_plugin.scalp import has_scalp
from adnext_plugin.stored_volumes import read_case

LARGEST_BRAIN_LITRES = 3.0  # with the fluid around it; measured: 2.4
MIXED_MM = 4.0  # where a stored volume's brain meets the 0 around it, which is its mean
TISSUE_NOTE = "tissue_means"  # of the step `tissue`, whose images hold shares instead of intensities
WARP_NOTES = ("likeness_before_warp", "likeness_after_warp", "volume_change_low", "volume_change_high")
COARSE_VOXELS = 24  # edge of the cube that cases are compared in; a case takes 27 kB of memory there


@dataclass(frozen=True, kw_only=True)
class QualityJob:
    """One preprocessed case: its two files' folder, and the scan it was made of."""

    case: str
    folder: Path
    scan: Path


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """Numbers of one case. `is_head`: there is a skull around the brain, or more than a brain can be.

    `coarse_zyx` is the network's input in a cube of `COARSE_VOXELS`, float16. `stretch_zyx` are the factors by which
    `resize` has changed the brain's proportions, 1 on average. `planes` are JPEG files: axial, coronal, sagittal.
    `of_warp` are figures of a non-linear alignment, where there was one.
    """

    case: str
    brain_litres: float
    has_mask: bool
    is_head: bool
    skewness: float
    stretch_zyx: tuple[float, float, float]
    share_cut_off: float
    coarse_zyx: np.ndarray
    planes: tuple[bytes, bytes, bytes]
    of_warp: Mapping[str, float] = field(default_factory=dict)


def measure_case(job: QualityJob) -> Measurements:
    """Measure a case and draw it.

    Raises:
        ImageError: its files are missing or damaged.
    """
    try:
        image_czyx, properties = read_case(job.folder, job.case)
    except PathsError as error:
        raise ImageError(str(error)) from error
    volume_zyx = image_czyx[0].astype(np.float32)
    is_padded = properties.fit == "pad_crop"
    factors = np.ones(3) if is_padded else np.divide(volume_zyx.shape, properties.resampled_shape_voxels)
    return Measurements(
        case=job.case,
        brain_litres=properties.brain_litres,
        has_mask=properties.mask is not None,
        is_head=_is_head(volume_zyx, properties),
        skewness=float(stats.skew(volume_zyx[volume_zyx != 0])),
        stretch_zyx=tuple((factors / stats.gmean(factors)).tolist()),
        share_cut_off=properties.share_of_foreground_cut_off,
        coarse_zyx=coarsen(volume_zyx).astype(np.float16),
        of_warp={name: float(properties.notes[name]) for name in WARP_NOTES if name in properties.notes},
        planes=thumbnails(volume_zyx, job.scan, None if properties.mask is None else Path(properties.mask)),
    )


def _is_head(volume_zyx: np.ndarray, properties: CaseProperties) -> bool:
    if TISSUE_NOTE in properties.notes:  # cortex around white matter, which is 0 there, looks like a scalp
        return False
    if properties.brain_litres > LARGEST_BRAIN_LITRES:
        return True
    box_mm = [
        (stop - start) * edge
        for (start, stop), edge in zip(properties.foreground_box, properties.spacing_mm, strict=True)
    ]
    voxels = properties.resampled_shape_voxels if properties.fit == "pad_crop" else volume_zyx.shape
    edges_mm = [size / count for size, count in zip(box_mm, voxels, strict=True)]
    # a voxel of either grid, the scan's or the stored one, reaches over the surface on both of its sides
    return has_scalp(volume_zyx, edges_mm, max(MIXED_MM, 2 * max(*properties.spacing_mm, *edges_mm)))


def coarsen(volume_zyx: np.ndarray) -> np.ndarray:
    """The volume, padded to a cube and brought to `COARSE_VOXELS` a side, smoothed as far as that grid needs."""
    edge = max(volume_zyx.shape)
    padding = [((edge - size) // 2, edge - size - (edge - size) // 2) for size in volume_zyx.shape]
    step = edge / COARSE_VOXELS
    smooth_zyx = ndimage.gaussian_filter(np.pad(volume_zyx, padding), max(0.0, (step - 1) / 2))
    offset = (edge - 1) / 2 - step * (COARSE_VOXELS - 1) / 2
    return ndimage.affine_transform(smooth_zyx, [step] * 3, [offset] * 3, (COARSE_VOXELS,) * 3, order=1)
