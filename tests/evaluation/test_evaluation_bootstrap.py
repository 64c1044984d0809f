"""Blocked resamples, the panel of all scores over them, and regression scores, against loops and scikit-learn."""

import tracemalloc

import numpy as np
import pytest
from scipy.stats import linregress, norm, pearsonr, t
from sklearn.metrics import average_precision_score, mean_absolute_error, r2_score, root_mean_squared_error

from adnext_plugin.evaluation.scores.panel import panel
from adnext_plugin.evaluation.scores.regression import regression_scores
from adnext_plugin.evaluation.subjects.bias_correction import fit_bias_correction
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions
from adnext_plugin.evaluation.uncertainty import bootstrap as bootstrap_module
from adnext_plugin.evaluation.uncertainty.bootstrap import Resamples, bootstrap, estimate, level, tail
from adnext_plugin.evaluation.uncertainty.intervals import resamples_of


def _predictions(people: int = 90, classes: int = 2) -> SubjectPredictions:
    generator = np.random.default_rng(0)
    targets = np.arange(people) % classes
    probabilities = generator.dirichlet(np.ones(classes), people) + np.eye(classes)[targets]
    return SubjectPredictions(
        subject_ids=np.array([f"s{index}" for index in range(people)]),
        targets=targets,
        folds=np.arange(people) // classes % 3,
        probabilities=probabilities / 2,
        thresholds=np.full(people, 0.4),
        classes=("CN", "AD", "FTD")[:classes],
    )


def _weights(predictions: SubjectPredictions, count: int, seed: int = 0) -> np.ndarray:
    return np.concatenate(list(resamples_of(predictions, count, seed).blocks()))


def test_where_blocks_are_cut_changes_no_resample(monkeypatch) -> None:
    it = _predictions()
    whole = _weights(it, 50, seed=4)
    monkeypatch.setattr(bootstrap_module, "BLOCK_ELEMENTS", 7 * 90)
    blocks = list(resamples_of(it, 50, seed=4).blocks())
    assert [len(block) for block in blocks] == [7] * 7 + [1]
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    assert not np.array_equal(whole, _weights(it, 50, seed=5))


def test_draws_are_as_often_as_chance_has_them() -> None:
    weights = _weights(_predictions(), 4000)
    per_stratum = 90 / 2
    assert np.abs(weights.mean(axis=0) - 1).max() < 0.1
    assert np.abs(weights.var(axis=0) - (1 - 1 / per_stratum)).max() < 0.15
    # drawing one subject more often leaves fewer draws to the others of the stratum, and to nobody else
    correlation = np.corrcoef(weights.T)
    assert correlation[0, 2] == pytest.approx(-1 / (per_stratum - 1), abs=0.05)
    assert correlation[0, 1] == pytest.approx(0, abs=0.05)


def test_both_rows_of_a_subject_are_drawn_together() -> None:
    ids = np.array(["a", "b", "b", "c", "d", "c", "e"])
    strata = np.array([0, 0, 1, 0, 1, 1, 0])  # b and c in both strata
    (weights,) = Resamples(subject_ids=ids, strata=strata, count=200).blocks()
    np.testing.assert_array_equal(weights[:, 1], weights[:, 2])
    np.testing.assert_array_equal(weights[:, 3], weights[:, 5])
    assert (weights[:, [1, 3]].sum(axis=1) == 2).all() and weights[:, 1].std() > 0
    assert (weights[:, [0, 6]].sum(axis=1) == 2).all() and (weights[:, 4] == 1).all()


def test_intervals_over_blocks_are_those_of_a_loop_over_resamples() -> None:
    it = _predictions()
    weights = _weights(it, 60)
    found = bootstrap(lambda block: panel(it, block), resamples_of(it, 60))
    rows = [panel(it, row[None]) for row in weights]
    for name, of_blocks in found.items():
        values = [row[name][0] for row in rows]
        limits = np.nanquantile(values, [tail(45), 1 - tail(45)])
        if of_blocks.low is None:
            assert limits[0] == pytest.approx(limits[1]) or not limits[0] <= of_blocks.value <= limits[1], name
        else:
            assert (of_blocks.low, of_blocks.high) == pytest.approx(tuple(limits)), name


