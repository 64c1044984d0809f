"""Simple models on the same folds, which a network must beat to have learned anything worth its while."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from adnext_plugin.cohort import Cohort
from adnext_plugin.errors import TableError
from adnext_plugin.evaluation.studies.linear import balanced_logistic
from adnext_plugin.evaluation.studies.linear_columns import LinearOfColumns
from adnext_plugin.evaluation.studies.linear_voxels import LinearOfVoxels, smoothed
from adnext_plugin.subjects import as_words
from adnext_plugin.task import Task

TEXT_COLUMNS = ("sex", "site", "scanner")
VOXELS = "voxels (L2, 6 mm)"
REGIONS = "regions"
FEWEST_PER_WORD = 2  # people, on average: fewer, and words are names of people

Features: TypeAlias = pd.DataFrame | np.ndarray


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A name, a scikit-learn classifier or regressor, what it sees of each case, and how it sees those of others.

    `see` gives the features of rows of another dataset's `subjects.csv`; None where it cannot see them.
    """

    name: str
    model: Any
    features: Features
    see: Callable[[pd.DataFrame], Features] | None = None


def knows_nothing(cohort: Cohort) -> Baseline:
    """Always the most frequent class, or the mean."""

    def see(rows: pd.DataFrame) -> np.ndarray:
        return np.zeros((len(rows), 1))

    if cohort.task.kind == "regression":
        return Baseline(name="mean", model=DummyRegressor(), features=see(cohort.subjects), see=see)
    return Baseline(name="majority", model=DummyClassifier(strategy="prior"), features=see(cohort.subjects), see=see)


def covariates(cohort: Cohort, columns: Sequence[str]) -> Baseline:
    """A linear model of columns of `subjects.csv`; gaps are filled with the training median or an own category.

    A column with words has a 0 or 1 for each word of the training part; a word that is only met later has zeros alone.

    Raises:
        TableError: a column has so many different words that they say who somebody is.
    """
    encode, see = _encoding(cohort, columns)
    model = make_pipeline(encode, _linear(cohort.task))
    return Baseline(name="+".join(columns), model=model, features=see(cohort.subjects), see=see)


def regions(cohort: Cohort, columns: Sequence[str], others: Sequence[str]) -> Baseline:
    """A linear model of volumes of regions, whose penalty is chosen by people within the training cases.

    Args:
        cohort: the cases; one that could not be measured gets the training median.
        columns: volumes, columns of its table.
        others: further columns beside them, such as age and sex.
    """
    encode, see = _encoding(cohort, (*columns, *others))
    model = LinearOfColumns(encode, is_number=cohort.task.kind == "regression")
    return Baseline(name="+".join((REGIONS, *others)), model=model, features=see(cohort.subjects), see=see)


def _encoding(cohort: Cohort, columns: Sequence[str]) -> tuple[Any, Callable[[pd.DataFrame], pd.DataFrame]]:
    """What makes numbers of columns, and what makes of rows of a table the columns it takes."""
    texts = [column for column in columns if column in TEXT_COLUMNS]
    words = [column for column in columns if column not in TEXT_COLUMNS and _has_words(cohort, column)]
    numbers = [column for column in columns if column not in (*texts, *words)]

    def see(rows: pd.DataFrame) -> pd.DataFrame:
        features = rows[list(columns)].copy()
        features[numbers] = features[numbers].apply(pd.to_numeric, errors="coerce")
        features[words] = features[words].apply(as_words)
        return features

    encode = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore", drop="if_binary"), texts),
        (OneHotEncoder(handle_unknown="ignore"), words),
    )
    return encode, see


def voxels(
    cohort: Cohort,
    read_volume_zyx: Callable[[str], np.ndarray],
    spacing_mm: Sequence[float],
    read_other_zyx: Callable[[str], np.ndarray] | None = None,
) -> Baseline:
    """A linear model of the smoothed voxels of the network's inputs, all at once.

    Args:
        cohort: the cases, and what is to be learned.
        read_volume_zyx: gives the network input of a case id.
        spacing_mm: its voxel size.
        read_other_zyx: gives that of a case of another dataset, prepared alike.
    """
    cases = len(cohort.subjects)

    def seen(rows: pd.DataFrame, read: Callable[[str], np.ndarray]) -> np.ndarray:
        return np.stack([smoothed(read(case), spacing_mm, cases).ravel() for case in rows["case_id"]])

    return Baseline(
        name=VOXELS,
        model=LinearOfVoxels(is_number=cohort.task.kind == "regression"),
        features=seen(cohort.subjects, read_volume_zyx),
        see=None if read_other_zyx is None else lambda rows: seen(rows, read_other_zyx),
    )


