"""Whether a network's features tell more than the disease: a linear model that guesses sex or site from them.

The network is left as it is. Of a fold's held-out subjects, whom it has never seen, a logistic regression is fitted to
the features of some and asked about the others. Source: Alain and Bengio 2016, arXiv:1610.01644 (linear probes).
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from adnext_plugin.evaluation.studies.linear import balanced_logistic
from adnext_plugin.evaluation.subjects.characteristics import FEWEST
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions
from adnext_plugin.evaluation.uncertainty.intervals import estimates, resamples_of
from adnext_plugin.findings import Probe

PARTS = 5  # of the held-out subjects of a fold; fewer where a class has fewer subjects there
STRENGTH = 0.1  # inverse of the penalty: there are more features than people
SHOWN = ("auc_mean_of_folds", "balanced_accuracy")


def probe(
    features: np.ndarray, subject_ids: Sequence[str], folds: np.ndarray, column: pd.Series, resamples: int = 2000
) -> Probe:
    """Guess a column from features, fold by fold, and score the guesses.

    Args:
        features: of held-out scans, (N, D), each by the network of its fold.
        subject_ids: whose scans these are; those of one subject are averaged.
        folds: that hold them out, (N,).
        column: what is to be guessed, (N,), such as the sex; the subject's first counts. Missing ones are left out.
        resamples: of the bootstrap over subjects, with the guesses as they are.
    """
    rows = pd.DataFrame(features).assign(subject=list(subject_ids), fold=folds)
    rows["label"] = column.where(column.notna(), "").astype(str).to_numpy()
    wanted: dict[int | str, str] = {**dict.fromkeys(range(features.shape[1]), "mean"), "label": "first"}
    people = rows.groupby(["fold", "subject"], sort=True, as_index=False).agg(wanted)
    people = people[people["label"] != ""]
    # one row for every class and fold, also where a fold has nobody of a class
    counts = people.groupby(["label", "fold"]).size().unstack(fill_value=0)
    usable = counts[(counts.sum(axis=1) >= FEWEST) & (counts.min(axis=1) >= 2)]
    classes, totals = tuple(usable.index), tuple(int(count) for count in usable.sum(axis=1))
    scores = None
    if len(classes) > 1:
        guesses = _guess(people[people["label"].isin(classes)], features.shape[1], classes)
        found = estimates(guesses, resamples_of(guesses, resamples))
        scores = {name: found[name] for name in SHOWN}
    return Probe(column=str(column.name), classes=classes, subjects_by_class=totals, scores=scores)


def _guess(people: pd.DataFrame, width: int, classes: tuple[str, ...]) -> SubjectPredictions:
    """Probabilities of the classes for every subject, by a model that others of the same fold were fitted to."""
    parts = [_guess_in_fold(rows, width, classes) for _, rows in people.groupby("fold", sort=True)]
    fields = ("subject_ids", "targets", "folds", "probabilities", "thresholds")
    joined: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in fields}
    return replace(parts[0], **joined)


def _guess_in_fold(rows: pd.DataFrame, width: int, classes: tuple[str, ...]) -> SubjectPredictions:
    targets = rows["label"].map(classes.index).to_numpy()
    model = make_pipeline(StandardScaler(), balanced_logistic(STRENGTH))
    parts = StratifiedKFold(min(PARTS, int(np.bincount(targets).min())), shuffle=True, random_state=0)
    probabilities = cross_val_predict(
        model, rows[list(range(width))].to_numpy(), targets, cv=parts, method="predict_proba"
    )
    return SubjectPredictions(
        subject_ids=rows["subject"].to_numpy(),
        targets=targets,
        folds=rows["fold"].to_numpy(),
        probabilities=probabilities,
        thresholds=np.full(len(rows), 0.5 if len(classes) == 2 else np.nan),
        classes=classes,
    )
