"""Areas under ROC and precision-recall curves of classes, of the folds' own subjects and across folds."""

from collections.abc import Callable

import numpy as np

from adnext_plugin.evaluation.scores.thresholds import average_precision
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions

Area = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


def auc_mean_of_folds(predictions: SubjectPredictions, weights: np.ndarray) -> np.ndarray:
    """Mean of the folds' own areas, (R,)."""
    return _mean_of_folds(predictions, weights, auc)


def auc_pooled(predictions: SubjectPredictions, weights: np.ndarray) -> np.ndarray:
    """Area over subjects of all folds, whose networks may be on different scales, (R,)."""
    return auc(predictions.targets, predictions.probabilities, weights)


def auc_by_class(predictions: SubjectPredictions, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Each class against the rest, mean of folds: name of the class to (R,)."""

    def area_of(index: int) -> Area:
        return lambda targets, probabilities, rows: _class_auc(index, targets, probabilities, rows)

    return {name: _mean_of_folds(predictions, weights, area_of(k)) for k, name in enumerate(predictions.classes)}


def average_precision_mean_of_folds(predictions: SubjectPredictions, weights: np.ndarray) -> np.ndarray:
    """Mean over folds, and with more than two classes over each of them against the rest, (R,)."""
    classes = predictions.probabilities.shape[1]
    values = [
        average_precision(predictions.targets[rows] == index, predictions.probabilities[rows, index], weights[:, rows])
        for rows in (predictions.folds == fold for fold in np.unique(predictions.folds))
        for index in ([1] if classes == 2 else range(classes))
    ]
    return np.mean(values, axis=0)


def auc(targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve, (R,); with more than two classes one-vs-rest, unweighted mean over classes.

    NaN where a class is absent.
    """
    if probabilities.shape[1] == 2:
        return binary_auc(targets == 1, probabilities[:, 1], weights)
    return np.mean([_class_auc(k, targets, probabilities, weights) for k in range(probabilities.shape[1])], axis=0)


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


def _mean_of_folds(predictions: SubjectPredictions, weights: np.ndarray, area: Area) -> np.ndarray:
    by_fold = [
        area(predictions.targets[in_fold], predictions.probabilities[in_fold], weights[:, in_fold])
        for in_fold in (predictions.folds == fold for fold in np.unique(predictions.folds))
    ]
    return np.mean(by_fold, axis=0)


def _class_auc(index: int, targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return binary_auc(targets == index, probabilities[:, index], weights)
