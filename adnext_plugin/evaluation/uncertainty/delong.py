"""Areas under ROC curves with their variance in closed form: an interval for one, a test for two on the same subjects.

Folds may be given: then the area is the mean of the folds' own areas, each from pairs of one fold only, since networks
of different folds are on different scales.

A subject's placement is the share of the other class, in the same fold, that the subject is ordered rightly with; the
area is a weighted mean of the placements of either class. Its variance is that of the placements of the rarer class
around their mean over all folds, and what two of them have in common, who share a fold, by being set against the same
subjects. So a class of one in every fold still varies, which it cannot do within a fold. Both parts are estimated
without bias, unlike DeLong's sum of the variances of the two classes, which counts the chance of a single pair twice:
in folds of few that is up to half again too large. In large cohorts the two are the same. Limits come from Student's t
with Satterthwaite's degrees of freedom. `benchmarks/coverage.py` measures how often they are right.

Sources: DeLong, DeLong and Clarke-Pearson 1988, Biometrics 44:837 (placements); Bamber 1975, J Math Psychol 12:387
(variance without bias); Satterthwaite 1946, Biometrics Bull 2:110.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t

from adnext_plugin.evaluation.uncertainty.bootstrap import CONFIDENCE, too_few
from adnext_plugin.findings import AreaInterval
from adnext_plugin.subjects import FEWEST_OF_A_CLASS

NO_VARIANCE = 1e-20  # of placements, which are multiples of 1/2 over a number of subjects: what is below is rounding
BLOCK_PAIRS = 4_000_000  # formed at a time


@dataclass(frozen=True, kw_only=True)
class AreaTest:
    """First area minus second, its 95 % interval and two-sided p; `correlation` is that of the two areas.

    None where it does not exist.
    """

    difference: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    p: float | None
    correlation: float | None
    note: str | None = None


@dataclass(frozen=True, kw_only=True)
class AreaMoments:
    """An area, or a difference of two, with its variance and that variance's degrees of freedom; NaN where unknown."""

    value: float
    variance: float
    freedom: float


def area_moments(
    is_positive: np.ndarray, scores: np.ndarray, signs: tuple[int, ...], folds: np.ndarray | None = None
) -> AreaMoments:
    """Of the signed sum of the areas of M models on the same subjects.

    Args:
        is_positive: (N,) booleans.
        scores: (M, N), higher for positives; ties count half.
        signs: (M,), such as (1,) for an area or (1, -1) for a difference.
        folds: (N,), or None for one fold.

    Returns:
        Value NaN where a fold lacks a class; variance NaN also where a class has one subject in all, or the more
        frequent one has one in a fold that has several of the other.
    """
    is_rarer = is_positive if is_positive.sum() <= (~is_positive).sum() else ~is_positive
    parts = [(rows[is_rarer[rows]], rows[~is_rarer[rows]]) for rows in _rows_of_folds(len(is_positive), folds)]
    if any(not len(some) for part in parts for some in part):
        return AreaMoments(value=np.nan, variance=np.nan, freedom=np.nan)
    found = [_placements(scores[:, one], scores[:, other], signs, is_rarer is is_positive) for one, other in parts]
    value = float(np.mean([placements.mean() for placements, _ in found]))
    rarer, others = int(is_rarer.sum()), int((~is_rarer).sum())
    if rarer < 2:
        return AreaMoments(value=value, variance=np.nan, freedom=np.nan)
    members = np.array([len(placements) for placements, _ in found])
    shared = np.array([in_common for _, in_common in found])
    weights = np.repeat(1 / (len(parts) * members), members)
    own = float((weights**2).sum() * np.concatenate([placements for placements, _ in found]).var(ddof=1))
    # those of one fold lie closer together than they would by themselves, and their mean varies by what they share
    common = float((shared * ((weights**2).sum() / (rarer * (rarer - 1)) + 1 / (len(parts) * members) ** 2)).sum())
    common = np.nan if np.isnan(common) else max(common, 0.0)
    variance = own + common
    spread = own**2 / (rarer - 1) + common**2 / (others - 1) if others > 1 else np.nan
    return AreaMoments(value=value, variance=variance, freedom=variance**2 / spread if spread > 0 else np.nan)


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
    found = area_moments(is_positive, scores[None], (1,), folds)
    area, fewest = found.value, _fewest(is_positive)
    if not np.isfinite(area):
        return AreaInterval(value=None, standard_error=None, low=None, high=None, note="a class is absent")
    if fewest < FEWEST_OF_A_CLASS:
        return AreaInterval(value=area, standard_error=None, low=None, high=None, note=too_few(fewest))
    if area in (0.0, 1.0):
        pairs = sum(_fewest(is_positive[part]) for part in _rows_of_folds(len(is_positive), folds))
        bound = (1 - CONFIDENCE) ** (1 / pairs)
        low, high = (bound, 1.0) if area == 1 else (0.0, 1 - bound)
        note = f"no variance; one-sided bound from {pairs} independent pairs"
        return AreaInterval(value=area, standard_error=None, low=low, high=high, note=note)
    if not np.isfinite(found.variance):
        note = "a class has one subject in a fold"
        return AreaInterval(value=area, standard_error=None, low=None, high=None, note=note)
    if found.variance < NO_VARIANCE:
        note = "the score is the same for everybody"
        return AreaInterval(value=area, standard_error=0.0, low=None, high=None, note=note)
    error = np.sqrt(found.variance)
    half_width = t.ppf((1 + CONFIDENCE) / 2, found.freedom) * error / (area * (1 - area))
    low, high = expit(logit(area) + np.array([-half_width, half_width]))
    return AreaInterval(value=area, standard_error=float(error), low=float(low), high=float(high))


