"""Simple models on the same folds, which a network must beat to have learned anything worth its while."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

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
from adnext_plugin.task import Task

TEXT_COLUMNS = ("sex", "site", "scanner")
VOXEL_COMPONENTS = 50
VOXEL_EDGE_MM = 8.0


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A name, a scikit-learn classifier or regressor, and what it sees of each case."""

    name: str
    model: Any
    features: pd.DataFrame | np.ndarray


def knows_nothing(cohort: Cohort) -> Baseline:
    """Always the most frequent class, or the mean."""
    features = np.zeros((len(cohort.subjects), 1))
    if cohort.task.kind == "regression":
        return Baseline(name="mean", model=DummyRegressor(), features=features)
    return Baseline(name="majority", model=DummyClassifier(strategy="prior"), features=features)


def covariates(cohort: Cohort, columns: Sequence[str]) -> Baseline:
    """A linear model of columns of `subjects.csv`; gaps are filled with the training median or an own category."""
    features = cohort.subjects[list(columns)].copy()
    texts = [column for column in columns if column in TEXT_COLUMNS]
    numbers = [column for column in columns if column not in TEXT_COLUMNS]
    features[numbers] = features[numbers].apply(pd.to_numeric, errors="coerce")
    encode = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore", drop="if_binary"), texts),
    )
    return Baseline(name="+".join(columns), model=make_pipeline(encode, _linear(cohort.task)), features=features)


def voxels(cohort: Cohort, read_volume_zyx: Callable[[str], np.ndarray], spacing_mm: Sequence[float]) -> Baseline:
    """Principal components of an 8 mm version of the network's inputs, and a linear model of them.

    Args:
        cohort: the cases, and what is to be learned.
        read_volume_zyx: gives the network input of a case id.
        spacing_mm: its voxel size.
    """
    factor = [max(1, round(VOXEL_EDGE_MM / edge)) for edge in spacing_mm]
    features = np.stack([_block_means(read_volume_zyx(case), factor).ravel() for case in cohort.subjects["case_id"]])
    model = make_pipeline(PCA(VOXEL_COMPONENTS, whiten=True, svd_solver="full"), _linear(cohort.task, strength=0.1))
    return Baseline(name="voxels (PCA, 8 mm)", model=model, features=features)


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
