"""Several networks on the same subjects: which of them is better, as far as the cohort can show it.

DeLong's test, McNemar's and the bootstrap ask about the networks as trained, on other subjects. The corrected t over
folds asks about the way of training, on other training subjects. None of them sees what another seed would change.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import combinations

import numpy as np
from scipy.stats import t

from adnext_plugin.evaluation.scores.areas import auc, auc_mean_of_folds
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions
from adnext_plugin.evaluation.uncertainty.bootstrap import Estimate, Resamples, drawn_scores, estimate, level
from adnext_plugin.evaluation.uncertainty.delong import AreaInterval, AreaTest, area_interval, paired_test
from adnext_plugin.evaluation.uncertainty.detectable import (
    ALPHA,
    detectable_area,
    detectable_difference,
    difference_in_words,
)
from adnext_plugin.evaluation.uncertainty.proportions import McNemar, holm, mcnemar
from adnext_plugin.subjects import FEWEST_OF_A_CLASS


@dataclass(frozen=True, kw_only=True)
class ComparedRun:
    """Mean of the folds' areas with its interval, the folds' own, and of two classes what the interval is from."""

    name: str
    auc_mean_of_folds: Estimate
    auc_by_fold: tuple[float | None, ...]
    delong: AreaInterval | None


@dataclass(frozen=True, kw_only=True)
class CorrectedT:
    """A t test over folds, which share training subjects. None where it does not exist."""

    standard_error: float | None
    p: float | None


@dataclass(frozen=True, kw_only=True)
class PValues:
    """Two-sided p values of one pair; None where a test does not exist."""

    delong: float | None
    bootstrap: float | None
    mcnemar: float | None
    corrected_t: float | None


@dataclass(frozen=True, kw_only=True)
class PairTests:
    """First network less second. `detectable_difference` in area is what the cohort would show in 80 % of studies."""

    auc_difference: Estimate
    delong: AreaTest | None
    mcnemar: McNemar
    corrected_t: CorrectedT
    detectable_difference: float | None
    p: PValues


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two networks; `p_holm` are the p values of the tests corrected, test by test, for the number of pairs."""

    first: str
    second: str
    tests: PairTests
    p_holm: PValues
    conclusion: str


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """All runs and all pairs of them. `detectable_area` is the smallest area the cohort would tell from 0.5."""

    subjects_by_class: tuple[int, ...]
    detectable_area: float | None
    runs: tuple[ComparedRun, ...]
    pairs: tuple[Pair, ...]


def compare(runs: Mapping[str, SubjectPredictions], resamples: Resamples, test_to_train: float) -> Comparison:
    """Compare every pair of runs.

    Args:
        runs: name to predictions, of the same subjects in the same order.
        resamples: of those subjects.
        test_to_train: size of a fold's held-out part over that of its training part.
    """
    one = next(iter(runs.values()))
    counts = tuple(int((one.targets == index).sum()) for index in range(one.probabilities.shape[1]))
    by_fold = {name: fold_areas(it, np.ones((1, len(it.targets))))[0] for name, it in runs.items()}
    drawn = drawn_scores(lambda block: {name: auc_mean_of_folds(it, block) for name, it in runs.items()}, resamples)
    names = list(combinations(runs, 2))
    tests = [_tests(*pair, runs, by_fold, drawn, resamples.fewest, test_to_train) for pair in names]
    corrected = _corrected([test.p for test in tests])
    return Comparison(
        subjects_by_class=counts,
        detectable_area=detectable_area(counts[1], counts[0]) if len(counts) == 2 else None,
        runs=tuple(
            ComparedRun(
                name=name,
                auc_mean_of_folds=_area(it, by_fold[name].mean(), drawn[name], resamples.fewest),
                auc_by_fold=tuple(None if np.isnan(area) else float(area) for area in by_fold[name]),
                delong=_closed_area(it) if len(counts) == 2 else None,
            )
            for name, it in runs.items()
        ),
        pairs=tuple(
            Pair(first=first, second=second, tests=test, p_holm=p, conclusion=_conclusion(first, second, test, p))
            for (first, second), test, p in zip(names, tests, corrected, strict=True)
        ),
    )


