"""Bootstrap intervals of all scores: subjects are drawn anew within what the design of the study fixes."""

import numpy as np

from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions
from adnext_plugin.evaluation.subjects.values import SubjectValues
from adnext_plugin.evaluation.uncertainty.bootstrap import Estimate, Resamples, bootstrap

OfSubjects = SubjectPredictions | SubjectValues


def resamples_of(predictions: OfSubjects, count: int = 2000, seed: int = 0) -> Resamples:
    """Resamples within each fold and class, so that every one has the design of the study; not drawn yet."""
    return Resamples(subject_ids=predictions.subject_ids, strata=predictions.strata, count=count, seed=seed)


def estimates(predictions: OfSubjects, resamples: Resamples) -> dict[str, Estimate]:
    """All scores with percentile intervals over the resamples."""
    return bootstrap(predictions.scores, resamples)


def gain(ours: OfSubjects, theirs: OfSubjects, resamples: Resamples) -> Estimate:
    """How much better ours is than theirs, paired: both are scored on the same resamples of the same subjects.

    Of the primary score: by how much the area under the ROC curve is larger, or the mean absolute error smaller.
    """
    if not np.array_equal(ours.subject_ids, theirs.subject_ids):
        raise ValueError("a paired comparison needs the same subjects in the same order")
    sign = -1 if ours.lower_is_better else 1

    def scores(weights: np.ndarray) -> dict[str, np.ndarray]:
        return {"gain": sign * (ours.scores(weights)[ours.primary] - theirs.scores(weights)[ours.primary])}

    return bootstrap(scores, resamples)["gain"]
