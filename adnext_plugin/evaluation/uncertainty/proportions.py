"""Proportions of subjects: an interval for one, an exact test for two on the same subjects, correction for many."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest, norm

from adnext_plugin.evaluation.uncertainty.bootstrap import CONFIDENCE, Estimate


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """How many subjects only the first, and only the second, of two networks calls rightly; two-sided exact p."""

    only_first: int
    only_second: int
    p: float


def wilson(successes: int, trials: int) -> Estimate:
    """A proportion with its 95 % score interval; without trials there is none.

    Source: Wilson 1927, J Am Stat Assoc 22:209.
    """
    if trials == 0:
        return Estimate(value=None, low=None, high=None, note="there is nobody of whom it is a share")
    z = norm.ppf((1 + CONFIDENCE) / 2)
    share = successes / trials
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half_width = z / (1 + z**2 / trials) * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    # at no or all successes the formula gives 0 or 1 up to rounding
    low = 0.0 if successes == 0 else float(centre - half_width)
    high = 1.0 if successes == trials else float(centre + half_width)
    return Estimate(value=share, low=low, high=high)


def proportions_of_calls(targets: np.ndarray, called: np.ndarray, classes: Sequence[str]) -> dict[str, Estimate]:
    """Accuracy, and of two classes the four rates of calls, of more every class's recall, with score intervals.

    Args:
        targets: (N,) integers.
        called: (N,) integers.
        classes: their names; the last of two is the positive one.
    """
    hits = called == targets
    found = {"accuracy": wilson(int(hits.sum()), len(hits))}
    for index, name in enumerate(classes):
        recall = wilson(int(hits[targets == index].sum()), int((targets == index).sum()))
        if len(classes) > 2:
            found[f"recall_of_{name}"] = recall
            continue
        of_calls = wilson(int(hits[called == index].sum()), int((called == index).sum()))
        found |= {("specificity", "sensitivity")[index]: recall, ("npv", "ppv")[index]: of_calls}
    return found


def mcnemar(first_is_right: np.ndarray, second_is_right: np.ndarray) -> McNemar:
    """Test whether two networks are right equally often on the same subjects; p is 1 where they never disagree.

    Source: McNemar 1947, Psychometrika 12:153, with the binomial in place of its approximation.

    Args:
        first_is_right: (N,) booleans.
        second_is_right: (N,) booleans, same subjects.
    """
    only_first = int((first_is_right & ~second_is_right).sum())
    only_second = int((second_is_right & ~first_is_right).sum())
    disagreements = only_first + only_second
    p = binomtest(only_first, disagreements).pvalue if disagreements else 1.0
    return McNemar(only_first=only_first, only_second=only_second, p=float(p))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p values corrected for their number, in the order given; tests without one do not count.

    Source: Holm 1979, Scand J Stat 6:65.
    """
    known = {index: p for index, p in enumerate(p_values) if p is not None}
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(known, key=known.__getitem__)):
        largest = max(largest, min(1.0, (len(known) - rank) * known[index]))
        corrected[index] = largest
    return corrected
