"""Recognising a person by the brain: coarse copies of two scans of one person resemble each other like no two people.

A coarse copy is the network's input by the ranks of its intensities, turned to the pose that all copies have
(`splits/pose.py`), on a grid of 6 mm, well inside the brain. Of a dataset those voxels count that nearly all brains
have; each copy is taken less its mean and at unit length. What many people share (size, site, age) is taken out as the
mean and the first principal components of the dataset and its mirror image. The likeness of two scans is the cosine of
what remains, or, if that is more, its cosine with the mirror image of the other.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from adnext_plugin.environment import usable_cpus
from adnext_plugin.errors import PathsError
from adnext_plugin.files import replacing
from adnext_plugin.itk_threads import one_itk_thread
from adnext_plugin.splits.pose import coarse, in_standard_pose, interior

CACHE_FILE = "audit_coarse_copies.npz"
COPY_VERSION = 3  # raised whenever copies of the same scan come out otherwise
LEAST_INSIDE = 0.3  # share of a voxel that must be brain for its tissue to be known
NEARLY_ALL = 0.9  # of a dataset's brains must have a voxel for it to count
SHARED_COMPONENTS = 20  # at most; one for ten scans in small datasets
SCANS_TO_LEARN_FROM = 2000  # what is shared; more take more memory and teach nothing new
# Between the most alike distinct people and the least alike copies or second sessions of one person; see docs/audit.md
ALIKE = 0.5
DEVIATIONS = 6.0  # in small or uniform datasets, where chance alone goes beyond that
CERTAIN = 0.95  # alike enough in any dataset
SAMPLED_PAIRS = 100_000
FEWEST_SCANS = 5  # with fewer there is nothing to tell apart what people share


class Pair(NamedTuple):
    """Two scans by their indices, how alike they are, and whether the one is like the other's mirror image."""

    first: int
    second: int
    cosine: float
    is_mirrored: bool


@dataclass(frozen=True, kw_only=True)
class Resemblance:
    """Pairs of scans that look like one person's, and what they were found among.

    `pairs`: the most alike first. `strangers` are the cosines of 50, 99.9 and 100 % of
    the sampled pairs of scans with different ids that are below the threshold.
    """

    pairs: tuple[Pair, ...]
    threshold: float
    strangers: tuple[float, float, float]


