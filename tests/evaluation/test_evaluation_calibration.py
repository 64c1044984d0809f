"""Calibration, thresholds and decision curves against scikit-learn, loops and worked cases."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    f1_score,
    log_loss,
    matthews_corrcoef,
    precision_score,
    recall_score,
)

from adnext_plugin.errors import SettingsError
from adnext_plugin.evaluation.scores.calibration import calibration_scores, fit_temperature, reliability_curve
from adnext_plugin.evaluation.scores.decision_curve import THRESHOLDS, decision_curve, net_benefit
from adnext_plugin.evaluation.scores.thresholds import (
    average_precision,
    predictive_values,
    scores_of_calls,
    threshold_for_sensitivity,
)
from adnext_plugin.evaluation.uncertainty.bootstrap import Resamples, bootstrap


def _cohort(seed: int, people: int = 200, classes: int = 2, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Targets drawn from softmax(logits), and sharpness × logits: calibrated at 1. Rounded, so that there are ties."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(size=(people, classes), scale=1.5).round(1)
    targets = (generator.random(people)[:, None] > softmax(logits, axis=1).cumsum(axis=1)).sum(axis=1)
    return targets.clip(max=classes - 1), sharpness * logits


def _counts(people: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).multinomial(people, np.full(people, 1 / people), size=5).astype(float)


@pytest.mark.parametrize("classes", [2, 3])
def test_scores_of_resamples_are_scikit_learns_on_the_drawn_subjects(classes: int) -> None:
    targets, logits = _cohort(0, classes=classes)
    probabilities = softmax(logits, axis=1)
    called = probabilities.argmax(axis=1)
    weights = _counts(200)
    found = calibration_scores(targets, probabilities, weights) | scores_of_calls(targets, called, weights, classes)
    average = {"average": "binary"} if classes == 2 else {"average": "macro"}
    for row, counts in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(200), counts)
        truth, guess, calls = targets[drawn], probabilities[drawn], called[drawn]
        expected = {
            "log_loss": log_loss(truth, guess),
            "brier": sum(brier_score_loss(truth == k, guess[:, k]) for k in range(classes))
            / (2 if classes == 2 else 1),
            "sensitivity": recall_score(truth, calls, **average),
            "ppv": precision_score(truth, calls, **average),
            "f1": f1_score(truth, calls, **average),
            "mcc": matthews_corrcoef(truth, calls),
        }
        if classes == 2:
            (true_negative, _), (false_negative, _) = confusion_matrix(truth, calls)
            expected["specificity"] = recall_score(truth, calls, pos_label=0)
            expected["npv"] = true_negative / (true_negative + false_negative)
        assert {name: found[name][row] for name in expected} == pytest.approx(expected, abs=1e-10)


def test_average_precision_is_scikit_learns_at_one_per_cent_prevalence_too() -> None:
    generator = np.random.default_rng(0)
    is_positive = np.arange(300) < 3
    scores = (generator.normal(size=300) + is_positive).round(1)
    weights = np.concatenate([np.ones((1, 300)), _counts(300)])
    for counts, value in zip(weights.astype(int), average_precision(is_positive, scores, weights), strict=True):
        drawn = np.repeat(np.arange(300), counts)
        if is_positive[drawn].any():
            assert value == pytest.approx(average_precision_score(is_positive[drawn], scores[drawn]))
        else:
            assert np.isnan(value)


def _parts_by_loops(is_class: np.ndarray, probabilities: np.ndarray, bins: int) -> dict[str, float]:
    order = np.argsort(probabilities)
    reliability = 0.0
    for members in np.array_split(order, bins):
        rate = is_class[members].mean()
        chance = rate * (1 - rate) / (len(members) - 1)
        gap = (rate - probabilities[members].mean()) ** 2
        reliability += len(members) / len(order) * (gap - chance)
    base = is_class.mean()
    return {"brier_reliability": reliability, "brier_uncertainty": base * (1 - base)}


def test_the_parts_of_the_brier_score_are_those_of_loops_and_add_up() -> None:
    generator = np.random.default_rng(1)
    positive = generator.random(300)
    targets = (generator.random(300) < positive**2).astype(int)
    found = calibration_scores(targets, np.stack([1 - positive, positive], axis=1), np.ones((1, 300)))
    expected = _parts_by_loops(targets == 1, positive, 15)
    assert {name: found[name][0] for name in expected} == pytest.approx(expected)
    assert found["brier"] == pytest.approx(
        found["brier_reliability"] - found["brier_resolution"] + found["brier_uncertainty"]
    )
    assert found["ece_debiased"][0] == pytest.approx(np.sqrt(expected["brier_reliability"]))


def test_calibration_error_is_free_of_chance_on_average_and_its_interval_is_centred() -> None:
    reliability, inside = [], 0
    for seed in range(200):
        targets, logits = _cohort(seed)
        probabilities = softmax(logits, axis=1)
        reliability.append(calibration_scores(targets, probabilities, np.ones((1, 200)))["brier_reliability"][0])
        if seed < 60:
            resamples = Resamples(subject_ids=np.arange(200), strata=targets, count=200, seed=seed)
            found = bootstrap(lambda w, t=targets, p=probabilities: calibration_scores(t, p, w), resamples)
            inside += found["brier_reliability"].low <= 0 <= found["brier_reliability"].high
    assert np.mean(reliability) == pytest.approx(0, abs=3 * np.std(reliability) / np.sqrt(200))
    assert inside >= 54
    targets, logits = _cohort(0, people=20000, sharpness=3)
    sharp = softmax(logits, axis=1)
    error = calibration_scores(targets, sharp, np.ones((1, 20000)))["ece_debiased"][0]
    # what is true of each probability is known: the cohort is drawn from the logits over 3
    truth = np.sqrt(np.mean((sharp - softmax(logits / 3, axis=1))[:, 1] ** 2))
    assert error == pytest.approx(truth, abs=0.02)


def test_a_constant_probability_is_judged_by_the_share_alone_whatever_the_order_of_subjects() -> None:
    targets = np.repeat([0, 1], [150, 50])
    for constant in (0.25, 0.6):
        probabilities = np.tile([1 - constant, constant], (200, 1))
        found = calibration_scores(targets, probabilities, np.ones((1, 200)))
        gap = (constant - 0.25) ** 2 - 0.25 * 0.75 / 199
        assert found["brier_reliability"][0] == pytest.approx(gap)
        (point,) = reliability_curve(targets == 1, probabilities[:, 1])
        assert (point.subjects, point.observed.value, point.mean_probability) == pytest.approx((200, 0.25, constant))


def test_calibration_of_three_classes_takes_each_against_the_rest() -> None:
    targets, logits = _cohort(3, people=300, classes=3, sharpness=2)
    probabilities = softmax(logits + np.random.default_rng(0).normal(size=logits.shape, scale=1e-6), axis=1)
    found = calibration_scores(targets, probabilities, np.ones((1, 300)))
    expected = sum(_parts_by_loops(targets == k, probabilities[:, k], 15)["brier_reliability"] for k in range(3))
    assert found["brier_reliability"][0] == pytest.approx(expected)
    assert found["ece_debiased"][0] == pytest.approx(np.sqrt(expected / 3))


def test_points_of_the_reliability_plot_hold_everybody_once() -> None:
    targets, logits = _cohort(2)
    probabilities = softmax(logits, axis=1)[:, 1]
    points = reliability_curve(targets == 1, probabilities)
    assert sum(point.subjects for point in points) == 200 and 10 <= len(points) <= 15
    assert sum(point.subjects * point.observed.value for point in points) == pytest.approx((targets == 1).sum())
    means = [point.mean_probability for point in points]
    assert means == sorted(means)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_temperature_undoes_known_overconfidence(classes: int) -> None:
    targets, logits = _cohort(0, people=5000, classes=classes, sharpness=2.5)
    temperature = fit_temperature(logits, targets)
    assert temperature.value == pytest.approx(2.5, rel=0.1) and not temperature.at_limit
    probabilities = temperature.probabilities(logits)
    assert (probabilities.argmax(axis=1) == logits.argmax(axis=1)).all()
    losses = [log_loss(targets, softmax(logits / value, axis=1)) for value in np.geomspace(0.5, 10, 400)]
    assert log_loss(targets, probabilities) <= min(losses) + 1e-9
    # logarithms of probabilities serve as well as logits
    assert fit_temperature(log_softmax(logits, axis=1), targets).value == pytest.approx(temperature.value, rel=1e-4)


def test_temperatures_without_a_best_value_are_said_to_be_at_the_limit() -> None:
    targets = np.arange(20) % 2
    separated = np.stack([0.5 - targets, targets - 0.5], axis=1)
    assert fit_temperature(separated, targets).at_limit
    assert fit_temperature(-separated, targets).at_limit
    assert fit_temperature(np.zeros((0, 2)), np.zeros(0, dtype=int)).value == 1


@pytest.mark.parametrize(("sensitivity", "threshold"), [(0.5, 0.65), (0.75, 0.45), (1.0, 0.15), (0.2, 0.85)])
def test_the_threshold_for_a_sensitivity_is_the_highest_that_reaches_it(sensitivity: float, threshold: float) -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    is_positive = np.array([1, 0, 1, 0, 1, 0, 0, 1, 0], dtype=bool)
    assert threshold_for_sensitivity(is_positive, scores, sensitivity) == pytest.approx(threshold)


def test_thresholds_that_cannot_be_chosen_are_a_half_and_impossible_wishes_refused() -> None:
    assert threshold_for_sensitivity(np.zeros(3, dtype=bool), np.array([0.1, 0.2, 0.3]), 0.9) == 0.5
    tied = threshold_for_sensitivity(np.array([True, True, False]), np.array([0.4, 0.4, 0.4]), 0.9)
    assert tied == 0.4
    with pytest.raises(SettingsError, match=r"got 1\.5"):
        threshold_for_sensitivity(np.ones(3, dtype=bool), np.zeros(3), 1.5)


def test_calls_that_nobody_gets_have_no_predictive_value() -> None:
    targets = np.arange(100) == 0
    found = scores_of_calls(targets.astype(int), np.zeros(100, dtype=int), np.ones((1, 100)), 2)
    assert np.isnan(found["ppv"][0]) and np.isnan(found["mcc"][0])
    assert (found["npv"][0], found["sensitivity"][0], found["f1"][0]) == (0.99, 0, 0)
    perfect = scores_of_calls(targets.astype(int), targets.astype(int), np.ones((1, 100)), 2)
    assert all(values[0] == 1 for values in perfect.values())


def test_predictive_values_follow_bayes_rule() -> None:
    rare, half, none = predictive_values(0.9, 0.8, [0.01, 0.5, 0.0])
    assert (rare.ppv, rare.npv) == pytest.approx((0.009 / 0.207, 0.792 / 0.793))
    assert (half.ppv, half.npv) == pytest.approx((0.9 / 1.1, 0.8 / 0.9))
    assert (none.ppv, none.npv) == (0, 1)
    assert predictive_values(0.0, 1.0, [0.3])[0].ppv is None
    with pytest.raises(SettingsError, match="got 30"):
        predictive_values(0.9, 0.8, [30])


def test_net_benefit_is_the_definitions() -> None:
    targets, logits = _cohort(0)
    probabilities = softmax(logits, axis=1)[:, 1]
    weights = _counts(200)
    found = net_benefit(targets == 1, probabilities, weights)
    for row, counts in enumerate(weights.astype(int)):
        drawn = np.repeat(np.arange(200), counts)
        for column, threshold in enumerate(THRESHOLDS):
            called = probabilities[drawn] >= threshold
            right, wrong = (called & (targets[drawn] == 1)).mean(), (called & (targets[drawn] == 0)).mean()
            assert found[row, column] == pytest.approx(right - wrong * threshold / (1 - threshold))


def test_a_useful_model_gains_over_treating_everybody_or_nobody_and_a_constant_one_does_not() -> None:
    targets, logits = _cohort(0, people=2000)
    probabilities = softmax(logits, axis=1)[:, 1]
    resamples = Resamples(subject_ids=np.arange(2000), strata=targets, count=50)
    curve = decision_curve(targets == 1, probabilities, resamples)
    assert (curve[0].threshold, curve[-1].threshold) == (0.05, 0.95)
    assert all(point.gain_over_both > 0 for point in curve[3:-3])
    prevalence = (targets == 1).mean()
    middle = curve[THRESHOLDS.index(0.3)]
    assert middle.treat_all.value == pytest.approx(prevalence - (1 - prevalence) * 0.3 / 0.7)
    constant = decision_curve(targets == 1, np.full(2000, prevalence), resamples)
    assert all(point.gain_over_both == pytest.approx(0) for point in constant)
