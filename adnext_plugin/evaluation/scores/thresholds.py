"""Calls made from probabilities: how good they are at a threshold, and thresholds chosen for a purpose.

Youden's threshold is `subjects.predictions.youden_threshold`.
"""

from collections.abc import Sequence

import numpy as np

from adnext_plugin.errors import SettingsError
from adnext_plugin.findings import PredictiveValues


def threshold_for_sensitivity(is_positive: np.ndarray, scores: np.ndarray, sensitivity: float) -> float:
    """The highest threshold from which to call positive that reaches a sensitivity on the `selection` part.

    It lies halfway between two neighbouring scores; 0.5 if nobody is positive.

    Raises:
        SettingsError: the sensitivity is not above 0 and at most 1.
    """
    if not 0 < sensitivity <= 1:
        raise SettingsError(f"a sensitivity must be above 0 and at most 1, got {sensitivity}")
    if not is_positive.any():
        return 0.5
    levels = np.unique(scores)[::-1]
    found = (scores[is_positive] >= levels[:, None]).mean(axis=1)
    first = int(np.argmax(found >= sensitivity - 1e-12))
    return float((levels[first] + levels[min(first + 1, len(levels) - 1)]) / 2)


def scores_of_calls(
    targets: np.ndarray, called: np.ndarray, weights: np.ndarray, classes: int
) -> dict[str, np.ndarray]:
    """Sensitivity, specificity, predictive values, F1 and Matthews' correlation of calls.

    With two classes those of the positive (last) one, with more the unweighted mean of every class against the rest.
    Matthews' correlation is of all classes together (Gorodkin 2004, Comput Biol Chem 28:367).

    Args:
        targets: (N,) integers.
        called: (N,) integers.
        weights: (R, N).
        classes: how many there are.

    Returns:
        Name to (R,); NaN where a denominator is 0, such as a predictive value where nobody is called so.
    """
    cells = np.zeros((len(targets), classes**2))
    cells[np.arange(len(targets)), targets * classes + called] = 1
    table = (weights @ cells).reshape(-1, classes, classes)  # true class, called class
    total, true, calls = table.sum(axis=(1, 2))[:, None], table.sum(axis=2), table.sum(axis=1)
    hits = np.diagonal(table, axis1=1, axis2=2)
    rejections = total - true - calls + hits
    by_class = {
        "sensitivity": _ratio(hits, true),
        "specificity": _ratio(rejections, total - true),
        "ppv": _ratio(hits, calls),
        "npv": _ratio(rejections, total - calls),
        "f1": _ratio(2 * hits, true + calls),
    }
    agreement = hits.sum(axis=1) * total[:, 0] - (true * calls).sum(axis=1)
    spread = (total[:, 0] ** 2 - (true**2).sum(axis=1)) * (total[:, 0] ** 2 - (calls**2).sum(axis=1))
    means = {name: values[:, 1] if classes == 2 else values.mean(axis=1) for name, values in by_class.items()}
    return {**means, "mcc": _ratio(agreement, np.sqrt(spread))}


def average_precision(is_positive: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean precision over the steps of recall, without interpolation, (R,); NaN where nobody is positive."""
    order = np.argsort(-scores, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) < 0])
    ordered = weights[:, order]
    positives = np.add.reduceat(ordered * is_positive[order], starts, axis=1)
    called = np.cumsum(np.add.reduceat(ordered, starts, axis=1), axis=1)
    precision = np.divide(np.cumsum(positives, axis=1), called, out=np.zeros_like(called), where=called > 0)
    return _ratio((positives * precision).sum(axis=1), positives.sum(axis=1))


def predictive_values(
    sensitivity: float, specificity: float, prevalences: Sequence[float]
) -> tuple[PredictiveValues, ...]:
    """Predictive values by Bayes' rule among people other than the cohort, of whom other shares are positive.

    Raises:
        SettingsError: a prevalence is not between 0 and 1.
    """
    found = []
    for prevalence in prevalences:
        if not 0 <= prevalence <= 1:
            raise SettingsError(f"a prevalence must be between 0 and 1, got {prevalence}")
        true_positive, false_positive = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
        true_negative, false_negative = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
        positive, negative = true_positive + false_positive, true_negative + false_negative
        ppv = true_positive / positive if positive else None
        npv = true_negative / negative if negative else None
        found.append(PredictiveValues(prevalence=prevalence, ppv=ppv, npv=npv))
    return tuple(found)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)
