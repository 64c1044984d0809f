"""The table of scores: those built in, in the order they are listed in, and after them those of other packages.

Another package adds a score by one function and one line in its entry points; see CONTRIBUTING.md.
"""

from functools import partial

import numpy as np

from adnext_plugin.errors import RegistryError
from adnext_plugin.evaluation.scores import areas, calls
from adnext_plugin.evaluation.scores.calibration import calibration_scores
from adnext_plugin.evaluation.scores.regression import regression_scores
from adnext_plugin.evaluation.scores.score import CLASS, Needs, Place, Score, Values, fitting, require_score
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions
from adnext_plugin.evaluation.subjects.values import OfSubjects, SubjectValues
from adnext_plugin.registry import SCORES, brought_by, load_all

OF_FOLDS = "_mean_of_folds"
AT_THRESHOLD = "_at_selection_threshold"
LISTED: frozenset[Place] = frozenset({"terminal", "report"})
TERMINAL_BY_FOLD: frozenset[Place] = frozenset({"terminal", "report", "terminal by fold"})
BY_FOLD: frozenset[Place] = frozenset({"terminal", "report", "terminal by fold", "report by fold"})
HEADLINE: frozenset[Place] = frozenset({"headline", "report", "terminal by fold", "report by fold"})
REPORT: frozenset[Place] = frozenset({"report"})


def _calibration(predictions: SubjectPredictions, weights: np.ndarray) -> dict[str, np.ndarray]:
    return calibration_scores(predictions.targets, predictions.probabilities, weights)


def _errors(predictions: SubjectValues, weights: np.ndarray) -> dict[str, np.ndarray]:
    return regression_scores(predictions.targets, predictions.values, weights)


def _errors_after_correction(predictions: SubjectValues, weights: np.ndarray) -> dict[str, np.ndarray]:
    return regression_scores(predictions.targets, predictions.corrected, weights)


# what a score is called where its name would not be understood
TITLES = {
    "auc_pooled": "AUC, all folds together",
    "ppv": "positive predictive value",
    "npv": "negative predictive value",
    "f1": "F1",
    "mcc": "Matthews correlation",
    "brier": "Brier score",
    "brier_reliability": "Brier score: miscalibration",
    "brier_resolution": "Brier score: resolution",
    "brier_uncertainty": "Brier score: uncertainty",
    "ece_debiased": "calibration error, debiased",
    "average_precision_mean_of_folds": "average precision, mean of folds",
    "rmse": "root of mean squared error",
    "pearson_r": "Pearson's r",
    "bias_slope": "slope of error over truth",
    "bias_slope_after_correction": "slope of error, corrected",
}


def _in_words(name: str) -> str:
    plain = name.removesuffix(AT_THRESHOLD)
    words = TITLES.get(plain, plain.replace("_", " "))
    return words if plain == name else f"{words}, threshold of selection"


def _row(
    name: str,
    values: Values,
    needs: Needs = "classes",
    shown: frozenset[Place] = LISTED,
    *,
    title: str | None = None,
    part: str | None = None,
    lower_is_better: bool = False,
    everywhere: bool = True,
    across_folds: bool = False,
    chance: float | None = None,
) -> Score:
    return Score(
        name=name,
        values=values,
        needs=needs,
        title=title or _in_words(name),
        part=part or name.removesuffix(AT_THRESHOLD),
        lower_is_better=lower_is_better,
        shown=shown,
        everywhere=everywhere,
        within_fold=None if across_folds else name.removesuffix(OF_FOLDS),
        chance=chance,
    )


_of_network = partial(_row, everywhere=False)  # over all subjects, and of no baseline, fold or seed

BUILT_IN: tuple[Score, ...] = (
    _row("auc_mean_of_folds", areas.auc_mean_of_folds, shown=HEADLINE, title="AUC, mean of folds", chance=0.5),
    _row("auc_pooled", areas.auc_pooled, across_folds=True, chance=0.5),
    _row(
        f"auc_of_{CLASS}_mean_of_folds",
        areas.auc_by_class,
        "three classes",
        title=f"AUC of {CLASS}, mean of folds",
        chance=0.5,
    ),
    _row("accuracy", calls.hit_rates, shown=BY_FOLD),
    _row("balanced_accuracy", calls.hit_rates, shown=HEADLINE),
    _row("specificity", calls.hit_rates, "two classes", TERMINAL_BY_FOLD),
    _row("sensitivity", calls.hit_rates, "two classes", TERMINAL_BY_FOLD),
    _row(f"recall_of_{CLASS}", calls.recalls, "three classes"),
    *(
        _row(f"{name}{AT_THRESHOLD}", calls.hit_rates_at_threshold, "two classes")
        for name in ("accuracy", "balanced_accuracy", "specificity", "sensitivity")
    ),
    # with more than two classes, the mean of every class against the rest
    _of_network("sensitivity", calls.of_calls, "three classes"),
    _of_network("specificity", calls.of_calls, "three classes"),
    *(_of_network(name, calls.of_calls, shown=REPORT) for name in ("ppv", "npv", "f1")),
    _of_network("mcc", calls.of_calls),
    _of_network("log_loss", _calibration, shown=REPORT, lower_is_better=True),
    _of_network("brier", _calibration, lower_is_better=True),
    _of_network("brier_reliability", _calibration, lower_is_better=True),
    _of_network("brier_resolution", _calibration),
    _of_network("brier_uncertainty", _calibration),
    _of_network("ece_debiased", _calibration, lower_is_better=True),
    _of_network("average_precision_mean_of_folds", areas.average_precision_mean_of_folds),
    *(
        _of_network(
            f"{name}{AT_THRESHOLD}", calls.of_calls_at_threshold, "two classes", REPORT if name == "f1" else LISTED
        )
        for name in ("ppv", "npv", "f1", "mcc")
    ),
    _row("mae", _errors, "numbers", HEADLINE, title="mean absolute error", lower_is_better=True),
    _row("rmse", _errors, "numbers", lower_is_better=True),
    _row("r2", _errors, "numbers", HEADLINE, title="R²", chance=0.0),
    _row("pearson_r", _errors, "numbers", chance=0.0),
    _row("bias_slope", _errors, "numbers"),
    _row("bias_slope_after_correction", _errors_after_correction, "numbers", part="bias_slope"),
)


def installed_scores() -> tuple[Score, ...]:
    """All there are: those built in, then those of other packages by name.

    Raises:
        RegistryError: two claim one name, or what is registered is no score. One that cannot be imported is left out
            with a warning.
    """
    built_in = {one.name for one in BUILT_IN}
    others = []
    for name, found in load_all(SCORES).items():
        if name in built_in:
            package = " and ".join(brought_by(SCORES, name))
            raise RegistryError(
                f"the score {name!r} of the package {package} has the name of one that is built in; rename its entry"
            )
        others.append(require_score(found, name))
    return (*BUILT_IN, *others)


def primary_score(predictions: OfSubjects) -> Score:
    """The one that gains over baselines are in."""
    return next(one for one in BUILT_IN if one.name == predictions.primary)


def lines_for(predictions: OfSubjects) -> dict[str, Score]:
    """The lines of the table that predictions have, one for each class where so, by name; of other packages, too."""
    return {one.name: one for one in fitting(installed_scores(), predictions)}
