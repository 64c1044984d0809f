"""DeLong's variances and tests, proportions and detectable differences against definitions and published examples."""

import numpy as np
import pytest
from scipy.stats import norm, t
from sklearn.metrics import roc_auc_score

from adnext_plugin.evaluation.uncertainty.delong import area_interval, area_moments, paired_test
from adnext_plugin.evaluation.uncertainty.detectable import (
    area_in_words,
    cohort_in_words,
    detectable_area,
    detectable_difference,
    hanley_mcneil_variance,
)
from adnext_plugin.evaluation.uncertainty.proportions import holm, mcnemar, wilson


def _cohort(seed: int, people: int = 60, positives: int = 24, gain: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores of two related models, (2, people), rounded so that there are ties."""
    generator = np.random.default_rng(seed)
    is_positive = generator.permutation(people) < positives
    shared = generator.normal(size=people)
    first = shared + generator.normal(size=people) + gain * is_positive
    second = shared + generator.normal(size=people) + 0.8 * is_positive
    return is_positive, np.stack([first, second]).round(1)


def _wins(is_positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(models, positives, negatives): 1 where a pair is ordered rightly, half for a tie."""
    return np.array(
        [[[(p > n) + 0.5 * (p == n) for n in row[~is_positive]] for p in row[is_positive]] for row in scores]
    )


def _unbiased_variance(pairs: np.ndarray) -> float:
    """Of the mean of (P, N) pairs whose rows and columns were drawn: from the mean squares of a two-way table."""
    rows, columns = pairs.shape
    mean, by_row, by_column = pairs.mean(), pairs.mean(axis=1), pairs.mean(axis=0)
    rest = pairs - by_row[:, None] - by_column + mean
    within = (rest**2).sum() / ((rows - 1) * (columns - 1))
    return by_row.var(ddof=1) / rows + by_column.var(ddof=1) / columns - within / (rows * columns)


@pytest.mark.parametrize("positives", [24, 36])
@pytest.mark.parametrize("seed", range(3))
def test_areas_and_variances_are_those_of_the_definition(seed: int, positives: int) -> None:
    is_positive, scores = _cohort(seed, positives=positives)
    first, second = _wins(is_positive, scores)
    one = area_moments(is_positive, scores[:1], (1,))
    assert one.value == pytest.approx(first.mean()) == pytest.approx(roc_auc_score(is_positive, scores[0]))
    assert one.variance == pytest.approx(_unbiased_variance(first))
    both = area_moments(is_positive, scores, (1, -1))
    assert both.value == pytest.approx((first - second).mean())
    assert both.variance == pytest.approx(_unbiased_variance(first - second))
    found, error = paired_test(is_positive, *scores), np.sqrt(both.variance)
    assert found.standard_error == pytest.approx(error)
    assert found.p == pytest.approx(2 * t.sf(abs(both.value) / error, both.freedom))
    assert (found.low > 0 or found.high < 0) == (found.p < 0.05)
    assert 24 <= both.freedom < 60


def test_the_variance_of_a_large_cohort_is_delongs() -> None:
    is_positive, scores = _cohort(0, people=600, positives=200)
    wins = _wins(is_positive, scores[:1])[0]
    delong = wins.mean(axis=1).var(ddof=1) / 200 + wins.mean(axis=0).var(ddof=1) / 400
    assert area_moments(is_positive, scores[:1], (1,)).variance == pytest.approx(delong, rel=0.01)


def _variance_over_folds(pairs_of: list[np.ndarray]) -> float:
    """Of the mean of the folds' areas, from all pairs of rarer subjects, in loops; (P, N) pairs by fold."""
    placements = [(fold, number) for fold, pairs in enumerate(pairs_of) for number in range(len(pairs))]
    value = [pairs_of[fold][number].mean() for fold, number in placements]
    people, folds = len(placements), len(pairs_of)
    covariance = np.zeros((people, people))
    for a, (fold, one) in enumerate(placements):
        for b, (other_fold, other) in enumerate(placements):
            if fold == other_fold and a != b:
                rows = pairs_of[fold]
                covariance[a, b] = np.cov(rows[one], rows[other])[0, 1] / rows.shape[1]
    # the variance around the mean lacks what is common
    own = np.var(value, ddof=1) + covariance.sum() / (people * (people - 1))
    weights = np.array([1 / (folds * len(pairs_of[fold])) for fold, _ in placements])
    return float(weights @ (covariance + own * np.eye(people)) @ weights)


@pytest.mark.parametrize("positives", [8, 13, 45])
def test_with_folds_only_pairs_within_a_fold_count_and_people_vary_over_all_folds(positives: int) -> None:
    is_positive, scores = _cohort(4, positives=positives)
    folds = np.empty(60, dtype=int)
    for members in (is_positive, ~is_positive):
        folds[members] = np.arange(members.sum()) % 4
    shifted = scores + 100 * folds  # networks of different folds on different scales
    wins = [_wins(is_positive[folds == fold], scores[:1, folds == fold])[0] for fold in range(4)]
    rarer = [pairs if positives <= 30 else pairs.T for pairs in wins]
    found = area_moments(is_positive, shifted[:1], (1,), folds)
    assert found.value == pytest.approx(np.mean([pairs.mean() for pairs in wins]))
    assert found.variance == pytest.approx(_variance_over_folds(rarer))


def test_areas_of_1_and_0_by_turns_are_not_certain() -> None:
    folds = np.arange(40) % 4
    is_positive = np.arange(40) < 8
    scores = np.where(is_positive == (folds % 2 == 0), 1.0, 0.0)
    found = area_interval(is_positive, scores, folds)
    assert found.value == 0.5 and found.low < 0.2 and found.high > 0.8


def test_the_interval_and_the_test_are_as_often_right_as_they_say() -> None:
    truth = norm.cdf(1 / np.sqrt(2))
    covered = rejected = 0
    for seed in range(400):
        generator = np.random.default_rng(seed)
        is_positive = np.arange(80) % 4 == 0
        shared = generator.normal(size=80)
        first, second = ((shared + generator.normal(size=80)) / np.sqrt(2) + is_positive for _ in range(2))
        interval = area_interval(is_positive, first)
        covered += interval.low <= truth <= interval.high
        rejected += paired_test(is_positive, first, second).p < 0.05
    assert 0.92 <= covered / 400 <= 0.98
    assert 0.02 <= rejected / 400 <= 0.08


def test_perfect_models_have_a_bound_and_do_not_differ() -> None:
    is_positive = np.arange(40) < 10
    perfect = is_positive + 0.0
    interval = area_interval(is_positive, perfect)
    assert (interval.value, interval.high, interval.standard_error) == (1, 1, None)
    assert interval.low == pytest.approx(0.05 ** (1 / 10))
    assert interval.low == pytest.approx(1 - 3 / 10, abs=0.05)
    assert area_interval(is_positive, -perfect).high == pytest.approx(1 - 0.05 ** (1 / 10))
    in_folds = area_interval(is_positive, perfect, np.arange(40) % 2)
    assert in_folds.low == interval.low
    assert paired_test(is_positive, perfect, perfect * 2 + 1).p == 1
    assert paired_test(is_positive, perfect, np.zeros(40)).p is None
    constant = area_interval(is_positive, np.zeros(40))
    assert (constant.value, constant.low, constant.note) == (0.5, None, "the score is the same for everybody")
    _, scores = _cohort(1, people=40, positives=10)
    assert paired_test(is_positive, scores[0], scores[0]).p == 1


def test_an_absent_or_lonely_class_gives_no_interval() -> None:
    _, scores = _cohort(0)
    nobody, one = np.zeros(60, dtype=bool), np.arange(60) == 30
    assert area_interval(nobody, scores[0]).value is None
    assert paired_test(nobody, *scores).p is None
    found = area_interval(one, scores[0])
    assert found.value == pytest.approx(roc_auc_score(one, scores[0])) and found.low is None
    assert paired_test(one, *scores).p is None
    assert "7 subjects, of a class or in all, are fewer than 8" in area_interval(np.arange(60) < 7, scores[0]).note
    assert area_interval(np.arange(60) < 8, scores[0]).low is not None
    folds = np.where(np.arange(60) < 30, 0, 1)  # the first without a positive
    assert area_interval(one, scores[0], folds).value is None


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_is_that_of_newcombe_1998(successes: int, trials: int, low: float, high: float) -> None:
    found = wilson(successes, trials)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)
    mirrored = wilson(trials - successes, trials)
    assert (mirrored.low, mirrored.high) == pytest.approx((1 - found.high, 1 - found.low))


