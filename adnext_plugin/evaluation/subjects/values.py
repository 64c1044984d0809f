"""Predicted numbers of subjects, such as their age, and how far they are from the truth."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pandas as pd

from adnext_plugin.evaluation.subjects.bias_correction import fit_bias_correction
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions, repeats_of_folds


@dataclass(frozen=True, kw_only=True)
class SubjectValues:
    """One predicted number per held-out subject, in the target's unit; if repeatedly held out, one for every time.

    All (N,): true `targets`, integer `folds`, predicted `values`, and `corrected` ones, without the linear dependence
    on the truth that the fold's `selection` part showed. `repeats` are numbers; None where there is one.
    """

    primary: ClassVar[str] = "mae"

    subject_ids: np.ndarray
    targets: np.ndarray
    folds: np.ndarray
    values: np.ndarray
    corrected: np.ndarray
    repeats: np.ndarray | None = None

    @property
    def strata(self) -> np.ndarray:
        """What resamples keep the numbers of, (N,): nothing but that of all."""
        return np.zeros(len(self.targets), dtype=int)

    def of_fold(self, fold: int) -> "SubjectValues":
        """Those of one fold."""
        return self.of_rows(self.folds == fold)

    def of_rows(self, rows: np.ndarray) -> "SubjectValues":
        """Some of them."""
        return replace(self, **{name: one[rows] for name, one in vars(self).items() if isinstance(one, np.ndarray)})

    @property
    def threshold(self) -> None:
        """There is nothing to decide."""


OfSubjects = SubjectPredictions | SubjectValues


def values_per_subject(predictions: pd.DataFrame) -> SubjectValues:
    """Average each subject's predictions, and true values, over their scans.

    Args:
        predictions: rows of the folds' predictions.csv, both parts.
    """
    keys = ["fold", "part", "subject_id"]
    means = predictions.groupby(keys, sort=True)[["target", "prediction"]].mean().astype(float).reset_index()
    held_out = means[means["part"] == "val"]
    corrected = held_out["prediction"].copy()
    for fold, rows in held_out.groupby("fold"):
        chosen_on = means[(means["part"] == "selection") & (means["fold"] == fold)]
        line = fit_bias_correction(chosen_on["target"].to_numpy(), chosen_on["prediction"].to_numpy())
        corrected[rows.index] = line.corrected(rows["target"].to_numpy(), rows["prediction"].to_numpy())
    return SubjectValues(
        subject_ids=held_out["subject_id"].to_numpy(),
        targets=held_out["target"].to_numpy(),
        folds=held_out["fold"].to_numpy(),
        values=held_out["prediction"].to_numpy(),
        corrected=corrected.to_numpy(),
        repeats=repeats_of_folds(predictions, held_out["fold"]),
    )


def rows_by_repeat(predictions: OfSubjects) -> list[np.ndarray]:
    """Indices of the predictions of each repeat, in order; one with all of them where nothing was repeated."""
    if predictions.repeats is None:
        return [np.arange(len(predictions.targets))]
    return [np.flatnonzero(predictions.repeats == repeat) for repeat in np.unique(predictions.repeats)]


def first_repeat(predictions: OfSubjects) -> OfSubjects:
    """One prediction per subject, whatever was repeated."""
    rows = rows_by_repeat(predictions)
    return predictions if len(rows) == 1 else predictions.of_rows(rows[0])
