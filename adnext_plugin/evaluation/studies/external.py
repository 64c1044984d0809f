"""Predictions for an external dataset, judged by what was fixed before it was seen."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from adnext_plugin.cohort import Cohort
from adnext_plugin.evaluation.scores.panel import names_within_fold
from adnext_plugin.evaluation.scores.score import Score
from adnext_plugin.evaluation.scores.table import BUILT_IN
from adnext_plugin.evaluation.studies.baselines import Baseline, cross_validate, predict_others
from adnext_plugin.evaluation.subjects.bias_correction import fit_bias_correction
from adnext_plugin.evaluation.subjects.predictions import per_subject
from adnext_plugin.evaluation.subjects.values import OfSubjects, values_per_subject
from adnext_plugin.evaluation.uncertainty.bootstrap import Resamples
from adnext_plugin.evaluation.uncertainty.intervals import estimates, gain
from adnext_plugin.findings import BaselineResult
from adnext_plugin.task import Task


def judge_baseline(baseline: Baseline, cohort: Cohort, others: pd.DataFrame, task: Task) -> OfSubjects:
    """Predictions of a baseline for other people, judged as the network's are: by what was fixed before.

    It is fitted on the whole cohort. Its threshold, or bias correction, is the mean of those of the folds' baselines,
    each chosen on the fold's `selection` part.

    Args:
        baseline: of the cohort.
        cohort: trained on.
        others: rows of the external dataset's `subjects.csv`.
        task: of that dataset.
    """
    own = cross_validate(baseline, cohort)
    thresholds: list[float | None] = []
    if task.kind == "classification":
        judged = per_subject(own, cohort.task)
        thresholds = [judged.of_fold(fold).threshold for fold in np.unique(judged.folds)]
    return judge_external(predict_others(baseline, cohort, others, task), own, thresholds, task)


def compare_with_baselines(
    network: OfSubjects,
    baselines: Sequence[Baseline],
    cohort: Cohort,
    others: pd.DataFrame,
    task: Task,
    resamples: Resamples,
    scores: Sequence[Score] = BUILT_IN,
) -> tuple[BaselineResult, ...]:
    """Scores of baselines on other people, by the names they have within one fold, and the network's gain over each.

    Args:
        network: its judged predictions for those people.
        baselines: of the cohort.
        cohort: trained on.
        others: rows of the external dataset's `subjects.csv`.
        task: of that dataset.
        resamples: of those people.
        scores: to compute.
    """
    results = []
    for baseline in baselines:
        judged = judge_baseline(baseline, cohort, others, task)
        found, names = estimates(judged, resamples, scores), names_within_fold(judged, scores)
        results.append(
            BaselineResult(
                name=baseline.name,
                scores={names[of_folds]: one for of_folds, one in found.items() if of_folds in names},
                gain_of_network=gain(network, judged, resamples),
            )
        )
    return tuple(results)


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
