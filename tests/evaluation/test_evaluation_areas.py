"""DeLong's variances and tests, proportions and detectable differences against definitions and published examples."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from adnext_plugin.evaluation.uncertainty.delong import area_interval, areas_and_covariance, paired_test
from adnext_plugin.evaluation.uncertainty.detectable import (
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


def _by_definition(is_positive: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Areas and covariance from all pairs, as DeLong et al. define them."""
    wins = np.array(
        [[[(p > n) + 0.5 * (p == n) for n in row[~is_positive]] for p in row[is_positive]] for row in scores]
    )
    positives, negatives = wins.mean(axis=2), wins.mean(axis=1)
    covariance = np.cov(positives) / positives.shape[1] + np.cov(negatives) / negatives.shape[1]
    return wins.mean(axis=(1, 2)), covariance


@pytest.mark.parametrize("seed", range(4))
def test_areas_and_covariances_are_those_of_the_definition(seed: int) -> None:
    is_positive, scores = _cohort(seed)
    areas, covariance = areas_and_covariance(is_positive, scores)
    expected_areas, expected_covariance = _by_definition(is_positive, scores)
    np.testing.assert_allclose(areas, expected_areas, atol=1e-12)
    np.testing.assert_allclose(areas, [roc_auc_score(is_positive, row) for row in scores], atol=1e-12)
    np.testing.assert_allclose(covariance, expected_covariance, atol=1e-12)
    found = paired_test(is_positive, *scores)
    error = np.sqrt(expected_covariance[0, 0] + expected_covariance[1, 1] - 2 * expected_covariance[0, 1])
    assert found.standard_error == pytest.approx(error)
    assert found.p == pytest.approx(2 * norm.sf(abs(areas[0] - areas[1]) / error))


def test_with_folds_only_pairs_within_a_fold_count() -> None:
    is_positive, scores = _cohort(0)
    folds = np.arange(60) % 3
    shifted = scores + 100 * folds  # networks of different folds on different scales
    parts = [_by_definition(is_positive[folds == fold], scores[:, folds == fold]) for fold in range(3)]
    areas, covariance = areas_and_covariance(is_positive, shifted, folds)
    np.testing.assert_allclose(areas, np.mean([part[0] for part in parts], axis=0), atol=1e-12)
    np.testing.assert_allclose(covariance, np.sum([part[1] for part in parts], axis=0) / 9, atol=1e-12)


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
    assert area_interval(is_positive, np.zeros(40)).low == 0.5
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
    assert area_interval(np.arange(60) < 9, scores[0]).note == "rough: a fold has 9 subjects of a class"
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
    assert "tell no AUC from 0.5" in cohort_in_words(1, 2) and "no difference is large enough" in cohort_in_words(1, 2)
