"""What a cohort of a given size can show at all, before or after it is looked at.

Source of the variance: Hanley and McNeil 1982, Radiology 143:29; of correlated areas: the same 1983, Radiology 148:839.
"""

from collections.abc import Callable

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from adnext_plugin.subjects import FEWEST_OF_A_CLASS

POWER = 0.8
ALPHA = 0.05  # two-sided
TYPICAL_AREA = 0.8  # of another model, before any is known


def hanley_mcneil_variance(area: float, positives: int, negatives: int) -> float:
    """Variance of an area under the ROC curve when scores follow negative exponential distributions."""
    two_positives = area / (2 - area)
    two_negatives = 2 * area**2 / (1 + area)
    spread = (
        area * (1 - area) + (positives - 1) * (two_positives - area**2) + (negatives - 1) * (two_negatives - area**2)
    )
    return spread / (positives * negatives)


def detectable_difference(
    area: float, positives: int, negatives: int, correlation: float, power: float = POWER, alpha: float = ALPHA
) -> float | None:
    """Smallest gain over a model of a known area that a two-sided test finds with the given power.

    Args:
        area: of the weaker model.
        positives: subjects.
        negatives: subjects.
        correlation: of the two areas over cohorts, both models having seen the same subjects; 0 for different ones.
        power: chance to find it.
        alpha: level of the test.

    Returns:
        None where even a perfect model would be missed too often, or there are no subjects of a class.
    """
    if min(positives, negatives) == 0:
        return None

    def variance(other: float) -> float:
        first, second = (hanley_mcneil_variance(value, positives, negatives) for value in (area, other))
        return first + second - 2 * correlation * np.sqrt(first * second)

    return _smallest(area, variance, power, alpha)


def detectable_area(positives: int, negatives: int, power: float = POWER, alpha: float = ALPHA) -> float | None:
    """Smallest area that a two-sided test tells from 0.5 with the given power; None where none is."""
    if min(positives, negatives) == 0:
        return None
    gain = _smallest(0.5, lambda area: hanley_mcneil_variance(area, positives, negatives), power, alpha)
    return None if gain is None else 0.5 + gain


def area_in_words(area: float | None) -> str:
    """What `detectable_area` says of a cohort."""
    found = "no AUC" if area is None else f"an AUC from {area:.3f} on"
    return f"The cohort would tell {found} from 0.5 in {POWER * 100:.0f} % of studies."


def difference_in_words(difference: float | None) -> str:
    """What `detectable_difference` says of a cohort."""
    if difference is None:
        return f"No difference is large enough for this cohort to show it in {POWER * 100:.0f} % of studies."
    return f"The cohort would show a difference of {difference:.3f} in {POWER * 100:.0f} % of studies."


def cohort_in_words(positives: int, negatives: int) -> str:
    """What a cohort can show at all, to be known before anything is trained.

    Beside another model, of `TYPICAL_AREA`, whose area is taken not to correlate with the one tested: cautious, since
    models that see the same people agree to some degree.

    Args:
        positives: subjects.
        negatives: subjects.
    """
    if min(positives, negatives) < FEWEST_OF_A_CLASS:
        return (
            f"A class has {min(positives, negatives)} subjects: scores get intervals, and runs are compared, from "
            f"{FEWEST_OF_A_CLASS} of every class on."
        )
    difference = difference_in_words(detectable_difference(TYPICAL_AREA, positives, negatives, correlation=0.0))
    return (
        f"{area_in_words(detectable_area(positives, negatives))} "
        f"Beside a model of AUC {TYPICAL_AREA:.2f}: {difference[0].lower()}{difference[1:]}"
    )


def _smallest(area: float, variance: Callable[[float], float], power: float, alpha: float) -> float | None:
    """Gain at which it equals the normal quantiles times the standard errors without and with it."""

    def surplus(other: float) -> float:
        needed = norm.ppf(1 - alpha / 2) * np.sqrt(variance(area)) + norm.ppf(power) * np.sqrt(variance(other))
        return other - area - needed

    if surplus(1.0) < 0:
        return None
    return float(brentq(surplus, area, 1.0)) - area
