"""Dice of a run's held-out cases: its mean with an interval over people, and how far cases lie apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adnext_plugin.evaluation.segmentation.summaries import SegmentedCases
from adnext_plugin.evaluation.uncertainty.bootstrap import Resamples, bootstrap
from adnext_plugin.findings import Estimate

MEAN = "mean of classes"


@dataclass(frozen=True, kw_only=True)
class NamedCase:
    """One case, and its prediction below the run's folder."""

    case_id: str
    dice: float
    file: str


@dataclass(frozen=True, kw_only=True)
class ClassDice:
    """Dice of one class, or of the mean of the classes that a case has.

    `without` counts cases that have neither the structure nor a voxel that is called so, and therefore no Dice. The
    standard deviation is that of a sample of cases. `median_case` is the lower one of two in the middle.
    """

    name: str
    cases: int
    without: int
    people: int
    mean: Estimate
    standard_deviation: float | None
    median: float | None
    best_case: NamedCase | None
    median_case: NamedCase | None
    worst_case: NamedCase | None


def dice_of_classes(cases: SegmentedCases, people: Sequence[str], resamples: int) -> tuple[ClassDice, ...]:
    """Dice of every class and, where there are several, of their mean.

    Args:
        cases: of one run.
        people: whose each case is, (N,).
        resamples: of the bootstrap.
    """
    names, values = with_mean(cases.classes, cases.dice)
    owners = np.array(people)
    return tuple(_of_class(name, values[:, index], cases, owners, resamples) for index, name in enumerate(names))


def with_mean(classes: tuple[str, ...], values: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Names and values (N, classes), and behind them the mean of the classes that a case has, if they are several."""
    if len(classes) == 1:
        return classes, values
    known = ~np.isnan(values)
    count = known.sum(axis=1)
    mean = np.where(known, values, 0).sum(axis=1) / np.where(count, count, np.nan)
    return (*classes, MEAN), np.column_stack([values, mean])


def mean_over_people(values: np.ndarray, people: np.ndarray, resamples: int) -> Estimate:
    """The mean over cases that have a value, with the interval of resamples of people, who bring all their cases.

    Args:
        values: of cases, (N,); NaN where there is none.
        people: whose they are, (N,).
        resamples: how many.
    """
    known = ~np.isnan(values)
    if not known.any():
        return Estimate(value=None, low=None, high=None, note="not defined for these cases")
    present, owners = values[known], people[known]
    drawn = Resamples(subject_ids=owners, strata=np.zeros(len(owners)), count=resamples)
    return bootstrap(lambda weights: {MEAN: weights @ present / weights.sum(axis=1)}, drawn)[MEAN]


def _of_class(name: str, dice: np.ndarray, cases: SegmentedCases, people: np.ndarray, resamples: int) -> ClassDice:
    known = np.flatnonzero(~np.isnan(dice))
    # equal values in order of names, so that the same case is named every time
    order = known[np.argsort(dice[known], kind="stable")]

    def named(place: int) -> NamedCase | None:
        if not len(order):
            return None
        case = order[place]
        return NamedCase(case_id=cases.case_ids[case], dice=float(dice[case]), file=cases.files[case])

    return ClassDice(
        name=name,
        cases=len(known),
        without=len(dice) - len(known),
        people=len(np.unique(people[known])),
        mean=mean_over_people(dice, people, resamples),
        standard_deviation=float(dice[known].std(ddof=1)) if len(known) > 1 else None,
        median=float(np.median(dice[known])) if len(known) else None,
        best_case=named(-1),
        median_case=named((len(order) - 1) // 2),
        worst_case=named(0),
    )
