"""Predictions for an external dataset, judged by what was fixed before it was seen."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from adnext_plugin.evaluation.subjects.bias_correction import fit_bias_correction
from adnext_plugin.evaluation.subjects.predictions import per_subject
from adnext_plugin.evaluation.subjects.values import OfSubjects, values_per_subject
from adnext_plugin.task import Task


def judge_external(
    predictions: pd.DataFrame, own_predictions: pd.DataFrame, thresholds: Sequence[float | None], task: Task
) -> OfSubjects:
    """Predictions of an ensemble of folds, with thresholds and bias correction frozen.

    Args:
        predictions: the ensemble's, as rows of one fold's `val` part.
        own_predictions: rows of all folds' predictions.csv, of the dataset that was trained on.
        thresholds: each fold's, chosen on its `selection` part, of calibrated probabilities; the ensemble decides by
            their mean.
        task: of the external dataset.
    """
    if task.kind == "classification":
        judged = per_subject(predictions, task)
        if len(task.classes) == 2:
            mean = np.mean([one for one in thresholds if one is not None])
            judged = replace(judged, thresholds=np.full(len(judged.targets), mean))
        return judged
    values = values_per_subject(predictions)
    selection = own_predictions[own_predictions["part"] == "selection"]
    lines = [
        fit_bias_correction(rows["target"].to_numpy(), rows["prediction"].to_numpy())
        for _, rows in selection.groupby("fold")
    ]
    corrected = np.mean([line.corrected(values.targets, values.values) for line in lines], axis=0)
    return replace(values, corrected=corrected)