def test_a_proportion_of_nothing_has_no_interval() -> None:
    assert wilson(0, 0).value is None


def test_mcnemars_exact_p_is_that_of_fagerland_2013() -> None:
    # airway hyper-responsiveness before and after transplantation: 1, 1, 7, 12
    before = np.repeat([True, True, False, False], [1, 1, 7, 12])
    after = np.repeat([True, False, True, False], [1, 1, 7, 12])
    found = mcnemar(before, after)
    assert (found.only_first, found.only_second) == (1, 7)
    assert found.p == pytest.approx(0.0703, abs=5e-5)
    assert mcnemar(before, before).p == 1


def test_holms_correction_is_step_down_and_skips_missing_tests() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.04, None, 0.6]) == [0.08, None, 0.6]
    assert holm([None]) == [None]


def test_hanley_and_mcneils_own_example_has_their_standard_error() -> None:
    assert np.sqrt(hanley_mcneil_variance(0.893, 51, 58)) == pytest.approx(0.032, abs=1e-3)


def test_the_detectable_difference_is_detected_four_times_in_five() -> None:
    area, correlation = 0.75, 0.4
    gain = detectable_difference(area, 100, 150, correlation)
    first, second = (hanley_mcneil_variance(value, 100, 150) for value in (area, area + gain))
    generator = np.random.default_rng(0)
    shared = correlation * np.sqrt(first * second)
    drawn = generator.multivariate_normal([area, area + gain], [[first, shared], [shared, second]], 20000)
    critical = 1.96 * np.sqrt(2 * first * (1 - correlation))
    assert (drawn[:, 1] - drawn[:, 0] > critical).mean() == pytest.approx(0.8, abs=0.02)


def test_larger_cohorts_and_correlated_models_show_smaller_differences() -> None:
    assert detectable_difference(0.8, 200, 200, 0.5) < detectable_difference(0.8, 50, 50, 0.5)
    assert detectable_difference(0.8, 50, 50, 0.5) < detectable_difference(0.8, 50, 50, 0.0)
    assert detectable_difference(0.97, 10, 10, 0.0) is None
    assert 0.5 < detectable_area(500, 500) < detectable_area(20, 20) < 1
    assert detectable_area(2, 2) is None and detectable_area(0, 9) is None


def test_a_cohorts_power_is_said_as_it_is_computed() -> None:
    said = cohort_in_words(50, 100)
    assert f"tell an AUC from {detectable_area(50, 100):.3f} on from 0.5 in 80 % of studies" in said
    assert f"AUC 0.80: the cohort would show a difference of {detectable_difference(0.8, 50, 100, 0.0):.3f}" in said
    assert "tell no AUC from 0.5" in area_in_words(None)
    assert "tell an AUC from" in cohort_in_words(8, 8)
    few = "A class has 7 subjects: scores get intervals, and runs are compared, from 8 of every class on."
    assert cohort_in_words(7, 100) == cohort_in_words(100, 7) == few
