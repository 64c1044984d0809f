"""Predictions of subjects, and the numbers that say how good they are, for the data and for resamples of it alike.

A resample is a row of weights: how often each subject was drawn. The data themselves are one row of ones. All numbers
are computed for many rows at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from adnext_plugin.task import Task

Area = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class SubjectPredictions:
    """One prediction per held-out subject.

    `targets` (N,) and `folds` (N,) are integers, `probabilities` (N, classes). `thresholds` (N,) is the probability of
    the positive (last of two) class from which the subject's fold calls it positive; NaN with more than two classes.
    `classes` are the names of the columns of `probabilities`.
    """

    primary: ClassVar[str] = "auc_mean_of_folds"
    lower_is_better: ClassVar[bool] = False

    subject_ids: np.ndarray
    targets: np.ndarray
    folds: np.ndarray
    probabilities: np.ndarray
    thresholds: np.ndarray
    classes: tuple[str, ...]

    @property
    def strata(self) -> np.ndarray:
        """What resamples keep the numbers of, (N,): subjects of a fold and class."""
        _, fold = np.unique(self.folds, return_inverse=True)
        return fold * len(self.classes) + self.targets

    def scores(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """Every score for every row of weights (R, N): name to (R,)."""
        return all_scores(self, weights)

    def of_fold(self, fold: int) -> "SubjectPredictions":
        """Those of one fold."""
        rows = self.folds == fold
        parts = {name: values[rows] for name, values in vars(self).items() if name != "classes"}
        return SubjectPredictions(**parts, classes=self.classes)

    def fold_scores(self) -> dict[str, float]:
        """Scores by the names they have within one fold, where mean of folds and pooled area are the same."""
        found = {name: float(values[0]) for name, values in self.scores(np.ones((1, len(self.targets)))).items()}
        del found["auc_pooled"]
        return {name.removesuffix("_mean_of_folds"): value for name, value in found.items()}

    @property
    def threshold(self) -> float | None:
        """Of one fold; None with more than two classes."""
        return None if np.isnan(self.thresholds[0]) else float(self.thresholds[0])


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
    means = subject_means(predictions, task)
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
        classes=task.classes,
    )


def subject_means(predictions: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Mean probabilities of each subject's scans of one class: `fold, part, subject_id, target, prob_...`, sorted."""
    columns = [f"prob_{name}" for name in task.classes]
    keys = ["fold", "part", "subject_id", "target"]
    return predictions.groupby(keys, sort=True)[columns].mean().reset_index()


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
        of the positive class, and exist for two classes only; more classes have an area and a recall each. NaN where a
        resample has no value.
    """
    scores = {
        "auc_mean_of_folds": _mean_of_folds(predictions, weights, auc),
        "auc_pooled": auc(predictions.targets, predictions.probabilities, weights),
        **_areas_of_classes(predictions, weights),
        **_hit_rates(predictions, predictions.probabilities.argmax(axis=1), weights, ""),
    }
    if predictions.probabilities.shape[1] == 2:
        called = (predictions.probabilities[:, 1] >= predictions.thresholds).astype(int)
        scores |= _hit_rates(predictions, called, weights, "_at_selection_threshold")
    return scores


def _mean_of_folds(predictions: SubjectPredictions, weights: np.ndarray, area: Area) -> np.ndarray:
    by_fold = [
        area(predictions.targets[in_fold], predictions.probabilities[in_fold], weights[:, in_fold])
        for in_fold in (predictions.folds == fold for fold in np.unique(predictions.folds))
    ]
    return np.mean(by_fold, axis=0)


def _areas_of_classes(predictions: SubjectPredictions, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Each class against the rest, where there are more than two."""
    if len(predictions.classes) == 2:
        return {}
    return {
        f"auc_of_{name}_mean_of_folds": _mean_of_folds(predictions, weights, partial(_class_auc, index))
        for index, name in enumerate(predictions.classes)
    }


def _class_auc(index: int, targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return binary_auc(targets == index, probabilities[:, index], weights)


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
    else:
        rates |= {f"recall_of_{name}": recall for name, recall in zip(predictions.classes, recalls, strict=True)}
    return {f"{name}{suffix}": values for name, values in rates.items()}
