"""Columns of `subjects.csv` as numbers a network can take."""

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd

from adnext_plugin.errors import SettingsError, nearest_names
from adnext_plugin.records import record
from adnext_plugin.subjects import SEXES
from adnext_plugin.task import Task


@record
class CovariateScale:
    """Mean and standard deviation of each covariate over the training cases."""

    names: tuple[str, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]

    @classmethod
    def of(cls, training: pd.DataFrame, names: Sequence[str], task: Task) -> "CovariateScale":
        """Measure them.

        Args:
            training: rows of `subjects.csv` of the training cases.
            names: columns.
            task: what is to be learned, which no covariate may give away.

        Raises:
            SettingsError: no such column, one that gives the target away, or one without any number.
        """
        for name in names:
            if name not in training:
                raise SettingsError(
                    f"covariates: subjects.csv has no column {name!r}{nearest_names(name, map(str, training.columns))}"
                )
            if name in (task.target, *task.derived_from):
                raise SettingsError(f"covariates: {name!r} gives the target {task.target!r} away; leave it out")
            if _numbers(training[name]).isna().all():
                raise SettingsError(f"covariates: no training case has a number (or M or F) as {name!r}; leave it out")
        columns = [_numbers(training[name]) for name in names]
        return cls(
            names=tuple(names),
            means=tuple(float(column.mean()) for column in columns),
            deviations=tuple(float(column.std(ddof=0)) or 1.0 for column in columns),
        )

    def apply(self, rows: pd.DataFrame) -> np.ndarray:
        """Covariates (N, K) float32 of cases, standardised; 0, the training mean, where unknown."""
        columns = [_numbers(rows[name]) for name in self.names]
        scaled = [
            (column - mean) / deviation
            for column, mean, deviation in zip(columns, self.means, self.deviations, strict=True)
        ]
        return np.stack([column.fillna(0.0) for column in scaled], axis=1).astype(np.float32)

    def to_json(self) -> dict:
        """As a checkpoint keeps it."""
        return asdict(self)


def plain_columns(rows: pd.DataFrame, names: Sequence[str], task: Task, network: str) -> np.ndarray:
    """Columns (N, K) float32 of cases as they are, for a network that takes them so.

    Raises:
        SettingsError: no such column, one that gives the target away, or a case without a number.
    """
    for name in names:
        if name in (task.target, *task.derived_from):
            raise SettingsError(f"network {network} takes {name!r}, which gives the target {task.target!r} away")
        if name not in rows or _numbers(rows[name]).isna().any():
            where = (
                "subjects.csv has none"
                if name not in rows
                else f"{rows.index[_numbers(rows[name]).isna()][0]} has none"
            )
            raise SettingsError(f"network {network} needs the {name} of every case, but {where}")
    return known_columns(rows, names)


def known_columns(rows: pd.DataFrame, names: Sequence[str]) -> np.ndarray:
    """Columns (N, K) float32 of cases as they are; NaN where unknown."""
    return np.stack([_numbers(rows[name]) for name in names], axis=1).astype(np.float32)


def _numbers(column: pd.Series) -> pd.Series:
    return pd.to_numeric(column.replace(SEXES), errors="coerce")