def test_percentiles_lie_farther_out_the_fewer_people_there_are() -> None:
    # a normal score with the deviation that resamples of n people have gets Student's limits
    for people, expected in ((8, t.ppf(0.975, 7)), (30, t.ppf(0.975, 29)), (10**9, norm.ppf(0.975))):
        assert -norm.ppf(tail(people)) * np.sqrt((people - 1) / people) == pytest.approx(expected, rel=1e-6)
        assert level(tail(people), people) == pytest.approx(0.05)
    drawn = np.linspace(0, 1, 1001)
    assert estimate(0.5, drawn, 8).low < estimate(0.5, drawn, 80).low < 0.026


@pytest.mark.parametrize(
    ("value", "drawn", "fewest", "why"),
    [
        (0.5, np.linspace(0, 1, 100), 7, "7 subjects"),
        (0.5, np.full(100, 0.5), 50, "the same in nearly every resample"),
        (0.1, np.linspace(0.2, 0.9, 100), 50, "to one side"),
        (np.nan, np.linspace(0, 1, 100), 50, "not defined"),
    ],
)
def test_an_interval_that_would_be_wrong_is_left_out_with_the_reason(value, drawn, fewest: int, why: str) -> None:
    found = estimate(value, drawn, fewest)
    assert (found.low, found.high) == (None, None) and why in found.note


@pytest.mark.parametrize("classes", [2, 3])
def test_the_panel_averages_precision_over_folds_and_classes(classes: int) -> None:
    it = _predictions(classes=classes)
    found = panel(it, np.ones((1, 90)))
    expected = [
        average_precision_score(it.targets[it.folds == fold] == index, it.probabilities[it.folds == fold, index])
        for fold in range(3)
        for index in ([1] if classes == 2 else range(3))
    ]
    assert found["average_precision_mean_of_folds"][0] == pytest.approx(np.mean(expected))
    assert ("ppv_at_selection_threshold" in found) == (classes == 2)
    assert {"auc_mean_of_folds", "mcc", "f1", "log_loss", "brier", "ece_debiased"} <= found.keys()


def test_memory_does_not_grow_with_the_number_of_resamples() -> None:
    it = _predictions(people=2000)

    def peak(resamples: int) -> int:
        tracemalloc.start()
        bootstrap(lambda block: panel(it, block), resamples_of(it, resamples))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(2500) < 1.2 * peak(500)


def _ages(seed: int = 0, people: int = 150) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    ages = generator.uniform(20, 90, people)
    return ages, 55 + 0.6 * (ages - 55) + generator.normal(0, 6, people)


def test_regression_scores_of_resamples_are_scikit_learns_on_the_drawn_subjects() -> None:
    ages, predicted = _ages()
    weights = np.random.default_rng(1).multinomial(150, np.full(150, 1 / 150), size=5).astype(float)
    found = regression_scores(ages, predicted, weights)
    for row, counts in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(150), counts)
        truth, guess = ages[drawn], predicted[drawn]
        expected = {
            "mae": mean_absolute_error(truth, guess),
            "rmse": root_mean_squared_error(truth, guess),
            "r2": r2_score(truth, guess),
            "pearson_r": pearsonr(truth, guess).statistic,
            "bias_slope": linregress(truth, guess - truth).slope,
        }
        assert {name: values[row] for name, values in found.items()} == pytest.approx(expected)


def test_what_does_not_vary_has_no_correlation() -> None:
    ages, predicted = _ages()
    ones = np.ones((1, 150))
    constant = regression_scores(ages, np.full(150, ages.mean()), ones)
    assert np.isnan(constant["pearson_r"][0])
    assert (constant["r2"][0], constant["bias_slope"][0]) == pytest.approx((0, -1))
    same_age = regression_scores(np.full(150, 70.1), predicted, ones)
    assert np.isnan([same_age[name][0] for name in ("r2", "pearson_r", "bias_slope")]).all()
    perfect = regression_scores(ages, ages, ones)
    assert [perfect[name][0] for name in ("mae", "r2", "pearson_r", "bias_slope")] == pytest.approx([0, 1, 1, 0])


def test_the_correction_fitted_on_selection_flattens_the_held_out_part() -> None:
    correction = fit_bias_correction(*_ages(0, people=3000))
    assert (correction.slope, correction.intercept) == pytest.approx((-0.4, 22), rel=0.05)
    ages, predicted = _ages(1, people=3000)
    corrected = correction.corrected(ages, predicted)
    assert abs(regression_scores(ages, corrected, np.ones((1, 3000)))["bias_slope"][0]) < 0.02
    alike = fit_bias_correction(np.full(5, 70.0), np.arange(5.0))
    assert (alike.slope, alike.intercept) == (0, 0)
