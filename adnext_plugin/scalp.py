"""Whether what is not background in a scan is a head or a brain, by what lies below its surface.

Going inwards from the surface of a head one meets bright fat, then dark bone, then the bright brain. From the surface
of an extracted brain it only gets brighter.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from scipy import ndimage

from adnext_plugin.images import foreground

SHELL_MM, DEEPEST_MM = 2.0, 18.0
# Measured on 572 extracted brains (OASIS-1, IXI) and 28 heads (IXI, ds000011), each whole and cut to 170 and 150 mm,
# their air set to 0: the dip is 0.05 at most in brains, 0.11 at least in heads.
LEAST_DIP_OF_A_HEAD = 0.08
SMALLEST_HEAD_LITRES = 1.5  # of anything less the shells mean nothing


def has_scalp(volume_zyx: np.ndarray, spacing_mm: Sequence[float], skipped_mm: float = 0.0) -> bool:
    """Whether a scan without air shows a bright surface around a dark shell, as heads do.

    Args:
        volume_zyx: intensities, (Z, Y, X); 0 is background.
        spacing_mm: edges of a voxel, z, y, x.
        skipped_mm: depth that is not looked at, where interpolation has mixed the surface with the background.
    """
    litres = np.count_nonzero(foreground(volume_zyx)) * float(np.prod(spacing_mm)) / 1e6
    return (
        bool(litres >= SMALLEST_HEAD_LITRES)
        and dip_below_surface(volume_zyx, spacing_mm, skipped_mm) >= LEAST_DIP_OF_A_HEAD
    )


def dip_below_surface(volume_zyx: np.ndarray, spacing_mm: Sequence[float], skipped_mm: float = 0.0) -> float:
    """By what share the mean intensity of shells falls again from the brightest one above it; 0 if it never does.

    Shells are no thinner than a voxel along its shortest edge: depths come in steps of voxels, and a thinner shell
    would hold the voxels of a few directions alone.
    Faces of the array are no surface: where the field of view cuts a head, its inside lies open.
    """
    steps = [max(1, round(SHELL_MM / edge)) for edge in spacing_mm]
    coarse_zyx = volume_zyx[tuple(slice(None, None, step) for step in steps)].astype(np.float32)
    inside = foreground(coarse_zyx)
    coarse_zyx = coarse_zyx - min(0.0, float(coarse_zyx.min()))
    edges_mm = [edge * step for edge, step in zip(spacing_mm, steps, strict=True)]
    depth_mm = ndimage.distance_transform_edt(ndimage.binary_fill_holes(inside), sampling=edges_mm)
    shell_mm = max(SHELL_MM, min(spacing_mm))
    shells = [
        float(coarse_zyx[(depth_mm > start) & (depth_mm <= end)].mean())
        for start, end in pairwise(np.arange(skipped_mm, DEEPEST_MM + shell_mm, shell_mm))
        if ((depth_mm > start) & (depth_mm <= end)).any()
    ]
    brightest = np.maximum.accumulate(shells) if shells else np.zeros(0)
    with np.errstate(all="ignore"):
        dips = np.nan_to_num(1 - np.divide(shells, brightest))
    return float(dips.max(initial=0.0))
