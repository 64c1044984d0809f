"""Scores of whom a classifier calls what: of the most probable class, and with two classes at the folds' thresholds."""

import numpy as np

from adnext_plugin.evaluation.scores.thresholds import scores_of_calls
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions


def hit_rates(predictions: SubjectPredictions, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Accuracies and the recall of every class, where the most probable class is called."""
    return _hit_rates(predictions, predictions.probabilities.argmax(axis=1), weights)


def recalls(predictions: SubjectPredictions, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Name of the class to the share of its subjects that are called so, (R,)."""
    found = _recalls(predictions, predictions.probabilities.argmax(axis=1), weights)
    return dict(zip(predictions.classes, found, strict=True))


def hit_rates_at_threshold(predictions: SubjectPredictions, weights: np.ndarray) -> dict[str, np.ndarray]:
    """The same of two classes at the folds' thresholds."""
    return _hit_rates(predictions, predictions.called_at_threshold, weights)


def of_calls(predictions: SubjectPredictions, weights: np.ndarray) -> dict[str, np.ndarray]:
    """`scores_of_calls` of the most probable class."""
    called = predictions.probabilities.argmax(axis=1)
    return scores_of_calls(predictions.targets, called, weights, predictions.probabilities.shape[1])


def of_calls_at_threshold(predictions: SubjectPredictions, weights: np.ndarray) -> dict[str, np.ndarray]:
    """`scores_of_calls` of two classes at the folds' thresholds."""
    return scores_of_calls(predictions.targets, predictions.called_at_threshold, weights, 2)


def _hit_rates(predictions: SubjectPredictions, called: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    by_class = _recalls(predictions, called, weights)
    accuracy = (weights * (called == predictions.targets)).sum(axis=1) / weights.sum(axis=1)
    rates = {"accuracy": accuracy, "balanced_accuracy": np.mean(by_class, axis=0)}
    if len(by_class) == 2:
        rates |= {"specificity": by_class[0], "sensitivity": by_class[1]}
    return rates


def _recalls(predictions: SubjectPredictions, called: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    hits = weights * (called == predictions.targets)
    found = []
    for index in range(predictions.probabilities.shape[1]):
        members = predictions.targets == index
        total = weights[:, members].sum(axis=1)
        of_class = hits[:, members].sum(axis=1)
        found.append(np.divide(of_class, total, out=np.full(len(total), np.nan), where=total > 0))
    return found
