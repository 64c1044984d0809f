"""Areas under ROC and precision-recall curves of classes, of the folds' own subjects and across folds."""

from collections.abc import Iterator

import numpy as np

from adnext_plugin.evaluation.scores.thresholds import average_precision
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions


def auc_mean_of_folds(predictions: SubjectPredictions, weights: np.ndarray) -> np.ndarray:
    """Mean of the folds' own areas, (R,); with more than two classes the mean of every class against the rest."""
    areas, shares = _areas_of_folds(predictions, weights)
    return _as_drawn(areas.mean(axis=1).mean(axis=0), areas, shares)


def auc_pooled(predictions: SubjectPredictions, weights: np.ndarray) -> np.ndarray:
    """Area over subjects of all folds, whose networks may be on different scales, (R,)."""
    return auc(predictions.targets, predictions.probabilities, weights)


def auc_by_class(predictions: SubjectPredictions, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Each class against the rest, mean of folds: name of the class to (R,)."""
    areas, shares = _areas_of_folds(predictions, weights)
    return {
        name: _as_drawn(areas[:, index].mean(axis=0), areas[:, [index]], shares[:, [index]])
        for index, name in enumerate(predictions.classes)
    }


def average_precision_mean_of_folds(predictions: SubjectPredictions, weights: np.ndarray) -> np.ndarray:
    """Mean over folds, and with more than two classes over each of them against the rest, (R,)."""
    values, shares = [], []
    for of_class, scores, drawn in _folds_and_classes(predictions, weights):
        values.append(average_precision(of_class, scores, drawn))
        shares.append(_share(drawn[:, of_class].sum(axis=1), of_class.sum()))
    return _as_drawn(np.mean(values, axis=0), _by_fold(predictions, values), _by_fold(predictions, shares))


def auc(targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, (R,); with more than two classes one-vs-rest, unweighted mean over classes.

    NaN where a class is absent.
    """
    if probabilities.shape[1] == 2:
        return binary_auc(targets == 1, probabilities[:, 1], weights)
    classes = range(probabilities.shape[1])
    return np.mean([binary_auc(targets == k, probabilities[:, k], weights) for k in classes], axis=0)


def binary_auc(is_positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Chance that a positive scores higher than a negative, ties counting half, for each row of weights; (R,)."""
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    ordered = weights[:, order]
    positives = np.add.reduceat(ordered * is_positive[order], starts, axis=1)
    negatives = np.add.reduceat(ordered * ~is_positive[order], starts, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives
    wins = (positives * (below + negatives / 2)).sum(axis=1)
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    return np.divide(wins, pairs, out=np.full(len(wins), np.nan), where=pairs > 0)


def _areas_of_folds(predictions: SubjectPredictions, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas (folds, classes, R) of every class against the rest, and how many of their pairs were drawn, over all."""
    areas, shares = [], []
    for of_class, scores, drawn in _folds_and_classes(predictions, weights):
        areas.append(binary_auc(of_class, scores, drawn))
        pairs = drawn[:, of_class].sum(axis=1) * drawn[:, ~of_class].sum(axis=1)
        shares.append(_share(pairs, of_class.sum() * (~of_class).sum()))
    return _by_fold(predictions, areas), _by_fold(predictions, shares)


def _folds_and_classes(
    predictions: SubjectPredictions, weights: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each fold, and in it each class (of two the positive one): who is of it, their scores, and their weights."""
    for fold in np.unique(predictions.folds):
        rows = predictions.folds == fold
        for index in [1] if len(predictions.classes) == 2 else range(len(predictions.classes)):
            yield predictions.targets[rows] == index, predictions.probabilities[rows, index], weights[:, rows]


def _by_fold(predictions: SubjectPredictions, values: list[np.ndarray]) -> np.ndarray:
    """What is in the order of `_folds_and_classes`, as (folds, classes, R)."""
    folds = len(np.unique(predictions.folds))
    return np.stack(values).reshape(folds, len(values) // folds, -1)


def _share(drawn: np.ndarray, there: int) -> np.ndarray:
    return drawn / there if there else np.full(len(drawn), np.nan)


def _as_drawn(plain: np.ndarray, scores: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Mean over folds, and then over classes, in which a fold of a resample counts as it was drawn, (R,).

    Resamples do not keep the numbers of a class in a fold. A fold that got twice its pairs counts twice and one
    without any not at all, so that a subject counts as often as it was drawn, whatever its fold.

    Args:
        plain: the mean (R,) in which all folds count the same: that of the data themselves.
        scores: (folds, classes, R); NaN where a resample has none.
        shares: (folds, classes, R), what was drawn over what there is; NaN where there is nothing.
    """
    found = np.where(shares == 0, 0, scores)
    total = shares.sum(axis=0)
    weighted = np.divide((found * shares).sum(axis=0), total, out=np.full(total.shape, np.nan), where=total > 0)
    return np.where((shares == 1).all(axis=(0, 1)), plain, weighted.mean(axis=0))