def coarse_copy(volume_zyx: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Ranks of a brain's intensities well inside it, in standard pose, less one half; (voxels,) float16.

    NaN where the brain does not reach.

    Args:
        volume_zyx: a network input, background 0.
        spacing_mm: its voxel size, z, y, x.
    """
    region = interior()
    if not volume_zyx.any():
        return np.full(np.count_nonzero(region), np.nan, dtype=np.float16)
    tissue_zyx, inside_zyx = in_standard_pose(coarse(volume_zyx, spacing_mm))
    tissue, inside = tissue_zyx[region], inside_zyx[region]
    return np.where(inside > LEAST_INSIDE, tissue / np.maximum(inside, LEAST_INSIDE), np.nan).astype(np.float16)


def cached_coarse_copies(
    digests: Sequence[str],
    read_volume_zyx: Callable[[int], np.ndarray],
    spacing_mm: Sequence[float],
    cache: Path,
) -> np.ndarray:
    """Coarse copies of stored volumes, (N, voxels); only of files whose content is new.

    Args:
        digests: of the stored files, one per case.
        read_volume_zyx: gives the volume of the k-th.
        spacing_mm: voxel size of all.
        cache: file that keeps copies by these digests; written where it lacks one.
    """
    grid = "x".join(f"{edge:g}" for edge in spacing_mm)
    keys = [f"{digest}-{grid}-{COPY_VERSION}" for digest in digests]
    known = _read_cache(cache)
    new = [index for index, key in enumerate(keys) if key not in known]
    if not new:
        return np.stack([known[key] for key in keys])
    with one_itk_thread(), ThreadPoolExecutor(usable_cpus()) as pool:
        made = pool.map(lambda index: coarse_copy(read_volume_zyx(index), spacing_mm), new)
        known |= {keys[index]: found for index, found in zip(new, made, strict=True)}
    copies = np.stack([known[key] for key in keys])
    # whoever may only read the data, or has a full disk, does without
    with suppress(OSError, PathsError), replacing(cache) as temporary, temporary.open("wb") as file:
        np.savez(file, keys=np.array(keys), copies=copies)
    return copies


def find_resemblance(copies: np.ndarray, people: Sequence[str]) -> Resemblance:
    """Pairs of scans of different people, by their ids, that look like one person's or like the mirror image of one.

    The threshold is 0.5, or 6 robust standard deviations of what strangers have where that is more, but no more than
    0.95.

    Args:
        copies: (N, voxels).
        people: whose each is.
    """
    whose = np.asarray(people)
    own, mirrored = without_what_is_shared(copies)
    if len(copies) < FEWEST_SCANS or own.shape[1] == 0:
        return Resemblance(pairs=(), threshold=CERTAIN, strangers=(0.0, 0.0, 0.0))
    cosines = _cosines_of_strangers(own, mirrored, whose)
    deviation = 1.4826 * np.median(np.abs(cosines - np.median(cosines)))
    threshold = float(np.clip(np.median(cosines) + DEVIATIONS * deviation, ALIKE, CERTAIN))
    pairs = _pairs_alike(own, mirrored, whose, threshold)
    below = cosines[cosines < threshold]
    middle, upper, largest = np.quantile(below, (0.5, 0.999, 1)).tolist() if len(below) else (0.0, 0.0, 0.0)
    return Resemblance(pairs=tuple(pairs), threshold=threshold, strangers=(middle, upper, largest))


def mirror_images(copies: np.ndarray) -> np.ndarray:
    """Copies of the same brains with left and right exchanged, (N, voxels)."""
    region = interior()
    index_zyx = np.full(region.shape, -1)
    index_zyx[region] = np.arange(np.count_nonzero(region))
    return copies[:, index_zyx[:, :, ::-1][region]]


def _pairs_alike(own: np.ndarray, mirrored: np.ndarray, whose: np.ndarray, threshold: float) -> list[Pair]:
    """The most alike first; a pair that is alike both ways counts for what it is more."""
    neighbours = NearestNeighbors(metric="cosine", algorithm="brute").fit(own)
    best: dict[tuple[int, int], Pair] = {}
    for is_mirrored, searched in ((False, own), (True, mirrored)):
        distances, found = neighbours.radius_neighbors(searched, radius=1 - threshold)
        for first in range(len(own)):
            for second, distance in zip(found[first].tolist(), distances[first].tolist(), strict=True):
                if first < second and whose[first] != whose[second]:
                    pair = Pair(first, second, 1 - distance, is_mirrored)
                    best[first, second] = max(pair, best.get((first, second), pair), key=lambda one: one.cosine)
    return sorted(best.values(), key=lambda pair: -pair.cosine)


def without_what_is_shared(copies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What sets each scan apart, and its mirror image; (N, common voxels) float32 at unit length each."""
    known = np.isfinite(copies).mean(axis=0, dtype=np.float64)
    common = (known + mirror_images(known[None])[0]) / 2 >= NEARLY_ALL
    values, mirrored = (_centred(one[:, common]) for one in (copies, mirror_images(copies)))
    if not common.any():
        return values, mirrored
    count = min(SHARED_COMPONENTS, max(1, len(values) // 10))
    sample = slice(None, None, -(-len(values) // SCANS_TO_LEARN_FROM))
    # of both, so that a scan and its mirror image lose the same
    shared = PCA(count, svd_solver="randomized", random_state=0).fit(np.concatenate([values[sample], mirrored[sample]]))
    own, other = (_at_unit_length(one - shared.inverse_transform(shared.transform(one))) for one in (values, mirrored))
    return own, other


def _centred(copies: np.ndarray) -> np.ndarray:
    """Less the mean of each, at unit length; what is not known is the mean."""
    values = copies.astype(np.float32)
    known = np.isfinite(values)
    values = np.where(known, values, 0)
    means = values.sum(axis=1, keepdims=True) / np.maximum(known.sum(axis=1, keepdims=True), 1)
    return _at_unit_length(np.where(known, values - means, 0))


def _cosines_of_strangers(own: np.ndarray, mirrored: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Cosines of pairs with different ids, and with mirror images of the second; of all pairs or a sample."""
    first, second = np.triu_indices(len(own), 1) if len(own) ** 2 <= 2 * SAMPLED_PAIRS else _random_pairs(len(own))
    differ = people[first] != people[second]
    first, second = first[differ], second[differ]
    blocks = np.array_split(np.arange(len(first)), max(1, len(first) // 1000))
    return np.concatenate(
        [np.einsum("nd,nd->n", own[first[rows]], other[second[rows]]) for other in (own, mirrored) for rows in blocks]
    )


def _random_pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    first = generator.integers(0, count, SAMPLED_PAIRS)
    return first, (first + generator.integers(1, count, SAMPLED_PAIRS)) % count


def _at_unit_length(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def _read_cache(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            copies = stored["copies"]
            if copies.ndim != 2 or copies.dtype != np.float16:
                return {}
            return dict(zip(stored["keys"].tolist(), copies, strict=True))
    except Exception:  # zip, zlib and numpy each have errors of their own; a damaged cache is made again
        return {}
