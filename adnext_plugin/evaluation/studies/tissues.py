"""Volumes of three tissues, told apart by brightness alone: what a scan says without any network."""

import math
from collections.abc import Sequence

import numpy as np

ROUNDS = 30
LEVELS = (10, 50, 90)  # percentiles at which the three means start


def tissue_litres(volume_zyx: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Litres of dark, middle and bright tissue and of the whole brain, and the share of it that is not dark, (5,).

    Brightnesses of the brain are divided among three means (Lloyd's algorithm from fixed percentiles). In a T1-weighted
    scan these are fluid, grey and white matter; the last number is then one like OASIS' normalised brain volume. A
    segmentation it is not: it knows nothing of where a voxel lies.

    Args:
        volume_zyx: prepared scan, background exactly 0.
        spacing_mm: of its voxels.
    """
    voxels = np.sort(volume_zyx[volume_zyx != 0].astype(np.float64))
    voxel_litres = math.prod(spacing_mm) / 1e6
    if len(voxels) == 0:
        return np.zeros(5)
    means, total = np.percentile(voxels, LEVELS), np.concatenate([[0.0], np.cumsum(voxels)])
    edges = np.zeros(2, dtype=int)
    for _ in range(ROUNDS):
        edges = np.searchsorted(voxels, (means[:-1] + means[1:]) / 2)
        bounds = np.array([0, *edges, len(voxels)])
        counts = np.diff(bounds)
        means = np.where(counts > 0, np.diff(total[bounds]) / np.maximum(counts, 1), means)
    litres = np.diff(np.array([0, *edges, len(voxels)])) * voxel_litres
    return np.array([*litres, litres.sum(), 1 - litres[0] / litres.sum()])