def cross_validate(baseline: Baseline, cohort: Cohort) -> pd.DataFrame:
    """Fit on `train` alone, and predict `selection` and `val`, in every fold.

    Returns:
        Rows like those of the folds' predictions.csv.
    """
    task, subjects = cohort.task, cohort.subjects
    position = {case: index for index, case in enumerate(subjects["case_id"])}
    targets = subjects[task.target].to_numpy()
    tables = []
    for fold, parts in enumerate(cohort.splits):
        train = [position[case] for case in parts["train"]]
        model = _fitted(baseline, train, cohort)
        for part in ("val", "selection"):
            rows = [position[case] for case in parts[part]]
            if not rows:
                continue
            table = subjects.iloc[rows][["case_id", "subject_id", "session_id"]].reset_index(drop=True)
            table = table.assign(fold=fold, part=part, target=targets[rows])
            tables.append(table.assign(**_predict(model, _rows(baseline.features, rows), task)))
    return pd.concat(tables, ignore_index=True)


def predict_others(baseline: Baseline, cohort: Cohort, others: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Fit on the whole cohort, and predict people of another dataset.

    Args:
        baseline: of the cohort; it must be able to see others.
        cohort: trained on.
        others: rows of the other dataset's `subjects.csv`.
        task: of that dataset.

    Returns:
        Rows like those of an ensemble of folds: of one fold 0, part `val`.
    """
    if baseline.see is None:
        raise ValueError(f"the baseline {baseline.name} cannot see other people")
    model = _fitted(baseline, list(range(len(cohort.subjects))), cohort)
    table = others[["case_id", "subject_id", "session_id"]].reset_index(drop=True)
    table = table.assign(fold=0, part="val", target=others[task.target].to_numpy())
    return table.assign(**_predict(model, baseline.see(others), task))


def _has_words(cohort: Cohort, column: str) -> bool:
    """Whether a cell is no number.

    Raises:
        TableError: there are too many different words.
    """
    known = as_words(cohort.subjects[column])
    known = known[known != ""]
    is_word = pd.to_numeric(known, errors="coerce").isna()
    people, different = cohort.subjects["subject_id"].nunique(), known.nunique()
    if is_word.any() and different * FEWEST_PER_WORD > people:
        raise TableError(
            f"--baseline: column {column!r} of subjects.csv has {different} different values of {people} people, and "
            f"not all are numbers, such as {known[is_word].iloc[0]!r}; from so many words nothing can be learned: "
            "correct them or leave the column out"
        )
    return bool(is_word.any())


def _linear(task: Task) -> LogisticRegression | RidgeCV:
    if task.kind == "regression":
        return RidgeCV(np.logspace(-2, 4, 13))  # the penalty is chosen within the training cases
    return balanced_logistic()


def _fitted(baseline: Baseline, rows: list[int], cohort: Cohort) -> Any:
    targets = cohort.subjects[cohort.task.target].to_numpy()[rows]
    features = _rows(baseline.features, rows)
    if isinstance(baseline.model, (LinearOfVoxels, LinearOfColumns)):
        return baseline.model.fit(features, targets, cohort.subjects["subject_id"].to_numpy()[rows])
    return baseline.model.fit(features, targets)


def _predict(model: Any, features: pd.DataFrame | np.ndarray, task: Task) -> dict[str, np.ndarray]:
    if task.kind == "regression":
        return {"prediction": model.predict(features)}
    probabilities = model.predict_proba(features)
    order = list(model.classes_)
    return {f"prob_{name}": probabilities[:, order.index(name)] for name in task.classes}


def _rows(features: pd.DataFrame | np.ndarray, rows: list[int]) -> pd.DataFrame | np.ndarray:
    return features.iloc[rows] if isinstance(features, pd.DataFrame) else features[rows]
