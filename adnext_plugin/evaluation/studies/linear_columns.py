"""A linear model of many columns that say much the same, such as volumes of regions; its penalty is chosen."""

from typing import Any

import numpy as np
import pandas as pd

from adnext_plugin.evaluation.studies.linear_voxels import LinearOfVoxels


class LinearOfColumns:
    """Columns as numbers of one scale, and a penalised model of them, fitted like that of voxels.

    Args:
        encode: a scikit-learn transformer from the table to numbers.
        is_number: whether a number is to be learned, or classes.
    """

    def __init__(self, encode: Any, *, is_number: bool) -> None:
        self._encode = encode
        self._linear = LinearOfVoxels(is_number=is_number)

    def fit(self, features: pd.DataFrame, targets: np.ndarray, people: np.ndarray) -> "LinearOfColumns":
        """Learn from cases.

        Args:
            features: a row per case.
            targets: of each case.
            people: who each case is; scans of one person are on one side of an inner fold.
        """
        self._linear.fit(np.asarray(self._encode.fit_transform(features), dtype=float), targets, people)
        return self

    @property
    def classes_(self) -> np.ndarray:
        """Names, in the order of `predict_proba`."""
        return self._linear.classes_

    def predict(self, features: pd.DataFrame) -> np.ndarray:
        """The number of each case."""
        return self._linear.predict(np.asarray(self._encode.transform(features), dtype=float))

    def predict_proba(self, features: pd.DataFrame) -> np.ndarray:
        """`(cases, classes)`, in the order of `classes_`."""
        return self._linear.predict_proba(np.asarray(self._encode.transform(features), dtype=float))
