"""All scores of predictions in one, for the data and for resamples alike."""

from collections.abc import Sequence

import numpy as np

from adnext_plugin.evaluation.scores.score import Score, fitting, values_of
from adnext_plugin.evaluation.scores.table import BUILT_IN
from adnext_plugin.evaluation.subjects.values import OfSubjects


def panel(predictions: OfSubjects, weights: np.ndarray, scores: Sequence[Score] = BUILT_IN) -> dict[str, np.ndarray]:
    """Every score that is for such predictions.

    Scores of calls that end in `_at_selection_threshold` are at the fold's threshold and exist for two classes only;
    the others are of the most probable class. `auc_mean_of_folds` averages the folds' own areas; `auc_pooled` compares
    subjects across folds, whose networks may be on different scales: the two are different numbers.

    Args:
        predictions: of N subjects.
        weights: (R, N), how often each subject is in each resample.
        scores: to choose from.

    Returns:
        Name to (R,), NaN where a resample has no value.
    """
    return values_of(scores, predictions, weights)


def all_scores(
    predictions: OfSubjects, weights: np.ndarray, scores: Sequence[Score] = BUILT_IN
) -> dict[str, np.ndarray]:
    """Those of `panel` that are computed of every model: of folds, baselines and seeds, too."""
    return values_of([one for one in scores if one.everywhere], predictions, weights)


def fold_scores(predictions: OfSubjects, scores: Sequence[Score] = BUILT_IN) -> dict[str, float]:
    """`all_scores` of the subjects of one fold, by the names they have within it.

    There the mean of folds and the pooled area are the same, and stand as one.
    """
    found = all_scores(predictions, np.ones((1, len(predictions.targets))), scores)
    return {name: float(found[one.name][0]) for one, name in _within_fold(predictions, scores) if one.everywhere}


def names_within_fold(predictions: OfSubjects, scores: Sequence[Score] = BUILT_IN) -> dict[str, str]:
    """Names of `panel` to those within one fold, of scores that mean something there."""
    return {one.name: name for one, name in _within_fold(predictions, scores)}


def _within_fold(predictions: OfSubjects, scores: Sequence[Score]) -> list[tuple[Score, str]]:
    return [(one, one.within_fold) for one in fitting(scores, predictions) if one.within_fold is not None]
