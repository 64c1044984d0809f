"""How far a predicted quantity, such as age, is from the true one."""

import numpy as np


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
