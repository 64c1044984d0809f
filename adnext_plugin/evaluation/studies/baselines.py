"""Simple models on the same folds, which a network must beat to have learned anything worth its while."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from adnext_plugin.cohort import Cohort
from adnext_plugin.errors import TableError
from adnext_plugin.task import Task

TEXT_COLUMNS = ("sex", "site", "scanner")
FEWEST_PER_WORD = 2  # people, on average: fewer, and words are names of people
VOXEL_COMPONENTS = 50
VOXEL_EDGE_MM = 8.0

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
    texts = [column for column in columns if column in TEXT_COLUMNS]
    words = [column for column in columns if column not in TEXT_COLUMNS and _has_words(cohort, column)]
    numbers = [column for column in columns if column not in (*texts, *words)]

    def see(rows: pd.DataFrame) -> pd.DataFrame:
        features = rows[list(columns)].copy()
        features[numbers] = features[numbers].apply(pd.to_numeric, errors="coerce")
        features[words] = features[words].apply(_as_words)
        return features

    encode = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore", drop="if_binary"), texts),
        (OneHotEncoder(handle_unknown="ignore"), words),
    )
    model = make_pipeline(encode, _linear(cohort.task))
    return Baseline(name="+".join(columns), model=model, features=see(cohort.subjects), see=see)


def voxels(
    cohort: Cohort,
    read_volume_zyx: Callable[[str], np.ndarray],
    spacing_mm: Sequence[float],
    read_other_zyx: Callable[[str], np.ndarray] | None = None,
) -> Baseline:
    """Principal components of an 8 mm version of the network's inputs, and a linear model of them.

    Args:
        cohort: the cases, and what is to be learned.
        read_volume_zyx: gives the network input of a case id.
        spacing_mm: its voxel size.
        read_other_zyx: gives that of a case of another dataset, prepared alike.
    """
    factor = [max(1, round(VOXEL_EDGE_MM / edge)) for edge in spacing_mm]

    def seen(rows: pd.DataFrame, read: Callable[[str], np.ndarray]) -> np.ndarray:
        return np.stack([_block_means(read(case), factor).ravel() for case in rows["case_id"]])

    model = make_pipeline(PCA(VOXEL_COMPONENTS, whiten=True, svd_solver="full"), _linear(cohort.task, strength=0.1))
    return Baseline(
        name="voxels (PCA, 8 mm)",
        model=model,
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
        model = _limited(baseline.model, len(train)).fit(_rows(baseline.features, train), targets[train])
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
    targets = cohort.subjects[cohort.task.target].to_numpy()
    model = _limited(baseline.model, len(targets)).fit(baseline.features, targets)
    table = others[["case_id", "subject_id", "session_id"]].reset_index(drop=True)
    table = table.assign(fold=0, part="val", target=others[task.target].to_numpy())
    return table.assign(**_predict(model, baseline.see(others), task))


def _has_words(cohort: Cohort, column: str) -> bool:
    """Whether a cell is no number.

    Raises:
        TableError: there are too many different words.
    """
    known = _as_words(cohort.subjects[column])
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


def _as_words(column: pd.Series) -> pd.Series:
    return column.where(column.notna(), "").astype(str).str.strip()


def _linear(task: Task, strength: float = 1.0) -> LogisticRegression | RidgeCV:
    if task.kind == "regression":
        return RidgeCV(np.logspace(-2, 4, 13))  # the penalty is chosen within the training cases
    return LogisticRegression(C=strength, class_weight="balanced", max_iter=1000)


def _predict(model: Any, features: pd.DataFrame | np.ndarray, task: Task) -> dict[str, np.ndarray]:
    if task.kind == "regression":
        return {"prediction": model.predict(features)}
    probabilities = model.predict_proba(features)
    order = list(model.classes_)
    return {f"prob_{name}": probabilities[:, order.index(name)] for name in task.classes}


def _rows(features: pd.DataFrame | np.ndarray, rows: list[int]) -> pd.DataFrame | np.ndarray:
    return features.iloc[rows] if isinstance(features, pd.DataFrame) else features[rows]


def _limited(model: Any, cases: int) -> Any:
    # there are no more principal components than cases
    if hasattr(model, "named_steps") and "pca" in model.named_steps:
        return model.set_params(pca__n_components=min(VOXEL_COMPONENTS, cases - 1))
    return model


def _block_means(volume_zyx: np.ndarray, factor: Sequence[int]) -> np.ndarray:
    cut = volume_zyx[tuple(slice(size - size % step) for size, step in zip(volume_zyx.shape, factor, strict=True))]
    split = [part for size, step in zip(cut.shape, factor, strict=True) for part in (size // step, step)]
    return cut.astype(np.float32).reshape(split).mean(axis=(1, 3, 5))
