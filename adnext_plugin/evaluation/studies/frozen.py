"""What can be read off a frozen encoder: linear models of its features, on the dataset's folds, beside simpler ones.

For any column of subjects.csv a ridge regression (numbers) or a logistic regression (words) is fitted to the features
of a fold's training part and asked about its held-out people. The same is done with what costs nothing to learn: a
random encoder of the same architecture, volumes of tissues, and columns such as age and sex. Weights that do not beat
these are worth nothing for the column.

Source: Alain and Bengio 2016, arXiv:1610.01644 (linear probes).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from adnext_plugin.cohort import Cohort
from adnext_plugin.evaluation.studies.baselines import Baseline, covariates, cross_validate, knows_nothing
from adnext_plugin.evaluation.studies.crossval import of_subjects
from adnext_plugin.evaluation.studies.linear import balanced_logistic
from adnext_plugin.evaluation.studies.probe import STRENGTH
from adnext_plugin.evaluation.subjects.characteristics import FEWEST
from adnext_plugin.evaluation.subjects.values import OfSubjects
from adnext_plugin.evaluation.uncertainty.intervals import estimates, gain, resamples_of
from adnext_plugin.findings import ColumnProbe
from adnext_plugin.splits.design import PARTS
from adnext_plugin.subjects import as_words
from adnext_plugin.task import Task

ENCODER = "encoder"
FEWEST_VALUES = 6  # different numbers, from which a column is a quantity and not classes
PENALTIES = np.logspace(-2, 6, 17)  # of which one is chosen within the training part


def probe_column(
    cohort: Cohort,
    column: str,
    features: Mapping[str, np.ndarray],
    beside: Sequence[Sequence[str]] = (),
    resamples: int = 2000,
) -> ColumnProbe:
    """Read a column off features, and off what stands beside them.

    Args:
        cohort: its people and folds; its own task does not matter.
        column: of `subjects.csv`; rows where it is empty are left out.
        features: by name, (N, D) of the cohort's cases in their order. One is called `ENCODER`.
        beside: columns for linear models; those that are not there, and the column itself, are left out of each.
        resamples: of the bootstrap over subjects.
    """
    asked = _asked(cohort, column)
    if asked is None:
        people = int((as_words(cohort.subjects[column]) != "").groupby(cohort.subjects["subject_id"]).any().sum())
        return ColumnProbe(column=column, kind="too few", classes=(), subjects=people, score="", models={}, gains={})
    places = cohort.subjects.index.get_indexer(asked.subjects.index)
    models = [_of_features(name, values[places], asked.task) for name, values in features.items()]
    for wanted in beside:
        usable = [name for name in wanted if name in asked.subjects and name != column and _is_known(asked, name)]
        if usable:
            models.append(covariates(asked, usable))
    models.append(knows_nothing(asked))
    answers: dict[str, OfSubjects] = {
        model.name: of_subjects(cross_validate(model, asked), asked.task) for model in models
    }
    drawn = resamples_of(answers[ENCODER], resamples)
    primary = answers[ENCODER].primary
    return ColumnProbe(
        column=column,
        kind=asked.task.kind,
        classes=asked.task.classes,
        subjects=len(answers[ENCODER].targets),
        score=primary,
        models={name: estimates(found, drawn)[primary] for name, found in answers.items()},
        gains={name: gain(answers[ENCODER], found, drawn) for name, found in answers.items() if name != ENCODER},
    )


def _asked(cohort: Cohort, column: str) -> Cohort | None:
    """The cohort with the column as its task, and those people alone of whom it is known; None: too few."""
    words = as_words(cohort.subjects[column])
    numbers = pd.to_numeric(words.where(words != "", np.nan), errors="coerce")
    known = words[words != ""]
    if numbers.notna().sum() == len(known) and known.nunique() >= FEWEST_VALUES:
        subjects = cohort.subjects.assign(**{column: numbers})[numbers.notna()]
        task = Task(name=cohort.task.name, kind="regression", target=column)
        enough = subjects["subject_id"].nunique() >= 2 * FEWEST
    else:
        classes = _classes(cohort, words)
        subjects = cohort.subjects.assign(**{column: words})[words.isin(classes)]
        enough = len(classes) > 1
        task = Task(name=cohort.task.name, target=column, classes=classes) if enough else cohort.task
    if not enough:
        return None
    cases = set(subjects["case_id"])
    splits = [{part: [case for case in fold[part] if case in cases] for part in PARTS} for fold in cohort.splits]
    return replace(cohort, task=task, subjects=subjects, splits=splits)


def _classes(cohort: Cohort, words: pd.Series) -> tuple[str, ...]:
    """Words of at least `FEWEST` people, two of them held out in every fold."""
    people = cohort.subjects.assign(word=words)
    counts = people.groupby("word")["subject_id"].nunique().drop("", errors="ignore")
    found = []
    for word in counts.index[counts >= FEWEST]:
        cases = set(people.loc[people["word"] == word, "case_id"])
        if all(min(len(cases & set(fold["val"])), len(cases & set(fold["train"]))) >= 2 for fold in cohort.splits):
            found.append(str(word))
    return tuple(found)


def _of_features(name: str, values: np.ndarray, task: Task) -> Baseline:
    linear = RidgeCV(PENALTIES) if task.kind == "regression" else balanced_logistic(STRENGTH)
    return Baseline(name=name, model=make_pipeline(StandardScaler(), linear), features=values)


def _is_known(cohort: Cohort, column: str) -> bool:
    return bool((as_words(cohort.subjects[column]) != "").any())
