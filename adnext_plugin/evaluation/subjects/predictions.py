"""Predicted probabilities of subjects, and from which on a subject is called positive."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

from adnext_plugin.task import Task

REPEAT = "repeat"  # a column of the predictions of a repeated cross-validation


@dataclass(frozen=True, kw_only=True)
class SubjectPredictions:
    """One prediction per held-out subject; of a repeated cross-validation, one for every time.

    `targets` (N,) and `folds` (N,) are integers, `probabilities` (N, classes). `thresholds` (N,) is the probability of
    the positive (last of two) class from which the subject's fold calls it positive; NaN with more than two classes.
    `classes` are the names of the columns of `probabilities`. `repeats` (N,) are numbers; None where there is one.
    """

    primary: ClassVar[str] = "auc_mean_of_folds"

    subject_ids: np.ndarray
    targets: np.ndarray
    folds: np.ndarray
    probabilities: np.ndarray
    thresholds: np.ndarray
    classes: tuple[str, ...]
    repeats: np.ndarray | None = None

    @property
    def strata(self) -> np.ndarray:
        """What resamples keep the numbers of, (N,): subjects of a class.

        Not of a fold and class: one subject of a class in a fold would never vary.
        """
        return self.targets

    @property
    def called_at_threshold(self) -> np.ndarray:
        """Index of the one of two classes that each subject is called at the fold's threshold, (N,)."""
        return (self.probabilities[:, 1] >= self.thresholds).astype(int)

    @property
    def called(self) -> np.ndarray:
        """Index of the class that each subject is called, (N,): with more than two classes the most probable one."""
        return self.called_at_threshold if len(self.classes) == 2 else self.probabilities.argmax(axis=1)

    def of_fold(self, fold: int) -> "SubjectPredictions":
        """Those of one fold."""
        return self.of_rows(self.folds == fold)

    def of_rows(self, rows: np.ndarray) -> "SubjectPredictions":
        """Some of them."""
        return replace(self, **{name: one[rows] for name, one in vars(self).items() if isinstance(one, np.ndarray)})

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
        repeats=repeats_of_folds(predictions, held_out["fold"]),
    )


def repeats_of_folds(predictions: pd.DataFrame, folds: pd.Series) -> np.ndarray | None:
    """The repeats that folds belong to, (N,), as a column of predictions says; None where it has none."""
    if REPEAT not in predictions:
        return None
    of_fold = predictions.drop_duplicates("fold").set_index("fold")[REPEAT]
    return folds.map(of_fold).to_numpy()


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
