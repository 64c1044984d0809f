"""Predictions of a network for the cases of a fold, scored and as the table later stages read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from scipy.special import log_softmax
from sklearn.metrics import roc_auc_score

from adnext_plugin.paths import replacing
from adnext_plugin.records import Task


@dataclass(frozen=True, kw_only=True)
class Predictions:
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


def gather(cases: Sequence[str], outputs: Sequence[dict], targets: Sequence[int]) -> Predictions:
    """Put the outputs of validation steps into the order of `cases`.

    Args:
        cases: ids, as the store numbers them.
        outputs: of each step: `indices` (B,) into `cases` and `logits` (B, classes).
        targets: class index of each case.
    """
    indices = torch.cat([output["indices"] for output in outputs]).numpy()
    logits = torch.cat([output["logits"] for output in outputs]).double().numpy()
    ordered = np.empty((len(cases), logits.shape[1]))
    ordered[indices] = logits
    return Predictions(cases=tuple(cases), logits=ordered, targets=np.asarray(targets))


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
        probabilities = np.exp(log_softmax(predictions.logits, axis=1))
        who = subjects.set_index("case_id").loc[list(predictions.cases), ["subject_id", "session_id"]].reset_index()
        table = who.assign(fold=fold, part=part, target=np.asarray(task.classes)[predictions.targets])
        for index, name in enumerate(task.classes):
            table[f"logit_{name}"] = predictions.logits[:, index]
            table[f"prob_{name}"] = probabilities[:, index]
        tables.append(table)
    with replacing(path) as temporary:
        pd.concat(tables).to_csv(temporary, index=False)
