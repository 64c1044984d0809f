"""Telling scans that have a skull from those whose brain has been extracted already."""

from itertools import product

import numpy as np

from adnext_plugin.images import Volume, foreground
from adnext_plugin.scalp import has_scalp

# Measured on 572 extracted brains (OASIS-1, IXI): up to 2.4 litres of foreground and nothing but 0 in the corners.
# Heads whose air is 0 have less than 3 litres, too, where they are small, defaced or cut by the field of view.
MOST_BRAIN_LITRES = 3.0
LEAST_BACKGROUND = 0.2
CORNER_SHARE = 0.1  # of each edge
SMALLEST_HEAD_MM = 90.0


def reason_to_leave_alone(volume: Volume) -> str | None:
    """Say why no brain is to be extracted from a scan, or None where one is.

    Returns:
        "already stripped", where all corners are 0 and the foreground is no larger than a brain and has no scalp around
        it; "smaller than a head", where the scan is a crop; else None.
    """
    inside = foreground(volume.volume_zyx)
    litres = np.count_nonzero(inside) * float(np.prod(volume.spacing_mm)) / 1e6
    could_be_brain = litres <= MOST_BRAIN_LITRES and inside.mean() <= 1 - LEAST_BACKGROUND
    if could_be_brain and not _corners(inside).any() and not has_scalp(volume.volume_zyx, volume.spacing_mm):
        return "already stripped"
    if min(np.multiply(inside.shape, volume.spacing_mm)) < SMALLEST_HEAD_MM:
        return "smaller than a head"
    return None


def _corners(inside: np.ndarray) -> np.ndarray:
    """The voxels of the eight corner blocks, flattened."""
    edges = [max(1, int(size * CORNER_SHARE)) for size in inside.shape]
    ends = [(slice(0, edge), slice(size - edge, size)) for edge, size in zip(edges, inside.shape, strict=True)]
    return np.concatenate([inside[block].ravel() for block in product(*ends)])
