"""Whether features of a person are the same at the next visit: intraclass correlation of repeated scans.

Sources: Shrout and Fleiss 1979, Psychol Bull 86:420 (ICC(1,1), of one-way random effects).
"""

from collections.abc import Sequence

import numpy as np

from adnext_plugin.findings import Reliability

FEWEST_PEOPLE = 5


def intraclass_correlation(first_nd: np.ndarray, second_nd: np.ndarray) -> np.ndarray:
    """ICC(1,1) of each feature, (D,), of two scans of N people; NaN where a feature is the same for all.

    (B - W) / (B + W), of the mean squares B between people and W within them.
    """
    between = 2 * ((first_nd + second_nd) / 2).var(axis=0, ddof=1)
    within = ((first_nd - second_nd) ** 2).mean(axis=0) / 2
    total = between + within
    return np.where(total > 0, (between - within) / np.where(total > 0, total, 1), np.nan)


def reliability(
    features: np.ndarray, subject_ids: Sequence[str], case_ids: Sequence[str], resamples: int = 1000
) -> Reliability | None:
    """Of people with two scans or more, of which the first two count.

    Args:
        features: (N, D), of all scans.
        subject_ids: whose they are.
        case_ids: which they are; their order tells which come first.
        resamples: of the bootstrap over people.

    Returns:
        None where fewer than five people have two scans.
    """
    order = np.argsort(np.asarray(case_ids, dtype=str), kind="stable")
    scans: dict[str, list[int]] = {}
    for index in order:
        scans.setdefault(str(subject_ids[index]), []).append(int(index))
    pairs = np.array([found[:2] for found in scans.values() if len(found) > 1])
    if len(pairs) < FEWEST_PEOPLE:
        return None
    first, second = features[pairs[:, 0]], features[pairs[:, 1]]
    drawn = np.random.default_rng(0).integers(len(pairs), size=(resamples, len(pairs)))
    medians = [_median(intraclass_correlation(first[rows], second[rows])) for rows in drawn]
    low, high = np.nanpercentile(medians, (2.5, 97.5))
    return Reliability(
        people=len(pairs),
        median_icc=_median(intraclass_correlation(first, second)),
        low=float(low),
        high=float(high),
        share_recognised=_recognised(features, np.array([found[0] for found in scans.values()]), pairs),
    )


def _median(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _recognised(features: np.ndarray, firsts: np.ndarray, pairs: np.ndarray) -> float:
    """Share of second scans to which, of everybody's first scans, the own one is nearest, in standardised features."""
    spread = features.std(axis=0)
    standardised = (features - features.mean(axis=0)) / np.where(spread > 0, spread, 1)
    distances = np.linalg.norm(standardised[pairs[:, 1]][:, None] - standardised[firsts], axis=2)
    return float((firsts[distances.argmin(axis=1)] == pairs[:, 0]).mean())
