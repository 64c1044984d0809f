"""Bootstrap intervals of all scores: subjects are drawn anew within what the design of the study fixes."""

from collections.abc import Sequence

import numpy as np

from adnext_plugin.evaluation.scores.panel import all_scores, panel
from adnext_plugin.evaluation.scores.score import Score
from adnext_plugin.evaluation.scores.table import BUILT_IN, primary_score
from adnext_plugin.evaluation.subjects.values import OfSubjects
from adnext_plugin.evaluation.uncertainty.bootstrap import Estimate, Resamples, bootstrap


def resamples_of(predictions: OfSubjects, count: int = 2000, seed: int = 0) -> Resamples:
    """Resamples within each fold and class, so that every one has the design of the study; not drawn yet."""
    return Resamples(subject_ids=predictions.subject_ids, strata=predictions.strata, count=count, seed=seed)


def estimates(predictions: OfSubjects, resamples: Resamples, scores: Sequence[Score] = BUILT_IN) -> dict[str, Estimate]:
    """Scores of any model, a baseline among them, with percentile intervals over the resamples."""
    return bootstrap(lambda weights: all_scores(predictions, weights, scores), resamples)


def panel_estimates(
    predictions: OfSubjects, resamples: Resamples, scores: Sequence[Score] = BUILT_IN
) -> dict[str, Estimate]:
    """All scores, those of the network alone among them, with percentile intervals over the resamples."""
    return bootstrap(lambda weights: panel(predictions, weights, scores), resamples)


def gain(ours: OfSubjects, theirs: OfSubjects, resamples: Resamples) -> Estimate:
    """How much better ours is than theirs, paired: both are scored on the same resamples of the same subjects.

    Of the primary score: by how much the area under the ROC curve is larger, or the mean absolute error smaller.
    """
    if not np.array_equal(ours.subject_ids, theirs.subject_ids):
        raise ValueError("a paired comparison needs the same subjects in the same order")
    primary = primary_score(ours)
    sign = -1 if primary.lower_is_better else 1

    def of(predictions: OfSubjects, weights: np.ndarray) -> np.ndarray:
        return panel(predictions, weights, (primary,))[primary.name]

    return bootstrap(lambda weights: {"gain": sign * (of(ours, weights) - of(theirs, weights))}, resamples)["gain"]
