"""ROC and precision-recall curves of all held-out subjects, with bands over resamples of subjects."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from adnext_plugin.evaluation.uncertainty.bootstrap import Resamples, tail
from adnext_plugin.subjects import FEWEST_OF_A_CLASS

GRID = tuple(np.linspace(0, 1, 101).round(2).tolist())


@dataclass(frozen=True, kw_only=True)
class Band:
    """A curve over `GRID`, and pointwise 95 % limits; NaN where no resample has a value or a class too few people."""

    value: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]


def roc_band(is_positive: np.ndarray, scores: np.ndarray, resamples: Resamples) -> Band:
    """Sensitivity over 1 - specificity, straight between neighbouring scores.

    Args:
        is_positive: (N,) booleans.
        scores: (N,), the higher the more likely positive.
        resamples: of the N rows.
    """
    return _band(_roc_rows, is_positive, scores, resamples)


def precision_recall_band(is_positive: np.ndarray, scores: np.ndarray, resamples: Resamples) -> Band:
    """Precision over recall: that of the highest threshold which reaches the recall, without interpolation."""
    return _band(_precision_rows, is_positive, scores, resamples)


def _band(rows_of, is_positive: np.ndarray, scores: np.ndarray, resamples: Resamples) -> Band:
    value = np.stack(list(rows_of(is_positive, scores, np.ones((1, len(scores))))))[0]
    if resamples.fewest < FEWEST_OF_A_CLASS:
        nothing = (np.nan,) * len(GRID)
        return Band(value=tuple(value.tolist()), low=nothing, high=nothing)
    drawn = np.stack([row for block in resamples.blocks() for row in rows_of(is_positive, scores, block)])
    beyond = tail(resamples.fewest)
    low, high = np.nanquantile(drawn, (beyond, 1 - beyond), axis=0)
    return Band(value=tuple(value.tolist()), low=tuple(low.tolist()), high=tuple(high.tolist()))


def _roc_rows(is_positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> Iterator[np.ndarray]:
    for hits, alarms in _counts(is_positive, scores, weights):
        yield np.interp(GRID, np.r_[0, alarms / alarms[-1]], np.r_[0, hits / hits[-1]])


def _precision_rows(is_positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> Iterator[np.ndarray]:
    for hits, alarms in _counts(is_positive, scores, weights):
        # the highest thresholds may call nobody of a resample
        called = np.flatnonzero(hits + alarms > 0)
        precision = hits[called] / (hits + alarms)[called]
        yield precision[np.searchsorted(hits[called] / hits[-1], np.array(GRID) - 1e-12).clip(max=len(called) - 1)]


def _counts(
    is_positive: np.ndarray, scores: np.ndarray, weights: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Per resample the weight of true and of false positives from each distinct score on, the highest first."""
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.r_[np.diff(scores[order]) < 0, True])
    hits = np.cumsum(weights[:, order] * is_positive[order], axis=1)[:, ends]
    alarms = np.cumsum(weights[:, order] * ~is_positive[order], axis=1)[:, ends]
    yield from zip(hits, alarms, strict=True)