def fold_areas(predictions: SubjectPredictions, weights: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of every fold, (R, folds)."""
    rows = [predictions.folds == fold for fold in np.unique(predictions.folds)]
    areas = [auc(predictions.targets[fold], predictions.probabilities[fold], weights[:, fold]) for fold in rows]
    return np.stack(areas, axis=1)


def corrected_resampled_t(differences: np.ndarray, test_to_train: float) -> CorrectedT:
    """Test whether a difference is 0 on average over folds.

    The folds' training parts overlap, so that their variance is too small by the term added here. p is 1 where all
    folds differ by nothing; there is none where they differ all by the same, or where there is only one.

    Source: Nadeau and Bengio 2003, Mach Learn 52:239.

    Args:
        differences: (folds,).
        test_to_train: size of a fold's held-out part over that of its training part.
    """
    folds = len(differences)
    if folds < 2 or not np.isfinite(differences).all():
        return CorrectedT(standard_error=None, p=None)
    if not differences.any():
        return CorrectedT(standard_error=0.0, p=1.0)
    error = np.sqrt((1 / folds + test_to_train) * differences.var(ddof=1))
    if error < 1e-12:
        return CorrectedT(standard_error=None, p=None)
    return CorrectedT(standard_error=float(error), p=float(2 * t.sf(abs(differences.mean()) / error, folds - 1)))


def bootstrap_p(drawn: np.ndarray, fewest: int) -> float | None:
    """Level at which the interval of a difference, drawn (R,) times, just reaches 0; never 0 itself.

    Args:
        drawn: differences.
        fewest: subjects of the class that has fewest; with too few there is no p.
    """
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or fewest < FEWEST_OF_A_CLASS:
        return None
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    return level((beyond + 1) / (len(drawn) + 1), fewest)


def _tests(
    first: str,
    second: str,
    runs: Mapping[str, SubjectPredictions],
    by_fold: Mapping[str, np.ndarray],
    drawn: Mapping[str, np.ndarray],
    fewest: int,
    test_to_train: float,
) -> PairTests:
    differences, gains = by_fold[first] - by_fold[second], drawn[first] - drawn[second]
    disagreement = mcnemar(*(runs[name].called == runs[name].targets for name in (first, second)))
    over_folds = corrected_resampled_t(differences, test_to_train)
    delong = detectable = None
    difference = estimate(differences.mean(), gains, fewest)
    one, other = runs[first], runs[second]
    if one.probabilities.shape[1] == 2:
        is_positive = one.targets == 1
        delong = paired_test(is_positive, one.probabilities[:, 1], other.probabilities[:, 1], one.folds)
        difference = replace(difference, low=delong.low, high=delong.high, note=delong.note)
        detectable = _detectable(is_positive, min(by_fold[first].mean(), by_fold[second].mean()), delong)
    return PairTests(
        auc_difference=difference,
        delong=delong,
        mcnemar=disagreement,
        corrected_t=over_folds,
        detectable_difference=detectable,
        p=PValues(
            delong=None if delong is None else delong.p,
            bootstrap=bootstrap_p(gains, fewest),
            mcnemar=disagreement.p,
            corrected_t=over_folds.p,
        ),
    )


def _area(run: SubjectPredictions, value: float, drawn: np.ndarray, fewest: int) -> Estimate:
    found = estimate(value, drawn, fewest)
    if len(run.classes) > 2:
        return found
    closed = _closed_area(run)
    return replace(found, low=closed.low, high=closed.high, note=closed.note)


def _closed_area(run: SubjectPredictions) -> AreaInterval:
    return area_interval(run.targets == 1, run.probabilities[:, 1], run.folds)


def _detectable(is_positive: np.ndarray, weaker_area: float, delong: AreaTest) -> float | None:
    """None, too, where both order the subjects alike: nothing in the data then says how much they could differ."""
    if not np.isfinite(weaker_area) or delong.standard_error == 0:
        return None
    # to take an unknown correlation for 0 is cautious
    correlation = delong.correlation or 0.0
    return detectable_difference(weaker_area, int(is_positive.sum()), int((~is_positive).sum()), correlation)


def _corrected(p_values: Sequence[PValues]) -> list[PValues]:
    """Each test's p values over all pairs, corrected for their number."""
    columns = {field.name: holm([getattr(p, field.name) for p in p_values]) for field in fields(PValues)}
    return [PValues(**{name: column[index] for name, column in columns.items()}) for index in range(len(p_values))]


def _conclusion(first: str, second: str, tests: PairTests, p_holm: PValues) -> str:
    p = p_holm.bootstrap if p_holm.delong is None else p_holm.delong
    gain = tests.auc_difference
    if gain.value is None:
        return f"{first} and {second} cannot be compared by area: a fold lacks a class."
    if p is None:
        return f"{first} and {second} cannot be compared by area: {(gain.note or 'no test exists').split(': ')[-1]}."
    if tests.delong is not None and tests.delong.standard_error == 0:
        return (
            f"{first} and {second} order the subjects alike: nothing here tells them apart, or says how far apart they "
            "could be on other subjects."
        )
    if p >= ALPHA:
        said = f"{first} and {second} cannot be told apart with this cohort, which is no proof that they are equal"
        if gain.low is not None:
            said += f": differences from {gain.low:+.3f} to {gain.high:+.3f} fit what was seen"
        said += "."
        if tests.delong is not None and tests.detectable_difference is None:
            said += f" {difference_in_words(None)}"
    else:
        better, worse = (first, second) if gain.value > 0 else (second, first)
        said = f"{better} orders subjects like these better than {worse}."
        if p_holm.corrected_t is None or p_holm.corrected_t >= ALPHA:
            said += " That it would do so when trained on other subjects is not shown."
    if tests.detectable_difference is not None:
        said += f" {difference_in_words(tests.detectable_difference)}"
    return said
