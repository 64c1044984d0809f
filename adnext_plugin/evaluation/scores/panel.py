"""All scores of predictions in one, for the data and for resamples alike."""

from collections.abc import Sequence

import numpy as np

from adnext_plugin.evaluation.scores.score import Score, fitting, values_of
from adnext_plugin.evaluation.scores.table import BUILT_IN
from adnext_plugin.evaluation.subjects.values import OfSubjects, rows_by_repeat


def panel(predictions: OfSubjects, weights: np.ndarray, scores: Sequence[Score] = BUILT_IN) -> dict[str, np.ndarray]:
    """Every score that is for such predictions.

    Scores of calls that end in `_at_selection_threshold` are at the fold's threshold and exist for two classes only;
    the others are of the most probable class. `auc_mean_of_folds` averages the folds' own areas; `auc_pooled` compares
    subjects across folds, whose networks may be on different scales: the two are different numbers. All are means of
    repeats, where there are several.

    Args:
        predictions: of N subjects.
        weights: (R, N), how often each subject is in each resample.
        scores: to choose from.

    Returns:
        Name to (R,), NaN where a resample has no value.
    """
    return _mean_of_repeats(scores, predictions, weights)


def all_scores(
    predictions: OfSubjects, weights: np.ndarray, scores: Sequence[Score] = BUILT_IN
) -> dict[str, np.ndarray]:
    """Those of `panel` that are computed of every model: of folds, baselines and seeds, too."""
    return _mean_of_repeats([one for one in scores if one.everywhere], predictions, weights)


def fold_scores(predictions: OfSubjects, scores: Sequence[Score] = BUILT_IN) -> dict[str, float]:
    """`all_scores` of the subjects of one fold, by the names they have within it.

    There the mean of folds and the pooled area are the same, and stand as one.
    """
    found = all_scores(predictions, np.ones((1, len(predictions.targets))), scores)
    return {name: float(found[one.name][0]) for one, name in _within_fold(predictions, scores) if one.everywhere}


def names_within_fold(predictions: OfSubjects, scores: Sequence[Score] = BUILT_IN) -> dict[str, str]:
    """Names of `panel` to those within one fold, of scores that mean something there."""
    return {one.name: name for one, name in _within_fold(predictions, scores)}


def _mean_of_repeats(scores: Sequence[Score], predictions: OfSubjects, weights: np.ndarray) -> dict[str, np.ndarray]:
    """A score of a repeated cross-validation is the mean of what it is in each repeat."""
    rows = rows_by_repeat(predictions)
    if len(rows) == 1:
        return values_of(scores, predictions, weights)
    found = [values_of(scores, predictions.of_rows(here), weights[:, here]) for here in rows]
    return {name: np.mean([one[name] for one in found], axis=0) for name in found[0]}


def _within_fold(predictions: OfSubjects, scores: Sequence[Score]) -> list[tuple[Score, str]]:
    return [(one, one.within_fold) for one in fitting(scores, predictions) if one.within_fold is not None]
