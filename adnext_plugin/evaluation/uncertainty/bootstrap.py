"""Resamples of subjects, drawn in blocks, so that memory does not grow with their number or with the cohort."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from adnext_plugin.findings import Estimate

CONFIDENCE = 0.95
BLOCK_ELEMENTS = 500_000  # weights held at a time, 4 MB: a block and what is computed from it fit a processor's cache

Scores = dict[str, np.ndarray]  # name to (R,), one value per resample


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """How often each row is drawn in each resample; drawn anew, and alike, whenever it is iterated over.

    Subjects are drawn with replacement within their stratum, as many as it has, and bring all their rows. A subject
    whose rows lie in several strata belongs to the combination of them.

    `subject_ids` (N,) and `strata` (N,) are of the rows; any sortable values.
    """

    subject_ids: np.ndarray
    strata: np.ndarray
    count: int = 2000
    seed: int = 0

    def blocks(self) -> Iterator[np.ndarray]:
        """Weights of consecutive resamples, (rows of the block, N) float64. How they are cut does not change them."""
        groups = self._groups()
        # a generator of its own for each stratum, so that every one can be drawn on from block to block
        generators = np.random.default_rng(self.seed).spawn(len(groups))
        rows = max(1, BLOCK_ELEMENTS // max(1, len(self.subject_ids)))
        for start in range(0, self.count, rows):
            weights = np.zeros((min(rows, self.count - start), len(self.subject_ids)))
            for (members, owner), generator in zip(groups, generators, strict=True):
                weights[:, members] = _times_drawn(int(owner.max()) + 1, len(weights), generator)[:, owner]
            yield weights

    def _groups(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per stratum of subjects: its rows, and which of its subjects (0, 1, ...) each row is of."""
        _, subject_of_row = np.unique(self.subject_ids, return_inverse=True)
        _, stratum_of_row = np.unique(self.strata, return_inverse=True)
        strata_of: dict[int, list[int]] = {}
        for subject, stratum in sorted(zip(subject_of_row.tolist(), stratum_of_row.tolist(), strict=True)):
            strata_of.setdefault(subject, []).append(stratum)
        kinds = {kind: number for number, kind in enumerate(sorted({tuple(kind) for kind in strata_of.values()}))}
        kind_of_row = np.array([kinds[tuple(strata_of[subject])] for subject in subject_of_row.tolist()], dtype=int)
        members = [np.flatnonzero(kind_of_row == kind) for kind in range(len(kinds))]
        return [(rows, np.unique(subject_of_row[rows], return_inverse=True)[1]) for rows in members]


def bootstrap(scores: Callable[[np.ndarray], Scores], resamples: Resamples) -> dict[str, Estimate]:
    """All scores of the data, with 95 % percentile intervals over resamples.

    Args:
        scores: function of weights (R, N) that gives every score for each of the R rows.
        resamples: of the N rows of data.
    """
    values = scores(np.ones((1, len(resamples.subject_ids))))
    drawn = drawn_scores(scores, resamples)
    return {name: estimate(values[name][0], drawn[name]) for name in values}


def drawn_scores(scores: Callable[[np.ndarray], Scores], resamples: Resamples) -> Scores:
    """What a function of weights gives for every resample, called block by block; name to (R,)."""
    parts = [scores(block) for block in resamples.blocks()]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def estimate(value: float, drawn: np.ndarray) -> Estimate:
    """A value with the percentile interval of what resamples gave, (R,); resamples without a value are left out."""
    if not np.isfinite(value) or not np.isfinite(drawn).any():
        return Estimate(value=None, low=None, high=None)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(drawn, (tail, 1 - tail))
    return Estimate(value=float(value), low=float(low), high=float(high))


def _times_drawn(people: int, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """How often each of `people` comes up in as many draws with replacement, (resamples, people)."""
    drawn = generator.integers(people, size=(resamples, people))
    drawn += np.arange(resamples)[:, None] * people
    return np.bincount(drawn.ravel(), minlength=resamples * people).reshape(resamples, people)
