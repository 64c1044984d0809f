"""Whether probabilities mean what they say, and temperature scaling, which mends them without changing an order.

With two classes the probability is that of the positive class; with more, every class is taken against the rest.
Functions of weights (R, N) return one value per row; a row counts how often each subject is in a resample.
"""

from itertools import pairwise

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from adnext_plugin.evaluation.uncertainty.proportions import wilson
from adnext_plugin.findings import ReliabilityBin, Temperature

BINS = 15
SUBJECTS_PER_BIN = 10  # at least; small cohorts get fewer bins
TEMPERATURES = (
    0.05,
    20.0,
)  # classes that `selection` separates perfectly would send it to 0, useless logits to infinity


def fit_temperature(logits: np.ndarray, targets: np.ndarray) -> Temperature:
    """The temperature of smallest log-loss on the `selection` part; 1 where that is empty.

    Source: Guo et al. 2017, ICML, section 4.2.

    Args:
        logits: (N, classes), or logarithms of probabilities.
        targets: (N,) integers.
    """
    if len(targets) == 0:
        return Temperature(value=1.0)

    def loss(log_temperature: float) -> float:
        return -log_softmax(logits / np.exp(log_temperature), axis=1)[np.arange(len(targets)), targets].mean()

    limits = np.log(TEMPERATURES)
    found = minimize_scalar(loss, bounds=limits, method="bounded", options={"xatol": 1e-6})
    at_limit = bool(np.abs(found.x - limits).min() < 1e-3)
    return Temperature(value=float(np.exp(found.x)), at_limit=at_limit)


def calibration_scores(targets: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Log-loss, Brier score and its parts, calibration error.

    `brier` = `brier_reliability` - `brier_resolution` + `brier_uncertainty`, over bins of equal numbers of subjects,
    equal probabilities always in one bin. Reliability is freed from the part that chance alone gives it in small bins,
    and may therefore be below 0; resolution takes up what is left, spread within bins among it. With more than two
    classes all four are sums over classes. `ece_debiased` is the root of the reliability, 0 where that is negative, of
    its mean over classes if there are more than two.

    Sources: Brier 1950, Mon Weather Rev 78:1; Murphy 1973, J Appl Meteorol 12:595; spread within bins: Stephenson et
    al. 2008, Weather Forecast 23:752; debiasing: Ferro and Fricker 2012, Q J R Meteorol Soc 138:1954, and Kumar et al.
    2019, NeurIPS. A bin's variance is here that of a weighted mean, which in a resample is twice as large as in the
    data: intervals over resamples are then centred as they should be.

    Args:
        targets: (N,) integers.
        probabilities: (N, classes).
        weights: (R, N).

    Returns:
        Name to (R,).
    """
    total = weights.sum(axis=1)
    classes = [1] if probabilities.shape[1] == 2 else list(range(probabilities.shape[1]))
    brier = reliability = uncertainty = np.zeros(len(weights))
    for index in classes:
        is_class, predicted = (targets == index).astype(float), probabilities[:, index]
        rate = weights @ is_class / total
        brier = brier + weights @ (predicted - is_class) ** 2 / total
        uncertainty = uncertainty + rate * (1 - rate)
        reliability = reliability + _reliability(is_class, predicted, weights)
    of_truth = probabilities[np.arange(len(targets)), targets]
    surprise = -np.log(np.clip(of_truth, np.finfo(of_truth.dtype).eps, 1))
    return {
        "log_loss": weights @ surprise / total,
        "brier": brier,
        "brier_reliability": reliability,
        "brier_resolution": reliability + uncertainty - brier,
        "brier_uncertainty": uncertainty,
        "ece_debiased": np.sqrt(np.maximum(reliability / len(classes), 0)),
    }


def reliability_curve(is_class: np.ndarray, probabilities: np.ndarray) -> tuple[ReliabilityBin, ...]:
    """Points of a reliability plot, from the lowest probability up, over the bins of `calibration_scores`.

    Args:
        is_class: (N,) booleans.
        probabilities: (N,) of that class.
    """
    order = np.argsort(probabilities, kind="stable")
    edges = _bin_edges(probabilities[order], np.ones((1, len(order))))[0]
    bins = [order[start:end] for start, end in pairwise(edges) if end > start]
    return tuple(
        ReliabilityBin(
            subjects=len(members),
            mean_probability=float(probabilities[members].mean()),
            observed=wilson(int(is_class[members].sum()), len(members)),
        )
        for members in bins
    )


def _reliability(is_class: np.ndarray, probabilities: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Mean over subjects of the squared gap of their bin, less what chance alone gives, (R,)."""
    order = np.argsort(probabilities, kind="stable")
    ordered = weights[:, order]
    edges = _bin_edges(probabilities[order], ordered)
    count, squares = _sums_between(ordered, edges), _sums_between(ordered**2, edges)
    divisor = np.where(count > 0, count, 1)
    rate = _sums_between(ordered * is_class[order], edges) / divisor
    gap = rate - _sums_between(ordered * probabilities[order], edges) / divisor
    concentration = squares / divisor**2  # 1 / n for n subjects once each
    # one subject alone has no variance to be taken off
    spread = np.divide(concentration, 1 - concentration, out=np.zeros_like(gap), where=concentration < 1 - 1e-12)
    return (count * (gap**2 - rate * (1 - rate) * spread)).sum(axis=1) / weights.sum(axis=1)


def _bin_edges(ordered_probabilities: np.ndarray, ordered_weights: np.ndarray) -> np.ndarray:
    """Where bins of equal weight begin and end among subjects ordered by probability, (R, bins + 1) indices.

    Subjects of equal probability are one lump, which lies in the bin of its middle.
    """
    people = len(ordered_probabilities)
    bins = int(np.clip(people // SUBJECTS_PER_BIN, 1, BINS))
    starts = np.flatnonzero(np.r_[True, np.diff(ordered_probabilities) > 0])
    up_to_lump = np.cumsum(ordered_weights, axis=1)[:, np.r_[starts[1:], people] - 1]
    middles = (np.concatenate([np.zeros((len(up_to_lump), 1)), up_to_lump[:, :-1]], axis=1) + up_to_lump) / 2
    # all rows are searched at once: row r holds values from 2 r to 2 r + 1
    rows = 2.0 * np.arange(len(middles))[:, None]
    wanted = rows + np.arange(1, bins) / bins
    places = np.searchsorted((middles / up_to_lump[:, -1:] + rows).ravel(), wanted.ravel())
    lumps = places.reshape(wanted.shape) - len(starts) * np.arange(len(middles))[:, None]
    inner = np.r_[starts, people][lumps]
    first = np.zeros((len(inner), 1), dtype=int)
    return np.concatenate([first, inner, first + people], axis=1)


def _sums_between(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Sums of (R, N) between consecutive edges, (R, bins)."""
    up_to = np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)
    return np.diff(np.take_along_axis(up_to, edges, axis=1), axis=1)
