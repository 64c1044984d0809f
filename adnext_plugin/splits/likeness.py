"""Recognising a person by the brain: coarse volumes of two scans of one person resemble each other like no two people.

A coarse copy is the network's input, moved so that the brain's centre of mass is in the middle, averaged over blocks of
about 8 mm, less its mean, at unit length. What many people share (size, pose in the box, site, age) is taken out as the
mean and the first principal components of the dataset; the likeness of two scans is the cosine of what remains.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
from scipy import ndimage
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from adnext_plugin.environment import usable_cpus
from adnext_plugin.files import replacing

CACHE_FILE = "audit_coarse_copies.npz"
BLOCK_MM = 8.0
SHARED_COMPONENTS = 10  # at most; one for ten scans in small datasets
# Between the largest cosine of distinct people and the smallest of one person's two sessions on OASIS-1 and IXI; see
# docs/audit.md
ALIKE = 0.6
DEVIATIONS = 6.0  # in small or uniform datasets, where chance alone goes beyond that
CERTAIN = 0.95  # alike enough in any dataset
SAMPLED_PAIRS = 100_000
FEWEST_SCANS = 5  # with fewer there is nothing to tell apart what people share


@dataclass(frozen=True, kw_only=True)
class Resemblance:
    """Pairs of scans that look like one person's, and what they were found among.

    `pairs` are indices, the most alike first, with their cosine. `strangers` are the cosines of 50, 99.9 and 100 % of
    the sampled pairs of scans with different ids that are below the threshold.
    """

    pairs: tuple[tuple[int, int, float], ...]
    threshold: float
    strangers: tuple[float, float, float]


def coarse_copy(volume_zyx: np.ndarray, spacing_mm: Sequence[float]) -> np.ndarray:
    """Means over blocks of about 8 mm of the centred volume, less their mean, at unit length; float16.

    Args:
        volume_zyx: a network input.
        spacing_mm: its voxel size, z, y, x.
    """
    factor = [max(1, round(BLOCK_MM / edge)) for edge in spacing_mm]
    room = [(0, -size % step) for size, step in zip(volume_zyx.shape, factor, strict=True)]
    padded = np.pad(_centred(volume_zyx), room)
    split = [part for size, step in zip(padded.shape, factor, strict=True) for part in (size // step, step)]
    means = padded.reshape(split).mean(axis=(1, 3, 5)).ravel()
    return _at_unit_length(means[None] - means.mean())[0].astype(np.float16)


def cached_coarse_copies(
    files: Sequence[Path],
    read_volume_zyx: Callable[[int], np.ndarray],
    spacing_mm: Sequence[float],
    cache: Path,
) -> np.ndarray:
    """Coarse copies of stored volumes, (N, blocks); only of files whose content is new.

    Args:
        files: one per case.
        read_volume_zyx: gives the volume of the k-th.
        spacing_mm: voxel size of all.
        cache: file that keeps copies by the hash of the stored file; written where it lacks one.
    """
    grid = "x".join(f"{edge:g}" for edge in spacing_mm)
    with ThreadPoolExecutor(usable_cpus()) as pool:
        keys = [f"{digest}-{grid}" for digest in pool.map(_digest, files)]
        known = _read_cache(cache)
        new = [index for index, key in enumerate(keys) if key not in known]
        if not new:
            return np.stack([known[key] for key in keys])
        made = pool.map(lambda index: coarse_copy(read_volume_zyx(index), spacing_mm), new)
        known |= {keys[index]: found for index, found in zip(new, made, strict=True)}
    copies = np.stack([known[key] for key in keys])
    with replacing(cache) as temporary, temporary.open("wb") as file:
        np.savez(file, keys=np.array(keys), copies=copies)
    return copies


def find_resemblance(copies: np.ndarray, people: Sequence[str]) -> Resemblance:
    """Pairs of scans of different people, by their ids, that look like one person's.

    The threshold is 0.6, or 6 robust standard deviations of what strangers have where that is more, but no more than
    0.95.

    Args:
        copies: (N, blocks).
        people: whose each is.
    """
    whose = np.asarray(people)
    if len(copies) < FEWEST_SCANS:
        return Resemblance(pairs=(), threshold=CERTAIN, strangers=(0.0, 0.0, 0.0))
    own = _without_what_is_shared(copies)
    cosines = _cosines_of_strangers(own, whose)
    deviation = 1.4826 * np.median(np.abs(cosines - np.median(cosines)))
    threshold = float(np.clip(np.median(cosines) + DEVIATIONS * deviation, ALIKE, CERTAIN))
    neighbours = NearestNeighbors(metric="cosine", algorithm="brute").fit(own)
    distances, found = neighbours.radius_neighbors(own, radius=1 - threshold)
    pairs = [
        (first, int(second), 1 - float(distance))
        for first in range(len(own))
        for second, distance in zip(found[first], distances[first], strict=True)
        if first < second and whose[first] != whose[second]
    ]
    below = cosines[cosines < threshold]
    middle, upper, largest = np.quantile(below, (0.5, 0.999, 1)).tolist() if len(below) else (0.0, 0.0, 0.0)
    return Resemblance(
        pairs=tuple(sorted(pairs, key=lambda pair: -pair[2])), threshold=threshold, strangers=(middle, upper, largest)
    )


def _centred(volume_zyx: np.ndarray) -> np.ndarray:
    """The volume with the centre of mass of its foreground in the middle; one stray voxel moves a box, but not that."""
    volume_zyx = volume_zyx.astype(np.float32)
    if not volume_zyx.any():
        return volume_zyx
    middle = (np.array(volume_zyx.shape) - 1) / 2
    return ndimage.shift(volume_zyx, middle - ndimage.center_of_mass(volume_zyx != 0), order=1)


def _without_what_is_shared(copies: np.ndarray) -> np.ndarray:
    """What sets each scan apart, (N, blocks) float32 at unit length."""
    ever_inside = np.ptp(copies, axis=0) > 0
    values = copies[:, ever_inside].astype(np.float32)
    count = min(SHARED_COMPONENTS, max(1, len(values) // 10))
    shared = PCA(count, svd_solver="randomized", random_state=0).fit(values)
    return _at_unit_length(values - shared.inverse_transform(shared.transform(values)))


def _cosines_of_strangers(own: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Cosines of pairs with different ids, all of them or a sample."""
    first, second = np.triu_indices(len(own), 1) if len(own) ** 2 <= 2 * SAMPLED_PAIRS else _random_pairs(len(own))
    differ = people[first] != people[second]
    first, second = first[differ], second[differ]
    blocks = np.array_split(np.arange(len(first)), max(1, len(first) // 1000))
    return np.concatenate([np.einsum("nd,nd->n", own[first[rows]], own[second[rows]]) for rows in blocks])


def _random_pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    first = generator.integers(0, count, SAMPLED_PAIRS)
    return first, (first + generator.integers(1, count, SAMPLED_PAIRS)) % count


def _at_unit_length(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return sha256(file.read()).hexdigest()


def _read_cache(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    try:
        with np.load(path, allow_pickle=False) as stored:
            return dict(zip(stored["keys"].tolist(), stored["copies"], strict=True))
    except (OSError, ValueError, KeyError):
        return {}  # a damaged cache is made again
