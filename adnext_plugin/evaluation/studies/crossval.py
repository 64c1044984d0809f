"""The evaluation of a cross-validated network beside its baselines, as one record."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from adnext_plugin.cohort import Cohort
from adnext_plugin.evaluation.scores.panel import fold_scores, panel
from adnext_plugin.evaluation.scores.score import Score
from adnext_plugin.evaluation.scores.table import BUILT_IN
from adnext_plugin.evaluation.scores.within_site import WithinSite, describe_within_site
from adnext_plugin.evaluation.studies.baselines import Baseline, cross_validate
from adnext_plugin.evaluation.studies.details import ClassifierDetails, describe_classifier
from adnext_plugin.evaluation.subjects.fold_files import with_repeats
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions, per_subject
from adnext_plugin.evaluation.subjects.values import OfSubjects, first_repeat, rows_by_repeat, values_per_subject
from adnext_plugin.evaluation.uncertainty.bootstrap import Estimate
from adnext_plugin.evaluation.uncertainty.intervals import estimates, gain, panel_estimates, resamples_of
from adnext_plugin.findings import BaselineResult, FoldMean, FoldScores, RepeatScores, StudyDesign
from adnext_plugin.task import Task


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of the network over all subjects, by fold, their means over folds, and beside each baseline.

    `primary_score` is the one that gains are in.
    """

    subjects: int
    primary_score: str
    folds: tuple[FoldScores, ...]
    means_of_folds: dict[str, FoldMean]
    scores: dict[str, Estimate]
    baselines: tuple[BaselineResult, ...]
    details: ClassifierDetails | None  # None for a regression
    within_site: WithinSite | None  # likewise, and where there are no sites to tell apart


def evaluate(
    predictions: pd.DataFrame,
    baselines: Sequence[Baseline],
    cohort: Cohort,
    *,
    resamples: int = 2000,
    seed: int = 0,
    sensitivity: float = 0.9,
    prevalences: Sequence[float] = (),
    scores: Sequence[Score] = BUILT_IN,
) -> tuple[Evaluation, OfSubjects]:
    """Score a network and its baselines on the same subjects and resamples.

    Args:
        predictions: rows of all folds' predictions.csv.
        baselines: fitted anew in every fold.
        cohort: whose these predictions are, with the targets that were trained on.
        resamples: of the bootstrap.
        seed: of the bootstrap.
        sensitivity: that a further threshold is to reach on `selection`.
        prevalences: shares of positives among other people, for predictive values.
        scores: to choose from, `installed_scores()` for those of other packages as well.

    Raises:
        SettingsError: the sensitivity or a prevalence is out of range.
    """
    task = cohort.task
    network = of_subjects(predictions, task)
    drawn = resamples_of(network, resamples, seed)
    results = []
    for baseline in baselines:
        other = of_subjects(with_repeats(cross_validate(baseline, cohort), cohort), task)
        results.append(
            BaselineResult(
                name=baseline.name,
                scores=estimates(other, drawn, scores),
                gain_of_network=gain(network, other, drawn),
            )
        )
    folds = tuple(_fold_scores(network, fold, scores) for fold in np.unique(network.folds))
    details, within_site = None, None
    once = first_repeat(network)
    if isinstance(once, SubjectPredictions):
        drawn_once = drawn if once is network else resamples_of(once, resamples, seed)
        table = predictions[predictions["fold"].isin(once.folds)]
        details = describe_classifier(table, once, task, drawn_once, sensitivity=sensitivity, prevalences=prevalences)
        within_site = describe_within_site(once, cohort.subjects, drawn_once)
    of_folds = (
        {} if cohort.is_hold_out else {name: _mean([one.scores[name] for one in folds]) for name in folds[0].scores}
    )
    evaluation = Evaluation(
        subjects=len(once.targets),
        primary_score=network.primary,
        folds=folds,
        means_of_folds=of_folds,
        scores=panel_estimates(network, drawn, scores),
        baselines=tuple(results),
        details=details,
        within_site=within_site,
    )
    return evaluation, network


def scores_for(cohort: Cohort, scores: Sequence[Score]) -> tuple[Score, ...]:
    """Those that mean something for its folds: of a fixed hold-out, nothing that sets folds against each other."""
    return tuple(one for one in scores if one.within_fold is not None or not cohort.is_hold_out)


def describe_design(network: OfSubjects, cohort: Cohort, scores: Sequence[Score] = BUILT_IN) -> StudyDesign | None:
    """What is unusual about the folds; None of one cross-validation.

    Args:
        network: predictions of held-out subjects.
        cohort: whose they are.
        scores: to choose from.
    """
    everybody = int(cohort.subjects["subject_id"].nunique())
    held_out = len(np.unique(network.subject_ids))
    if cohort.is_hold_out:
        return StudyDesign(kind="fixed hold-out", held_out=held_out, subjects=everybody)
    if len(cohort.repeats) == 1:
        return None
    repeats = [
        RepeatScores(repeat=number, folds=folds, scores=_values(network.of_rows(rows), scores))
        for number, (folds, rows) in enumerate(zip(cohort.repeats, rows_by_repeat(network), strict=True))
    ]
    return StudyDesign(kind="repeated cross-validation", held_out=held_out, subjects=everybody, repeats=tuple(repeats))


def of_subjects(predictions: pd.DataFrame, task: Task) -> OfSubjects:
    """Rows of all folds' predictions.csv as one prediction per held-out subject."""
    return values_per_subject(predictions) if task.kind == "regression" else per_subject(predictions, task)


def _values(predictions: OfSubjects, scores: Sequence[Score]) -> dict[str, float | None]:
    found = panel(predictions, np.ones((1, len(predictions.targets))), scores)
    return {name: None if np.isnan(values[0]) else float(values[0]) for name, values in found.items()}


def _mean(values: Sequence[float | None]) -> FoldMean:
    known = [value for value in values if value is not None]
    return FoldMean(
        mean=float(np.mean(known)) if known else None,
        standard_deviation=float(np.std(known, ddof=1)) if len(known) > 1 else None,
    )


def _fold_scores(predictions: OfSubjects, fold: int, scores: Sequence[Score]) -> FoldScores:
    here = predictions.of_fold(fold)
    return FoldScores(
        fold=int(fold),
        subjects=len(here.targets),
        threshold=here.threshold,
        scores={name: None if np.isnan(value) else value for name, value in fold_scores(here, scores).items()},
    )
