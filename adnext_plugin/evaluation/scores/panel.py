"""All scores of a classifier's probabilities and calls in one, for the data and for resamples alike."""

import numpy as np

from adnext_plugin.evaluation.scores.calibration import calibration_scores
from adnext_plugin.evaluation.scores.thresholds import average_precision, scores_of_calls
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions, all_scores


def panel(predictions: SubjectPredictions, weights: np.ndarray) -> dict[str, np.ndarray]:
    """`all_scores`, and average precision, F1, predictive values, Matthews' correlation and calibration.

    Average precision is the mean of the folds' own. Scores of calls that end in `_at_selection_threshold` are at the
    fold's threshold and exist for two classes only; the others are of the most probable class.

    Args:
        predictions: of N subjects.
        weights: (R, N), how often each subject is in each resample.

    Returns:
        Name to (R,), NaN where a resample has no value.
    """
    targets, probabilities = predictions.targets, predictions.probabilities
    classes = probabilities.shape[1]
    scores = {
        **scores_of_calls(targets, probabilities.argmax(axis=1), weights, classes),
        **calibration_scores(targets, probabilities, weights),
        "average_precision_mean_of_folds": _average_precision(predictions, weights),
    }
    if classes == 2:
        called = (probabilities[:, 1] >= predictions.thresholds).astype(int)
        at_threshold = scores_of_calls(targets, called, weights, classes)
        scores |= {f"{name}_at_selection_threshold": values for name, values in at_threshold.items()}
    return {**all_scores(predictions, weights), **scores}


def _average_precision(predictions: SubjectPredictions, weights: np.ndarray) -> np.ndarray:
    classes = predictions.probabilities.shape[1]
    values = [
        average_precision(predictions.targets[rows] == index, predictions.probabilities[rows, index], weights[:, rows])
        for rows in (predictions.folds == fold for fold in np.unique(predictions.folds))
        for index in ([1] if classes == 2 else range(classes))
    ]
    return np.mean(values, axis=0)
