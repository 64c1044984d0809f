"""Predictions of subjects, and the numbers that say how good they are, for the data and for resamples of it alike.

A resample is a row of weights: how often each subject was drawn. The data themselves are one row of ones. All numbers
are computed for many rows at once.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from adnext_plugin.records import Task


@dataclass(frozen=True, kw_only=True)
class SubjectPredictions:
    """One prediction per held-out subject.

    `targets` (N,) and `folds` (N,) are integers, `probabilities` (N, classes). `thresholds` (N,) is the probability of
    the positive (last of two) class from which the subject's fold calls it positive; NaN with more than two classes.
    """

    subject_ids: np.ndarray
    targets: np.ndarray
    folds: np.ndarray
    probabilities: np.ndarray
    thresholds: np.ndarray


def per_subject(predictions: pd.DataFrame, task: Task) -> SubjectPredictions:
    """Average each subject's predictions over their scans of one class.

    Args:
        predictions: rows of the folds' predictions.csv, both parts.
        task: names the classes.

    Returns:
        Predictions of the held-out part, by fold and subject. The threshold of a fold is Youden's on its `selection`
        part, 0.5 where that is empty or of one class.
    """
    columns = [f"prob_{name}" for name in task.classes]
    keys = ["fold", "part", "subject_id", "target"]
    means = predictions.groupby(keys, sort=True)[columns].mean().reset_index()
    held_out = means[means["part"] == "val"]
    thresholds = np.full(len(held_out), np.nan)
    if len(task.classes) == 2:
        for fold in held_out["fold"].unique():
            chosen_on = means[(means["part"] == "selection") & (means["fold"] == fold)]
            positive = (chosen_on["target"] == task.classes[1]).to_numpy()
            thresholds[held_out["fold"] == fold] = youden_threshold(positive, chosen_on[columns[1]].to_numpy())
    return SubjectPredictions(
        subject_ids=held_out["subject_id"].to_numpy(),
        targets=held_out["target"].map(task.classes.index).to_numpy(),
        folds=held_out["fold"].to_numpy(),
        probabilities=held_out[columns].to_numpy(),
        thresholds=thresholds,
    )


def youden_threshold(is_positive: np.ndarray, scores: np.ndarray) -> float:
    """The score from which to call positive so that sensitivity + specificity is largest.

    It lies halfway between two neighbouring scores; of equally good places the one nearest to 0.5 is taken, and 0.5 if
    a class is absent. Source: Youden 1950, Cancer 3:32.
    """
    if is_positive.all() or not is_positive.any():
        return 0.5
    false_rate, true_rate, thresholds = roc_curve(is_positive, scores, drop_intermediate=False)
    # roc_curve lists every score from the highest down, after an infinite one that calls nobody positive
    below = np.r_[thresholds[1:], thresholds[-1]]
    between = np.where(np.isinf(thresholds), below, (thresholds + below) / 2)
    gain = true_rate - false_rate
    best = np.flatnonzero(np.isclose(gain, gain.max()))
    return float(between[best[np.argmin(np.abs(between[best] - 0.5))]])


def all_scores(predictions: SubjectPredictions, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Every score for every resample.

    Args:
        predictions: of N subjects.
        weights: (R, N), how often each subject is in each resample.

    Returns:
        Name to (R,). `auc_mean_of_folds` averages the folds' own areas; `auc_pooled` compares subjects across folds,
        whose networks may be on different scales: the two are different numbers. Sensitivity and specificity are those
        of the positive class, and exist for two classes only. NaN where a resample has no value.
    """
    by_fold = [
        auc(predictions.targets[in_fold], predictions.probabilities[in_fold], weights[:, in_fold])
        for in_fold in (predictions.folds == fold for fold in np.unique(predictions.folds))
    ]
    scores = {
        "auc_mean_of_folds": np.mean(by_fold, axis=0),
        "auc_pooled": auc(predictions.targets, predictions.probabilities, weights),
        **_hit_rates(predictions, predictions.probabilities.argmax(axis=1), weights, ""),
    }
    if predictions.probabilities.shape[1] == 2:
        called = (predictions.probabilities[:, 1] >= predictions.thresholds).astype(int)
        scores |= _hit_rates(predictions, called, weights, "_at_selection_threshold")
    return scores


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


def _hit_rates(
    predictions: SubjectPredictions, called: np.ndarray, weights: np.ndarray, suffix: str
) -> dict[str, np.ndarray]:
    hits = weights * (called == predictions.targets)
    recalls = []
    for index in range(predictions.probabilities.shape[1]):
        members = predictions.targets == index
        total = weights[:, members].sum(axis=1)
        found = hits[:, members].sum(axis=1)
        recalls.append(np.divide(found, total, out=np.full(len(total), np.nan), where=total > 0))
    rates = {"accuracy": hits.sum(axis=1) / weights.sum(axis=1), "balanced_accuracy": np.mean(recalls, axis=0)}
    if len(recalls) == 2:
        rates |= {"specificity": recalls[0], "sensitivity": recalls[1]}
    return {f"{name}{suffix}": values for name, values in rates.items()}
