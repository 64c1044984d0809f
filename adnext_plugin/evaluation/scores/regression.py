"""How far a predicted quantity, such as age, is from the true one, and the correction of its dependence on the truth.

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


def regression_scores(targets: np.ndarray, predictions: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Mean absolute error, its root mean square, R², Pearson's r and the slope of the error over the true value.

    R² is the share of the variance that is explained, below 0 where the mean would predict better; it is not r².

    Args:
        targets: (N,) true values.
        predictions: (N,).
        weights: (R, N), how often each subject is in each resample.

    Returns:
        Name to (R,), errors in the unit of the target. NaN where true values (or, for r, predictions) do not vary.
    """
    error = predictions - targets
    # about the middle of the data, so that squares do not cancel
    true, predicted = targets - targets.mean(), predictions - predictions.mean()
    columns = np.stack([np.abs(error), error**2, true, predicted, true**2, predicted**2, true * predicted], axis=1)
    sums = (weights @ columns).T / weights.sum(axis=1)
    absolute, squared, mean_true, mean_predicted, true_square, predicted_square, product = sums
    variance_true = _cleaned(true_square - mean_true**2, true_square)
    variance_predicted = _cleaned(predicted_square - mean_predicted**2, predicted_square)
    covariance = product - mean_true * mean_predicted
    return {
        "mae": absolute,
        "rmse": np.sqrt(squared),
        "r2": 1 - _ratio(squared, variance_true),
        "pearson_r": _ratio(covariance, np.sqrt(variance_true * variance_predicted)),
        "bias_slope": _ratio(covariance - variance_true, variance_true),
    }


def _cleaned(variance: np.ndarray, mean_square: np.ndarray) -> np.ndarray:
    """Zero where a variance is only what rounding left of it."""
    return np.where(variance > 1e-12 * mean_square, variance, 0)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)
