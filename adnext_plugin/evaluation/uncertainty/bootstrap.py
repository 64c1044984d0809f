"""Resamples of subjects, drawn in blocks, so that memory does not grow with their number or with the cohort.

Percentiles of resamples are too narrow for few people: they lack the factor n / (n - 1) of a variance, and know no
Student's t. Those taken here lie as much farther out as the fewest subjects of a class ask for.

Source of these expanded percentiles: Hesterberg 2015, Am Stat 69:371, section 4.3.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm, t

from adnext_plugin.findings import Estimate
from adnext_plugin.subjects import FEWEST_OF_A_CLASS

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

    @property
    def fewest(self) -> int:
        """Subjects of the stratum that has fewest."""
        pairs = {*zip(self.subject_ids.tolist(), self.strata.tolist(), strict=True)}
        return min(Counter(stratum for _, stratum in pairs).values(), default=0)

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
    """All scores of the data, with 95 % intervals of expanded percentiles over resamples.

    Args:
        scores: function of weights (R, N) that gives every score for each of the R rows.
        resamples: of the N rows of data.
    """
    values = scores(np.ones((1, len(resamples.subject_ids))))
    drawn = drawn_scores(scores, resamples)
    fewest = resamples.fewest
    return {name: estimate(values[name][0], drawn[name], fewest) for name in values}


def drawn_scores(scores: Callable[[np.ndarray], Scores], resamples: Resamples) -> Scores:
    """What a function of weights gives for every resample, called block by block; name to (R,)."""
    parts = [scores(block) for block in resamples.blocks()]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def estimate(value: float, drawn: np.ndarray, fewest: int) -> Estimate:
    """A value with the interval of what resamples gave; those without a value are left out.

    There is none where a class has too few subjects, where all resamples give the same, as of a score that the numbers
    of the classes fix, and where so many lie to one side of the value that the interval would not contain it, as of
    scores of calibration in small cohorts.

    Args:
        value: of the data.
        drawn: of the resamples, (R,).
        fewest: subjects of the class that has fewest.
    """
    if not np.isfinite(value) or not np.isfinite(drawn).any():
        return Estimate(value=None, low=None, high=None, note="not defined for these subjects")
    value = float(value)
    if fewest < FEWEST_OF_A_CLASS:
        return Estimate(value=value, low=None, high=None, note=too_few(fewest))
    low, high = (float(limit) for limit in np.nanquantile(drawn, (tail(fewest), 1 - tail(fewest))))
    rounding = 1e-12 * max(abs(low), abs(high))
    if high - low <= rounding:
        return Estimate(value=value, low=None, high=None, note="no interval: the same in nearly every resample")
    if not low - rounding <= value <= high + rounding:
        return Estimate(value=value, low=None, high=None, note="no interval: resamples lie to one side of the value")
    return Estimate(value=value, low=min(low, value), high=max(high, value))


def tail(people: int) -> float:
    """Share of resamples below, and above, an interval, when as many subjects were resampled.

    Where normal percentiles lie on a standard deviation that lacks n / (n - 1), it gives Student's limits.
    """
    wanted = t.ppf((1 + CONFIDENCE) / 2, people - 1)
    return float(norm.cdf(-wanted * np.sqrt(people / (people - 1))))


def level(share_beyond: float, people: int) -> float:
    """Two-sided level at which an interval over resamples ends where this share of them lies beyond."""
    return float(min(1.0, 2 * t.sf(-norm.ppf(share_beyond) * np.sqrt((people - 1) / people), people - 1)))


def too_few(people: int) -> str:
    """Why there is no interval."""
    return f"no interval: {people} subjects, of a class or in all, are fewer than {FEWEST_OF_A_CLASS}"


def _times_drawn(people: int, resamples: int, generator: np.random.Generator) -> np.ndarray:
    """How often each of `people` comes up in as many draws with replacement, (resamples, people)."""
    drawn = generator.integers(people, size=(resamples, people))
    drawn += np.arange(resamples)[:, None] * people
    return np.bincount(drawn.ravel(), minlength=resamples * people).reshape(resamples, people)
