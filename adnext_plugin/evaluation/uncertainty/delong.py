"""Areas under ROC curves with their variance in closed form: an interval for one, a test for two on the same subjects.

Folds may be given: then the area is the mean of the folds' own areas, each from pairs of one fold only, and its
variance the sum of theirs over the square of their number. Networks of different folds are on different scales.

Source: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837, from midranks as in Sun and Xu 2014, IEEE Signal
Process Lett 21:1389.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm, rankdata

from adnext_plugin.evaluation.uncertainty.bootstrap import CONFIDENCE
from adnext_plugin.findings import AreaInterval

FEW = 10  # subjects of a class in a fold below which the normal approximation is said to be rough
NO_VARIANCE = 1e-20  # of placements, which are multiples of 1/2 over a number of subjects: what is below is rounding


@dataclass(frozen=True, kw_only=True)
class AreaTest:
    """First area minus second, two-sided; `correlation` is that of the two areas. None where it does not exist."""

    difference: float | None
    standard_error: float | None
    p: float | None
    correlation: float | None
    note: str | None = None


def areas_and_covariance(
    is_positive: np.ndarray, scores: np.ndarray, folds: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Areas of M models on the same subjects, and their covariance.

    Args:
        is_positive: (N,) booleans.
        scores: (M, N), higher for positives; ties count half.
        folds: (N,), or None for one fold.

    Returns:
        (M,) and (M, M); NaN where a fold lacks a class, the covariance also where it has one subject of a class.
    """
    areas, covariances = [], []
    for positives, negatives in _placements(is_positive, scores, folds):
        models = len(scores)
        if min(positives.shape[1], negatives.shape[1]) == 0:
            return np.full(models, np.nan), np.full((models, models), np.nan)
        areas.append(positives.mean(axis=1))
        covariances.append(_covariance_of_mean(positives) + _covariance_of_mean(negatives))
    return np.mean(areas, axis=0), np.sum(covariances, axis=0) / len(areas) ** 2


def area_interval(is_positive: np.ndarray, scores: np.ndarray, folds: np.ndarray | None = None) -> AreaInterval:
    """One model's area with an interval on the logit scale, which stays within 0 and 1.

    Where all pairs are ordered rightly (or all wrongly) the variance is 0 and says nothing. The limit is then the
    one-sided 95 % bound of as many independent pairs as can be formed, 0.05^(1/pairs), about 1 - 3/pairs (the rule of
    three): cautious, since every subject stands in one pair only.

    Source of the logit interval: Qin and Hotilovac 2008, Stat Methods Med Res 17:207.

    Args:
        is_positive: (N,) booleans.
        scores: (N,).
        folds: (N,), or None for one fold.
    """
    areas, covariance = areas_and_covariance(is_positive, scores[None], folds)
    area, variance = float(areas[0]), float(covariance[0, 0])
    if not np.isfinite(area):
        return AreaInterval(value=None, standard_error=None, low=None, high=None, note="a class is absent")
    if area in (0.0, 1.0):
        pairs = sum(_rarer(is_positive, folds))
        bound = (1 - CONFIDENCE) ** (1 / pairs)
        low, high = (bound, 1.0) if area == 1 else (0.0, 1 - bound)
        note = f"no variance; one-sided bound from {pairs} independent pairs"
        return AreaInterval(value=area, standard_error=None, low=low, high=high, note=note)
    if not np.isfinite(variance):
        note = "a class has one subject in a fold"
        return AreaInterval(value=area, standard_error=None, low=None, high=None, note=note)
    if variance < NO_VARIANCE:
        note = "the score is the same for everybody"
        return AreaInterval(value=area, standard_error=0.0, low=area, high=area, note=note)
    error = np.sqrt(variance)
    half_width = norm.ppf((1 + CONFIDENCE) / 2) * error / (area * (1 - area))
    low, high = expit(logit(area) + np.array([-half_width, half_width]))
    few = _few(is_positive, folds)
    return AreaInterval(value=area, standard_error=float(error), low=float(low), high=float(high), note=few)


