"""Telling scans that have a skull from those whose brain has been extracted already."""

from itertools import product

import numpy as np

from adnext_plugin.images import Volume, foreground

# Measured on 572 extracted brains (OASIS-1, IXI) and 30 heads (IXI with the air set to 0, ds000011 defaced): brains
# have up to 2.4 litres of foreground and nothing but 0 in the corners, heads have 4.7 litres and more.
MOST_BRAIN_LITRES = 3.0
LEAST_BACKGROUND = 0.2
CORNER_SHARE = 0.1  # of each edge
SMALLEST_HEAD_MM = 90.0


def reason_to_leave_alone(volume: Volume) -> str | None:
    """Say why no brain is to be extracted from a scan, or None where one is.

    Returns:
        "already stripped", where all corners are 0 and the foreground is no larger than a brain; "smaller than a
        head", where the scan is a crop; else None.
    """
    inside = foreground(volume.volume_zyx)
    litres = np.count_nonzero(inside) * float(np.prod(volume.spacing_mm)) / 1e6
    if litres <= MOST_BRAIN_LITRES and inside.mean() <= 1 - LEAST_BACKGROUND and not _corners(inside).any():
        return "already stripped"
    if min(np.multiply(inside.shape, volume.spacing_mm)) < SMALLEST_HEAD_MM:
        return "smaller than a head"
    return None


def _corners(inside: np.ndarray) -> np.ndarray:
    """The voxels of the eight corner blocks, flattened."""
    edges = [max(1, int(size * CORNER_SHARE)) for size in inside.shape]
    ends = [(slice(0, edge), slice(size - edge, size)) for edge, size in zip(edges, inside.shape, strict=True)]
    return np.concatenate([inside[block].ravel() for block in product(*ends)])
