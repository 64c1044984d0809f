"""The interval of every score, each by one way: which one, docs/evaluation.md says.

Areas of two classes have theirs in closed form, proportions of subjects Wilson's, and all other scores that of
resamples of subjects, drawn within their class. So have all scores of a repeated cross-validation: closed forms would
count its people several times.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from adnext_plugin.evaluation.scores.panel import all_scores, panel
from adnext_plugin.evaluation.scores.score import Score
from adnext_plugin.evaluation.scores.table import AT_THRESHOLD, BUILT_IN, primary_score
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions
from adnext_plugin.evaluation.subjects.values import OfSubjects, rows_by_repeat
from adnext_plugin.evaluation.uncertainty.bootstrap import Estimate, Resamples, bootstrap
from adnext_plugin.evaluation.uncertainty.delong import area_interval, paired_test
from adnext_plugin.evaluation.uncertainty.proportions import proportions_of_calls


def resamples_of(predictions: OfSubjects, count: int = 2000, seed: int = 0) -> Resamples:
    """Resamples within each class, so that every one has the design of the study; not drawn yet."""
    return Resamples(subject_ids=predictions.subject_ids, strata=predictions.strata, count=count, seed=seed)


def estimates(predictions: OfSubjects, resamples: Resamples, scores: Sequence[Score] = BUILT_IN) -> dict[str, Estimate]:
    """Scores of any model, a baseline among them, with their intervals."""
    return _each_by_its_way(predictions, bootstrap(lambda rows: all_scores(predictions, rows, scores), resamples))


def panel_estimates(
    predictions: OfSubjects, resamples: Resamples, scores: Sequence[Score] = BUILT_IN
) -> dict[str, Estimate]:
    """All scores, those of the network alone among them, with their intervals."""
    return _each_by_its_way(predictions, bootstrap(lambda rows: panel(predictions, rows, scores), resamples))


def gain(ours: OfSubjects, theirs: OfSubjects, resamples: Resamples) -> Estimate:
    """How much better ours is than theirs, paired: both are scored on the same subjects.

    Of the primary score: by how much the area under the ROC curve is larger, or the mean absolute error smaller.
    """
    if not np.array_equal(ours.subject_ids, theirs.subject_ids):
        raise ValueError("a paired comparison needs the same subjects in the same order")
    has_closed_form = isinstance(ours, SubjectPredictions) and len(ours.classes) == 2 and len(rows_by_repeat(ours)) == 1
    if has_closed_form and isinstance(ours, SubjectPredictions) and isinstance(theirs, SubjectPredictions):
        test = paired_test(ours.targets == 1, ours.probabilities[:, 1], theirs.probabilities[:, 1], ours.folds)
        return Estimate(value=test.difference, low=test.low, high=test.high, note=test.note)
    primary = primary_score(ours)
    sign = -1 if primary.lower_is_better else 1

    def of(predictions: OfSubjects, weights: np.ndarray) -> np.ndarray:
        return panel(predictions, weights, (primary,))[primary.name]

    return bootstrap(lambda weights: {"gain": sign * (of(ours, weights) - of(theirs, weights))}, resamples)["gain"]


def _each_by_its_way(predictions: OfSubjects, found: dict[str, Estimate]) -> dict[str, Estimate]:
    if not isinstance(predictions, SubjectPredictions) or len(rows_by_repeat(predictions)) > 1:
        return found
    closed = {**_proportions(predictions), **_areas(predictions)}
    # values stay as they are: the other way to them differs by rounding
    return {name: replace(closed[name], value=one.value) if name in closed else one for name, one in found.items()}


def _areas(predictions: SubjectPredictions) -> dict[str, Estimate]:
    if len(predictions.classes) > 2:
        return {}
    is_positive, scores = predictions.targets == 1, predictions.probabilities[:, 1]
    found = {
        "auc_mean_of_folds": area_interval(is_positive, scores, predictions.folds),
        "auc_pooled": area_interval(is_positive, scores),
    }
    return {name: Estimate(value=it.value, low=it.low, high=it.high, note=it.note) for name, it in found.items()}


def _proportions(predictions: SubjectPredictions) -> dict[str, Estimate]:
    """Of the calls of the most probable class and, with two classes, of those at the folds' thresholds."""
    targets, classes = predictions.targets, predictions.classes
    found = proportions_of_calls(targets, predictions.probabilities.argmax(axis=1), classes)
    if len(classes) == 2:
        at_threshold = proportions_of_calls(targets, predictions.called_at_threshold, classes)
        found |= {f"{name}{AT_THRESHOLD}": one for name, one in at_threshold.items()}
    return found