def paired_test(
    is_positive: np.ndarray, first: np.ndarray, second: np.ndarray, folds: np.ndarray | None = None
) -> AreaTest:
    """Test whether two models' areas on the same subjects are equal.

    Two models that order all pairs alike have p = 1, perfect ones among them. Where the areas differ but neither
    varies over subjects, as of a perfect model and a constant one, there is no p.

    Args:
        is_positive: (N,) booleans.
        first: (N,) scores.
        second: (N,) scores.
        folds: (N,), or None for one fold.
    """
    areas, covariance = areas_and_covariance(is_positive, np.stack([first, second]), folds)
    if not np.isfinite(areas).all():
        return AreaTest(difference=None, standard_error=None, p=None, correlation=None, note="a class is absent")
    difference = float(areas[0] - areas[1])
    if not np.isfinite(covariance).all():
        note = "a class has one subject in a fold"
        return AreaTest(difference=difference, standard_error=None, p=None, correlation=None, note=note)
    variances = np.diag(covariance)
    both_vary = (variances > NO_VARIANCE).all()
    correlation = float(np.clip(covariance[0, 1] / np.sqrt(variances.prod()), -1, 1)) if both_vary else None
    variance = float(_variance_of_difference(is_positive, np.stack([first, second]), folds))
    if variance > NO_VARIANCE:
        error = np.sqrt(variance)
        p = float(2 * norm.sf(abs(difference) / error))
        few = _few(is_positive, folds)
        return AreaTest(difference=difference, standard_error=float(error), p=p, correlation=correlation, note=few)
    if abs(difference) < np.sqrt(NO_VARIANCE):
        note = "the two order the subjects alike"
        return AreaTest(difference=0.0, standard_error=0.0, p=1.0, correlation=correlation, note=note)
    note = "the areas differ, but neither varies over subjects"
    return AreaTest(difference=difference, standard_error=None, p=None, correlation=correlation, note=note)


def _variance_of_difference(is_positive: np.ndarray, scores: np.ndarray, folds: np.ndarray | None) -> float:
    """From the differences of placements: exactly 0 for equal orders, where a sum of covariances would only be near."""
    variances = [
        sum(_covariance_of_mean(placements[:1] - placements[1:])[0, 0] for placements in pair)
        for pair in _placements(is_positive, scores, folds)
    ]
    return sum(variances) / len(variances) ** 2


def _placements(
    is_positive: np.ndarray, scores: np.ndarray, folds: np.ndarray | None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Per fold the share of negatives below each positive, (M, positives), and of positives above each negative."""
    for rows in _split(np.arange(len(is_positive)), folds):
        labels = is_positive[rows]
        ranks_of_all = rankdata(scores[:, rows], axis=1)
        positives = ranks_of_all[:, labels] - rankdata(scores[:, rows[labels]], axis=1)
        negatives = ranks_of_all[:, ~labels] - rankdata(scores[:, rows[~labels]], axis=1)
        yield positives / max(1, (~labels).sum()), 1 - negatives / max(1, labels.sum())


def _rarer(is_positive: np.ndarray, folds: np.ndarray | None) -> list[int]:
    """Subjects of the rarer class of every fold."""
    return [int(min(fold.sum(), (~fold).sum())) for fold in _split(is_positive, folds)]


def _few(is_positive: np.ndarray, folds: np.ndarray | None) -> str | None:
    fewest = min(_rarer(is_positive, folds))
    return f"rough: a fold has {fewest} subjects of a class" if fewest < FEW else None


def _split(values: np.ndarray, folds: np.ndarray | None) -> list[np.ndarray]:
    return [values] if folds is None else [values[folds == fold] for fold in np.unique(folds)]


def _covariance_of_mean(placements: np.ndarray) -> np.ndarray:
    count = placements.shape[1]
    if count < 2:
        return np.full((len(placements), len(placements)), np.nan)
    return np.atleast_2d(np.cov(placements)) / count
