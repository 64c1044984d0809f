"""The evaluation of a cross-validated network beside its baselines, as one record."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from adnext_plugin.evaluation.baselines import Baseline, cross_validate
from adnext_plugin.evaluation.intervals import Estimate, difference, estimates, resampling_weights
from adnext_plugin.evaluation.scores import SubjectPredictions, all_scores, per_subject
from adnext_plugin.records import Task


@dataclass(frozen=True, kw_only=True)
class FoldScores:
    """The scores of one held-out fold, and the threshold chosen on its `selection` part."""

    fold: int
    subjects: int
    threshold: float | None
    scores: dict[str, float | None]


@dataclass(frozen=True, kw_only=True)
class FoldMean:
    """Mean and standard deviation (of a sample) of a score over the folds that have it."""

    mean: float | None
    standard_deviation: float | None


@dataclass(frozen=True, kw_only=True)
class BaselineResult:
    """A baseline's scores, and by how much the network's mean AUC over folds exceeds its own."""

    name: str
    scores: dict[str, Estimate]
    auc_gain_of_network: Estimate


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of the network over all subjects, by fold, their means over folds, and beside each baseline."""

    subjects: int
    folds: tuple[FoldScores, ...]
    means_of_folds: dict[str, FoldMean]
    scores: dict[str, Estimate]
    baselines: tuple[BaselineResult, ...]


def evaluate(
    predictions: pd.DataFrame,
    baselines: Sequence[Baseline],
    subjects: pd.DataFrame,
    splits: Sequence[dict[str, list[str]]],
    task: Task,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[Evaluation, SubjectPredictions]:
    """Score a network and its baselines on the same subjects and resamples.

    Args:
        predictions: rows of all folds' predictions.csv.
        baselines: fitted anew in every fold.
        subjects: content of `subjects.csv`.
        splits: the folds.
        task: names target and classes.
        resamples: of the bootstrap.
        seed: of the bootstrap.
    """
    network = per_subject(predictions, task)
    weights = resampling_weights(network, resamples, seed)
    results = []
    for baseline in baselines:
        other = per_subject(cross_validate(baseline, subjects, splits, task), task)
        gain = difference(network, other, weights)
        results.append(BaselineResult(name=baseline.name, scores=estimates(other, weights), auc_gain_of_network=gain))
    folds = tuple(_fold_scores(network, fold) for fold in np.unique(network.folds))
    evaluation = Evaluation(
        subjects=len(network.targets),
        folds=folds,
        means_of_folds={name: _mean([fold.scores[name] for fold in folds]) for name in folds[0].scores},
        scores=estimates(network, weights),
        baselines=tuple(results),
    )
    return evaluation, network


def _mean(values: Sequence[float | None]) -> FoldMean:
    known = [value for value in values if value is not None]
    return FoldMean(
        mean=float(np.mean(known)) if known else None,
        standard_deviation=float(np.std(known, ddof=1)) if len(known) > 1 else None,
    )


def _fold_scores(predictions: SubjectPredictions, fold: int) -> FoldScores:
    rows = predictions.folds == fold
    here = SubjectPredictions(**{name: values[rows] for name, values in vars(predictions).items()})
    scores = {name: float(values[0]) for name, values in all_scores(here, np.ones((1, rows.sum()))).items()}
    # within one fold the mean over folds and the pooled area are the same
    scores["auc"] = scores.pop("auc_mean_of_folds")
    del scores["auc_pooled"]
    threshold = float(here.thresholds[0])
    return FoldScores(
        fold=int(fold),
        subjects=int(rows.sum()),
        threshold=None if np.isnan(threshold) else threshold,
        scores={name: None if np.isnan(value) else value for name, value in scores.items()},
    )
