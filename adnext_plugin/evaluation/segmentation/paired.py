"""Two segmentation runs on the same cases: by how much is one better, and can chance explain it?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from scipy.stats import wilcoxon

from adnext_plugin.errors import SplitError
from adnext_plugin.evaluation.segmentation.dice import mean_over_people, with_mean
from adnext_plugin.evaluation.segmentation.summaries import SegmentedCases
from adnext_plugin.evaluation.uncertainty.proportions import holm
from adnext_plugin.findings import Estimate


@dataclass(frozen=True, kw_only=True)
class ClassDifference:
    """First run less second, of one class or of the mean of classes, over the cases in which both have a Dice.

    `left_out` counts the other cases. `wilcoxon_p` is two-sided, of the signed ranks of people, whose cases are
    averaged; `wilcoxon_p_holm` is corrected for the number of pairs of runs.
    """

    name: str
    cases: int
    left_out: int
    people: int
    difference: Estimate
    first_better: int
    second_better: int
    wilcoxon_p: float | None
    wilcoxon_p_holm: float | None = None


@dataclass(frozen=True, kw_only=True)
class PairOfRuns:
    """Two runs, class by class, the mean of classes last."""

    first: str
    second: str
    classes: tuple[ClassDifference, ...]


def compare_segmentations(
    runs: Mapping[str, SegmentedCases], people: Sequence[str], resamples: int
) -> tuple[PairOfRuns, ...]:
    """Compare every pair of runs.

    Args:
        runs: name to the same cases in the same order.
        people: whose each case is, (N,).
        resamples: of the bootstrap.
    """
    owners = np.array(people)
    pairs = [(names, _pair(runs[names[0]], runs[names[1]], owners, resamples)) for names in combinations(runs, 2)]
    corrected = [holm([one.wilcoxon_p for one in of_class]) for of_class in zip(*(p for _, p in pairs), strict=True)]
    return tuple(
        PairOfRuns(
            first=first,
            second=second,
            classes=tuple(
                replace(one, wilcoxon_p_holm=corrected[place][number]) for place, one in enumerate(differences)
            ),
        )
        for number, ((first, second), differences) in enumerate(pairs)
    )


def require_same_cases(runs: Mapping[str, SegmentedCases]) -> None:
    """Make sure that all runs segmented the same cases, held out by the same folds, with the same ground truth.

    Summaries tell of a ground truth how many voxels it has, in all and of each class.

    Raises:
        SplitError: names the first case that differs.
    """
    (name, one), *others = runs.items()
    for other_name, other in others:
        pair = f"{name} and {other_name} cannot be compared"
        if other.classes != one.classes:
            raise SplitError(f"{pair}: their classes are {', '.join(one.classes)} and {', '.join(other.classes)}")
        if differing := sorted(set(one.case_ids) ^ set(other.case_ids)):
            missing = other_name if differing[0] in one.case_ids else name
            raise SplitError(f"{pair}: {missing} has not segmented {differing[0]}; train and validate the same folds")
        for place, case in enumerate(one.case_ids):
            if one.folds[place] != other.folds[place]:
                raise SplitError(
                    f"{pair}: {case} was held out by fold {one.folds[place]} of the one and fold {other.folds[place]} "
                    "of the other; train both on the same splits_final.json"
                )
            differs = one.voxels[place] != other.voxels[place]
            if differs.any() or one.size[place] != other.size[place]:
                what = one.classes[int(differs.argmax())] if differs.any() else "the whole image"
                raise SplitError(
                    f"{pair}: they were validated on other ground truths of {case}, by the voxels of {what}; validate "
                    "both again on one with nnUNetv2_train ... --val"
                )


def _pair(first: SegmentedCases, second: SegmentedCases, people: np.ndarray, resamples: int) -> list[ClassDifference]:
    # means of classes are compared over the classes that both have
    names, differences = with_mean(first.classes, first.dice - second.dice)
    return [_difference(name, differences[:, index], people, resamples) for index, name in enumerate(names)]


def _difference(name: str, differences: np.ndarray, people: np.ndarray, resamples: int) -> ClassDifference:
    known = ~np.isnan(differences)
    present, owners = differences[known], people[known]
    _, person = np.unique(owners, return_inverse=True)
    by_person = np.bincount(person, weights=present) / np.bincount(person) if len(present) else present
    return ClassDifference(
        name=name,
        cases=len(present),
        left_out=len(differences) - len(present),
        people=len(by_person),
        difference=mean_over_people(differences, people, resamples),
        first_better=int((present > 0).sum()),
        second_better=int((present < 0).sum()),
        wilcoxon_p=_signed_rank(by_person),
    )


def _signed_rank(differences: np.ndarray) -> float | None:
    """Two-sided p of Wilcoxon's test; those of nothing are left out, and without any other one p is 1.

    Source: Wilcoxon 1945, Biometrics Bulletin 1:80.
    """
    if not len(differences):
        return None
    return float(wilcoxon(differences).pvalue) if np.any(differences) else 1.0