def paired_test(
    is_positive: np.ndarray, first: np.ndarray, second: np.ndarray, folds: np.ndarray | None = None
) -> AreaTest:
    """Test whether two models' areas on the same subjects are equal.

    Two models that order all pairs alike have p = 1 and no interval, perfect ones among them. Where the areas differ
    but neither varies over subjects, as of a perfect model and a constant one, there is no p.

    Args:
        is_positive: (N,) booleans.
        first: (N,) scores.
        second: (N,) scores.
        folds: (N,), or None for one fold.
    """
    both = np.stack([first, second])
    found = area_moments(is_positive, both, (1, -1), folds)
    difference, fewest = found.value, _fewest(is_positive)
    if not np.isfinite(difference):
        return _no_test(None, "a class is absent")
    if fewest < FEWEST_OF_A_CLASS:
        return _no_test(difference, too_few(fewest))
    if not np.isfinite(found.variance):
        return _no_test(difference, "a class has one subject in a fold")
    variances = [area_moments(is_positive, scores[None], (1,), folds).variance for scores in both]
    correlation = None
    if min(variances) > NO_VARIANCE:
        covariance = (sum(variances) - found.variance) / 2
        correlation = float(np.clip(covariance / np.sqrt(np.prod(variances)), -1, 1))
    if found.variance > NO_VARIANCE:
        error = float(np.sqrt(found.variance))
        half_width = float(t.ppf((1 + CONFIDENCE) / 2, found.freedom)) * error
        return AreaTest(
            difference=difference,
            standard_error=error,
            low=difference - half_width,
            high=difference + half_width,
            p=float(2 * t.sf(abs(difference) / error, found.freedom)),
            correlation=correlation,
        )
    if abs(difference) < np.sqrt(NO_VARIANCE):
        note = "the two order the subjects alike"
        return AreaTest(
            difference=0.0, standard_error=0.0, low=None, high=None, p=1.0, correlation=correlation, note=note
        )
    return _no_test(difference, "the areas differ, but neither varies over subjects", correlation)


def _no_test(difference: float | None, note: str, correlation: float | None = None) -> AreaTest:
    return AreaTest(
        difference=difference, standard_error=None, low=None, high=None, p=None, correlation=correlation, note=note
    )


def _placements(
    rarer: np.ndarray, others: np.ndarray, signs: tuple[int, ...], rarer_are_positive: bool
) -> tuple[np.ndarray, float]:
    """Placements (P,) of the rarer class of a fold, and P (P - 1) times the covariance of two of them.

    Args:
        rarer: (M, P) scores.
        others: (M, Q) scores.
        signs: (M,).
        rarer_are_positive: else they are negatives.

    Returns:
        The covariance NaN where there is one of the other class and several of this.
    """
    people, opponents = rarer.shape[1], others.shape[1]
    placements, per_opponent, within = np.empty(people), np.zeros(opponents), 0.0
    for start in range(0, people, max(1, BLOCK_PAIRS // opponents)):
        rows = slice(start, start + max(1, BLOCK_PAIRS // opponents))
        pairs = np.zeros((len(placements[rows]), opponents))
        for own, theirs, sign in zip(rarer, others, signs, strict=True):
            order = np.sign(own[rows, None] - theirs[None])
            pairs += sign * (1 + (order if rarer_are_positive else -order)) / 2
        placements[rows] = pairs.mean(axis=1)
        per_opponent += pairs.sum(axis=0)
        if opponents > 1:
            within += float(pairs.var(axis=1, ddof=1).sum())
    if people == 1:
        return placements, 0.0
    if opponents == 1:
        return placements, np.nan
    return placements, (float(per_opponent.var(ddof=1)) - within) / opponents


def _fewest(is_positive: np.ndarray) -> int:
    return int(min(is_positive.sum(), (~is_positive).sum()))


def _rows_of_folds(people: int, folds: np.ndarray | None) -> list[np.ndarray]:
    return [np.arange(people)] if folds is None else [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
