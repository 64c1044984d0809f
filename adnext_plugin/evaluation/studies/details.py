"""What is said of a classifier beyond its scores: calibration, decisions, closed-form intervals."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from adnext_plugin.evaluation.scores.calibration import (
    Temperature,
    calibration_scores,
    fit_temperature,
    reliability_curve,
)
from adnext_plugin.evaluation.scores.decision_curve import decision_curve
from adnext_plugin.evaluation.scores.thresholds import (
    predictive_values,
    scores_of_calls,
    threshold_for_sensitivity,
)
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions, subject_means
from adnext_plugin.evaluation.uncertainty.bootstrap import Resamples, bootstrap
from adnext_plugin.evaluation.uncertainty.delong import area_interval
from adnext_plugin.evaluation.uncertainty.detectable import detectable_area
from adnext_plugin.evaluation.uncertainty.proportions import proportions_of_calls
from adnext_plugin.findings import BinaryDetails, ClassifierDetails
from adnext_plugin.task import Task


def describe_classifier(
    table: pd.DataFrame,
    network: SubjectPredictions,
    task: Task,
    resamples: Resamples,
    *,
    sensitivity: float,
    prevalences: Sequence[float],
) -> ClassifierDetails:
    """Describe what a cross-validated classifier's probabilities and calls are worth.

    Args:
        table: rows of all folds' predictions.csv, both parts.
        network: the same, by held-out subject.
        task: names the classes.
        resamples: of those subjects.
        sensitivity: that a threshold is to reach on `selection`.
        prevalences: shares of positives among people other than the cohort.

    Raises:
        SettingsError: the sensitivity or a prevalence is out of range.
    """
    means = subject_means(table, task)
    calibrated, temperatures = calibrate(means, network, task)
    binary = None
    if len(task.classes) == 2:
        binary = _describe_binary(means, network, calibrated, task, resamples, sensitivity, prevalences)
    return ClassifierDetails(
        temperatures=temperatures,
        calibration_after_temperature=bootstrap(
            partial(calibration_scores, calibrated.targets, calibrated.probabilities), resamples
        ),
        binary=binary,
    )


def calibrate(
    means: pd.DataFrame, network: SubjectPredictions, task: Task
) -> tuple[SubjectPredictions, tuple[Temperature, ...]]:
    """Divide every fold's logits by the temperature that its `selection` part asks for.

    Args:
        means: `subject_means` of all folds' predictions.
        network: held-out subjects, uncalibrated.
        task: names the classes.

    Returns:
        Held-out subjects with calibrated probabilities and thresholds, and the folds' temperatures.
    """
    probabilities, thresholds, found = network.probabilities.copy(), network.thresholds.copy(), []
    for fold in np.unique(network.folds):
        targets, chosen_on = _selection(means, fold, task)
        temperature = fit_temperature(_logits(chosen_on), targets)
        rows = network.folds == fold
        probabilities[rows] = temperature.probabilities(_logits(probabilities[rows]))
        if len(task.classes) == 2:
            both = np.stack([1 - thresholds[rows], thresholds[rows]], axis=1)
            thresholds[rows] = temperature.probabilities(_logits(both))[:, 1]
        found.append(temperature)
    return replace(network, probabilities=probabilities, thresholds=thresholds), tuple(found)


def _describe_binary(
    means: pd.DataFrame,
    network: SubjectPredictions,
    calibrated: SubjectPredictions,
    task: Task,
    resamples: Resamples,
    sensitivity: float,
    prevalences: Sequence[float],
) -> BinaryDetails:
    is_positive, scores = network.targets == 1, network.probabilities[:, 1]
    called = scores >= network.thresholds
    thresholds = np.empty(len(scores))
    for fold in np.unique(network.folds):
        targets, chosen_on = _selection(means, fold, task)
        thresholds[network.folds == fold] = threshold_for_sensitivity(targets == 1, chosen_on[:, 1], sensitivity)
    called_sensitively = (scores >= thresholds).astype(int)
    hits, rejections = int((called & is_positive).sum()), int((~called & ~is_positive).sum())
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    return BinaryDetails(
        delong=area_interval(is_positive, scores, network.folds),
        wilson=proportions_of_calls(network.targets, called.astype(int), task.classes),
        reliability=reliability_curve(is_positive, scores),
        reliability_after_temperature=reliability_curve(is_positive, calibrated.probabilities[:, 1]),
        decision_curve=decision_curve(is_positive, calibrated.probabilities[:, 1], resamples),
        wanted_sensitivity=sensitivity,
        at_sensitivity={
            **bootstrap(lambda weights: scores_of_calls(network.targets, called_sensitively, weights, 2), resamples),
            **proportions_of_calls(network.targets, called_sensitively, task.classes),
        },
        predictive_values=predictive_values(hits / max(1, positives), rejections / max(1, negatives), prevalences),
        detectable_area=detectable_area(positives, negatives),
    )


def _selection(means: pd.DataFrame, fold: int, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """Class indices and probabilities of a fold's `selection` subjects."""
    rows = means[(means["part"] == "selection") & (means["fold"] == fold)]
    targets = rows["target"].map(task.classes.index).to_numpy(dtype=int)
    return targets, rows[[f"prob_{name}" for name in task.classes]].to_numpy()


def _logits(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.clip(probabilities, np.finfo(float).tiny, 1))
