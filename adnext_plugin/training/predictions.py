"""Predictions of a network for the cases of a fold, scored and as the table later stages read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import log_softmax
from sklearn.metrics import mean_absolute_error, r2_score, roc_auc_score

from adnext_plugin.csv_files import write_csv
from adnext_plugin.task import Task


@dataclass(frozen=True, kw_only=True)
class ClassPredictions:
    """Logits (N, classes) float64 and true class indices (N,) of `cases`, in that order."""

    cases: tuple[str, ...]
    logits: np.ndarray
    targets: np.ndarray

    @property
    def loss(self) -> float:
        """Mean unweighted cross-entropy."""
        return float(-log_softmax(self.logits, axis=1)[np.arange(len(self.targets)), self.targets].mean())

    @property
    def accuracy(self) -> float:
        """Share of cases whose largest logit is the true class's."""
        return float((self.logits.argmax(axis=1) == self.targets).mean())

    @property
    def auc(self) -> float:
        """Area under the ROC curve, for more than two classes one-vs-rest and macro-averaged; NaN if one is absent."""
        if len(np.unique(self.targets)) < self.logits.shape[1]:
            return float("nan")
        probabilities = np.exp(log_softmax(self.logits, axis=1))
        if self.logits.shape[1] == 2:
            return float(roc_auc_score(self.targets, self.logits[:, 1] - self.logits[:, 0]))
        return float(roc_auc_score(self.targets, probabilities, multi_class="ovr"))

    def summary(self) -> dict[str, float | int]:
        """Aggregate numbers only, fit to travel with a shared model."""
        return {"cases": len(self.cases), "loss": self.loss, "accuracy": self.accuracy, "auc": self.auc}

    def columns(self, task: Task) -> dict[str, np.ndarray]:
        """Class names, logits and probabilities, as columns."""
        probabilities = np.exp(log_softmax(self.logits, axis=1))
        columns = {"target": np.asarray(task.classes)[self.targets]}
        for index, name in enumerate(task.classes):
            columns[f"logit_{name}"] = self.logits[:, index]
            columns[f"prob_{name}"] = probabilities[:, index]
        return columns


@dataclass(frozen=True, kw_only=True)
class ValuePredictions:
    """Predicted and true numbers (N,) float64 of `cases`, in the target's unit, in that order.

    `scale` is the standard deviation that the loss is measured in.
    """

    cases: tuple[str, ...]
    values: np.ndarray
    targets: np.ndarray
    scale: float

    def summary(self) -> dict[str, float | int]:
        """Aggregate numbers only: loss, mean absolute error and, for two cases or more, R² (NaN for one)."""
        mae = float(mean_absolute_error(self.targets, self.values))
        r2 = float(r2_score(self.targets, self.values)) if len(self.cases) > 1 else float("nan")
        return {"cases": len(self.cases), "loss": mae / self.scale, "mae": mae, "r2": r2}

    def columns(self, task: Task) -> dict[str, np.ndarray]:
        """True and predicted numbers, as columns."""
        return {"target": self.targets, "prediction": self.values}


Predictions = ClassPredictions | ValuePredictions


def in_order(cases: Sequence[str], outputs: Sequence[dict]) -> np.ndarray:
    """The outputs of validation steps, put into the order of `cases`.

    Args:
        cases: ids, as the store numbers them.
        outputs: of each step: `indices` (B,) into `cases` and `outputs` (B, K).

    Returns:
        (N, K) float64.
    """
    indices = torch.cat([output["indices"] for output in outputs]).numpy()
    found = torch.cat([output["outputs"] for output in outputs]).double().numpy()
    ordered = np.empty((len(cases), found.shape[1]))
    ordered[indices] = found
    return ordered


def write_predictions(parts: dict[str, Predictions], fold: int, subjects: pd.DataFrame, task: Task, path: Path) -> None:
    """Write the predictions of a fold's parts as CSV at full precision.

    Args:
        parts: predictions by part, `val` (held out) and `selection`.
        fold: number of the fold.
        subjects: content of `subjects.csv`.
        task: names the classes.
        path: the file.
    """
    tables = []
    for part, predictions in parts.items():
        who = subjects.set_index("case_id").loc[list(predictions.cases), ["subject_id", "session_id"]].reset_index()
        tables.append(who.assign(fold=fold, part=part, **predictions.columns(task)))
    write_csv(pd.concat(tables, ignore_index=True), path)
