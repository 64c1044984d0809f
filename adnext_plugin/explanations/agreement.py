"""Do the maps of a person agree, by several networks or at several visits, more than those of different people do?

What is compared are profiles: the means of a map in regions of the brain. Maps that look alike for everybody agree
between different people, too, so that this is the chance beside every number.
"""

from collections.abc import Sequence

import numpy as np

from adnext_plugin.findings import Estimate
from adnext_plugin.records import record

FEWEST_PEOPLE = 5  # for correlations over people


@record
class Agreement:
    """Of profiles of the same people, several of each.

    `over_regions`: ICC(1,1) over regions of a person's profiles, mean over people with its 95 % interval: is it the
    same places? `of_strangers`: the same of profiles of different people. `over_people`: ICC(1,1) over people of a
    region's mean, median over regions: is it the same that sets people apart? None with fewer than five people.
    """

    people: int
    over_regions: Estimate
    of_strangers: float | None
    over_people: float | None


def intraclass_correlation(ratings_kn: np.ndarray) -> float:
    """ICC(1,1) of K ratings of N things; NaN where all are the same.

    (B - W) / (B + (K - 1) W), of the mean squares B between things and W within them.

    Source: Shrout and Fleiss 1979, Psychol Bull 86:420.
    """
    count = len(ratings_kn)
    between = count * ratings_kn.mean(axis=0).var(ddof=1)
    within = ratings_kn.var(axis=0, ddof=1).mean()
    total = between + (count - 1) * within
    return float((between - within) / total) if total > 0 else float("nan")


def agreement(profiles: Sequence[np.ndarray]) -> Agreement | None:
    """Compare the profiles of people.

    Args:
        profiles: (K, R) of each person: K profiles, the k-th by the same network or of the same visit in all people;
            people with other numbers than most are left out.

    Returns:
        None where nobody has two.
    """
    counts = [len(one) for one in profiles]
    if not counts or max(counts) < 2:
        return None
    usual = max(set(counts) - {0, 1}, key=counts.count)
    of_people = np.stack([one for one in profiles if len(one) == usual])  # (people, K, R)
    own = np.array([intraclass_correlation(one) for one in of_people])
    own = own[np.isfinite(own)]
    if not len(own):
        return None
    # the k-th profile of the person k places further on
    strangers = np.stack([np.roll(of_people[:, k], -k, axis=0) for k in range(usual)], axis=1)
    mixed = np.array([intraclass_correlation(one) for one in strangers])
    has_strangers = len(of_people) >= usual and np.isfinite(mixed).any()
    return Agreement(
        people=len(of_people),
        over_regions=mean_with_interval(own),
        of_strangers=float(np.nanmean(mixed)) if has_strangers else None,
        over_people=_over_people(of_people) if len(of_people) >= FEWEST_PEOPLE else None,
    )


def _over_people(of_people: np.ndarray) -> float | None:
    """Median over regions, of profiles (people, K, R); None where every region is the same in everybody."""
    found = np.array([intraclass_correlation(ratings_nk.T) for ratings_nk in np.moveaxis(of_people, 2, 0)])
    found = found[np.isfinite(found)]
    return float(np.median(found)) if len(found) else None


def mean_with_interval(values: np.ndarray) -> Estimate:
    """Mean over people with its 95 % interval by Student's t; without one for a single person."""
    from scipy.stats import t

    mean = float(values.mean())
    if len(values) < 2:
        return Estimate(value=mean, low=None, high=None, note="one person")
    half = float(t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return Estimate(value=mean, low=mean - half, high=mean + half)
