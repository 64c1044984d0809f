"""Learning rates as functions of the epoch and the step, so that a resumed run needs no saved state."""

import math

from torch.optim import Optimizer

from adnext_plugin.settings import RunSettings

POLY_EXPONENT = 0.9  # of nnU-Net's PolyLRScheduler
FIRST_SHARE = 1e-3  # of the peak, at which a warm-up by steps begins, as torch's LinearLR may
RATE_SHARE = "adnext_rate_share"  # key of an optimizer's parameter group: its rate over the schedule's


def learning_rate_at(epoch: float, settings: RunSettings) -> float:
    """The rate of an epoch (from 0): a linear warm-up, then half a cosine, a constant or nnU-Net's polynomial.

    The cosine equals torch's `CosineAnnealingLR` stepped once per epoch with `T_max` = epochs after the warm-up. With
    `schedule_unit` step, epochs are counted in fractions, and warm-up and cosine equal torch's `LinearLR` from a
    thousandth and `CosineAnnealingLR` after it, both stepped once per training step.
    """
    if epoch < settings.warmup_epochs:
        if settings.schedule_unit == "step":
            return settings.learning_rate * (FIRST_SHARE + (1 - FIRST_SHARE) * epoch / settings.warmup_epochs)
        return settings.learning_rate * (epoch + 1) / (settings.warmup_epochs + 1)
    if settings.schedule == "constant":
        return settings.learning_rate
    progress = (epoch - settings.warmup_epochs) / (settings.epochs - settings.warmup_epochs)
    falling = (1 - progress) ** POLY_EXPONENT
    if settings.schedule == "cosine":
        falling = (1 + math.cos(math.pi * progress)) / 2
    return settings.min_learning_rate + (settings.learning_rate - settings.min_learning_rate) * falling


class EpochSchedule:
    """Sets the rate of an optimizer, with the `step(epoch)` that nnU-Net calls, and before each training step."""

    def __init__(self, optimizer: Optimizer, settings: RunSettings) -> None:
        self._optimizer = optimizer
        self._settings = settings

    def step(self, epoch: int) -> None:
        """Set the rate that this epoch begins with."""
        self._set(epoch)

    def before_step(self, epoch: int, step: int, steps: int) -> None:
        """Set the rate of a step of this epoch, if it has one of its own."""
        if self._settings.schedule_unit == "step":
            self._set(epoch + step / steps)

    def _set(self, epoch: float) -> None:
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate_at(epoch, self._settings) * group.get(RATE_SHARE, 1)
