"""The correction of a predicted quantity's dependence on the truth.

A network that is unsure predicts towards the mean: it makes the young older and the old younger. The slope of that
says how much.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, kw_only=True)
class BiasCorrection:
    """A straight line of the error over the true value.

    The correction uses the true value, so that corrected predictions are closer to it even where the network knows
    nothing. They serve to compare gaps (predicted less true) between people of different age, never to score a network.
    """

    slope: float
    intercept: float

    def corrected(self, targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
        """Predictions without the error that the line expects at their true value, (N,)."""
        return predictions - (self.intercept + self.slope * targets)


def fit_bias_correction(targets: np.ndarray, predictions: np.ndarray) -> BiasCorrection:
    """Fit the line on the `selection` part; none (slope 0) where all true values there are the same.

    Sources: Smith et al. 2019, NeuroImage 200:528; de Lange and Cole 2020, NeuroImage Clin 26:102229.

    Args:
        targets: (N,) true values.
        predictions: (N,).
    """
    if len(targets) == 0 or np.ptp(targets) == 0:
        return BiasCorrection(slope=0.0, intercept=0.0)
    slope, intercept = np.polyfit(targets, predictions - targets, 1)
    return BiasCorrection(slope=float(slope), intercept=float(intercept))
