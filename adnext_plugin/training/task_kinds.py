"""What differs between kinds of task in training: targets, loss, scores, and which epoch is the better one."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from adnext_plugin.settings import Protocol, TrainerSettings
from adnext_plugin.task import Task
from adnext_plugin.training.predictions import ClassPredictions, Predictions, ValuePredictions, in_order


class TaskKind(ABC):
    """How one kind is learned, for one run.

    Args:
        task: what is to be learned.
        training_targets: of the cases the network is trained on, (N,): class indices, or numbers.
    """

    score_names: dict[str, str]  # what is logged of an epoch besides losses, and how it is called

    def __init__(self, task: Task, training_targets: np.ndarray) -> None:
        self.task = task
        self.training_targets = training_targets

    @abstractmethod
    def loss(self, settings: TrainerSettings) -> nn.Module:
        """Maps outputs (B, K) and targets (B,) to a scalar."""

    @abstractmethod
    def predictions(self, cases: Sequence[str], outputs: Sequence[dict], targets: np.ndarray) -> Predictions:
        """Outputs of validation steps as predictions of `cases`, whose true targets are given."""

    @abstractmethod
    def rank(self, scores: dict[str, float], protocol: Protocol) -> tuple[float, float]:
        """What epochs are compared by, the larger the better."""

    def notes(self) -> dict:
        """What a checkpoint must say for its outputs to be read."""
        return {}


class Classification(TaskKind):
    """Cross-entropy, by default weighted so that each class counts the same."""

    score_names = {"auc": "AUC", "accuracy": "accuracy"}  # noqa: RUF012  never changed

    def loss(self, settings: TrainerSettings) -> nn.Module:
        """Cross-entropy with the class weights that the settings ask for."""
        if settings.class_weights == "none":
            return nn.CrossEntropyLoss()
        counts = np.bincount(self.training_targets, minlength=self.task.num_outputs)
        weights = counts if settings.class_weights == "counts" else 1 / counts
        return nn.CrossEntropyLoss(weight=torch.tensor(weights * len(weights) / weights.sum(), dtype=torch.float32))

    def predictions(self, cases: Sequence[str], outputs: Sequence[dict], targets: np.ndarray) -> ClassPredictions:
        """Logits in the order of the cases."""
        return ClassPredictions(cases=tuple(cases), logits=in_order(cases, outputs), targets=targets)

    def rank(self, scores: dict[str, float], protocol: Protocol) -> tuple[float, float]:
        """AUC, or the paper's accuracy, and then the lower loss.

        With few cases to choose on equal AUCs are common. Where one class is absent, the loss alone decides.
        """
        score = scores["accuracy" if protocol == "paper" else "auc"]
        return (0.0 if math.isnan(score) else score), -scores["loss"]


class ScaledL1(nn.Module):
    """Mean absolute difference of outputs (B, 1) from targets (B,) brought to mean 0 and standard deviation 1."""

    def __init__(self, mean: float, deviation: float) -> None:
        super().__init__()
        self._mean, self._deviation = mean, deviation

    def forward(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return nn.functional.l1_loss(outputs[:, 0], ((targets - self._mean) / self._deviation).to(outputs.dtype))


class Regression(TaskKind):
    """L1 loss. The network's output counts standard deviations from the mean of the training targets."""

    score_names = {"mae": "MAE", "r2": "R²"}  # noqa: RUF012  never changed

    def __init__(self, task: Task, training_targets: np.ndarray) -> None:
        super().__init__(task, training_targets)
        self._mean = float(training_targets.mean())
        # few training cases, as of a learning curve, may all have one value
        self._deviation = float(training_targets.std()) or 1.0

    def loss(self, settings: TrainerSettings) -> nn.Module:
        """L1 in standard deviations of the training targets."""
        return ScaledL1(self._mean, self._deviation)

    def predictions(self, cases: Sequence[str], outputs: Sequence[dict], targets: np.ndarray) -> ValuePredictions:
        """Numbers in the target's unit, in the order of the cases."""
        values = in_order(cases, outputs)[:, 0] * self._deviation + self._mean
        return ValuePredictions(cases=tuple(cases), values=values, targets=targets, scale=self._deviation)

    def rank(self, scores: dict[str, float], protocol: Protocol) -> tuple[float, float]:
        """The lower mean absolute error."""
        return -scores["mae"], 0.0

    def notes(self) -> dict:
        """Mean and standard deviation that outputs are relative to."""
        return {"target_scale": {"mean": self._mean, "standard_deviation": self._deviation}}


TASK_KINDS: dict[str, type[TaskKind]] = {"classification": Classification, "regression": Regression}
