"""Linear models of a kernel, against scikit-learn's on the very values that the kernel is made of."""

import numpy as np
import pytest
from scipy.special import softmax
from sklearn.calibration import CalibratedClassifierCV
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.svm import SVC

from adnext_plugin.errors import SettingsError
from adnext_plugin.evaluation.studies import kernel_fit
from adnext_plugin.evaluation.studies.kernel_fit import KernelModel, fit_classes, fit_number, sample_weights
from adnext_plugin.evaluation.studies.linear_voxels import inner_folds
from adnext_plugin.evaluation.studies.smoothing import Smoothing

CASES, VALUES, TRAINED = 60, 300, 45
GENERATOR = np.random.default_rng(0)
SIGNAL = GENERATOR.normal(size=CASES)
FEATURES = GENERATOR.normal(size=(CASES, VALUES)) / VALUES**0.5 + 3  # far from 0, as images are
FEATURES[:, :40] += 0.1 * SIGNAL[:, None]
LATENT = SIGNAL + GENERATOR.normal(size=CASES) / 2
GRAM = FEATURES[:TRAINED] @ FEATURES[:TRAINED].T
PEOPLE = np.array([f"p{index}" for index in range(CASES)])
USUAL = {"classifier": "logistic", "weighting": "inverse_frequency", "folds": 5, "seed": 0}


def _classes(count: int) -> np.ndarray:
    """Of unequal size."""
    return np.digitize(LATENT, np.quantile(LATENT, [0.6, 0.85][: count - 1]))


def _outputs(model: KernelModel) -> np.ndarray:
    """For those that were not trained on."""
    return FEATURES[TRAINED:] @ FEATURES[:TRAINED].T @ model.dual.T + model.offset


def _only(monkeypatch, strength: float) -> float:
    monkeypatch.setattr(kernel_fit, "STRENGTHS", np.array([strength]))
    return strength


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("weighting", ["inverse_frequency", "none", "counts"])
def test_the_logistic_regression_is_that_of_the_values(count: int, weighting: str, monkeypatch) -> None:
    targets, strength = _classes(count)[:TRAINED], _only(monkeypatch, 10.0)
    model = fit_classes(GRAM, targets, PEOPLE[:TRAINED], **{**USUAL, "weighting": weighting})
    direct = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-9)
    direct.fit(FEATURES[:TRAINED], targets, sample_weight=sample_weights(targets, weighting))
    expected = direct.predict_proba(FEATURES[TRAINED:])
    np.testing.assert_allclose(softmax(_outputs(model), axis=1), expected, atol=1e-6)
    assert np.ptp(expected) > 0.3 and model.dual.shape == (count, TRAINED)
    counts = np.bincount(targets)
    by_class = {"inverse_frequency": 1 / counts, "none": np.ones(count), "counts": counts}[weighting]
    found = sample_weights(targets, weighting) / by_class[targets]
    np.testing.assert_allclose(found, found[0])


def test_the_support_vector_machine_and_its_probabilities_are_scikit_learns(monkeypatch) -> None:
    targets, strength = _classes(2)[:TRAINED], _only(monkeypatch, 3.0)
    model = fit_classes(GRAM, targets, PEOPLE[:TRAINED], **{**USUAL, "classifier": "svm", "weighting": "none"})
    machine = SVC(C=strength, kernel="linear", tol=1e-6)
    shares = list(inner_folds(targets, PEOPLE[:TRAINED], seed=0))
    direct = CalibratedClassifierCV(machine, method="sigmoid", ensemble=False, cv=shares)
    expected = direct.fit(FEATURES[:TRAINED], targets).predict_proba(FEATURES[TRAINED:])
    np.testing.assert_allclose(softmax(_outputs(model), axis=1), expected, atol=1e-3)
    decisions = machine.fit(FEATURES[:TRAINED], targets).decision_function(FEATURES[TRAINED:])
    logits = np.diff(_outputs(model), axis=1)[:, 0]
    slope, shift = np.polyfit(decisions, logits, 1)
    np.testing.assert_allclose(logits, slope * decisions + shift, atol=2e-3)
    assert slope > 0 and np.ptp(expected) > 0.3


def test_support_vector_machines_of_three_classes_order_them() -> None:
    targets = _classes(3)
    model = fit_classes(GRAM, targets[:TRAINED], PEOPLE[:TRAINED], **{**USUAL, "classifier": "svm"})
    order = softmax(_outputs(model), axis=1) @ np.arange(3)
    assert model.dual.shape == (3, TRAINED) and np.corrcoef(order, LATENT[TRAINED:])[0, 1] > 0.7


def test_a_number_is_learned_by_ridge_regression_of_the_values(monkeypatch) -> None:
    strength = _only(monkeypatch, 5.0)
    model = fit_number(GRAM, LATENT[:TRAINED], PEOPLE[:TRAINED], folds=5, seed=0)
    direct = Ridge(alpha=1 / strength).fit(FEATURES[:TRAINED], LATENT[:TRAINED])
    np.testing.assert_allclose(_outputs(model)[:, 0], direct.predict(FEATURES[TRAINED:]), atol=1e-8)
    errors = model.left_out[:, 0] - LATENT[:TRAINED]
    assert model.inner_score == pytest.approx(-np.mean(errors**2)) and np.mean(errors**2) < LATENT.var()


def test_answers_for_people_left_out_come_from_models_that_have_not_seen_them(monkeypatch) -> None:
    targets, strength = _classes(2)[:TRAINED], _only(monkeypatch, 10.0)
    model = fit_classes(GRAM, targets, PEOPLE[:TRAINED], **{**USUAL, "weighting": "none"})
    train, test = next(inner_folds(targets, PEOPLE[:TRAINED], seed=0))
    direct = LogisticRegression(C=strength, solver="newton-cholesky", tol=1e-9).fit(FEATURES[train], targets[train])
    found = np.diff(model.left_out[test], axis=1)[:, 0]
    np.testing.assert_allclose(found, direct.decision_function(FEATURES[test]), atol=1e-6)


@pytest.mark.parametrize("classifier", ["logistic", "svm"])
def test_the_strength_is_chosen_on_people(classifier: str) -> None:
    """Where each person has two like scans and the class is noise, only folds of people show that none is learned."""
    scans = np.repeat(FEATURES[:30], 2, axis=0) + 0.01 * GENERATOR.normal(size=(60, VALUES)) / VALUES**0.5
    people, targets = np.repeat(PEOPLE[:30], 2), np.repeat(GENERATOR.permutation([0, 1] * 15), 2)
    asked = {**USUAL, "classifier": classifier}
    by_people = fit_classes(scans @ scans.T, targets, people, **asked)
    by_scans = fit_classes(scans @ scans.T, targets, np.arange(60).astype(str), **asked)
    assert by_scans.inner_score > by_people.inner_score + 0.3 and by_scans.strength > by_people.strength


def test_what_nothing_can_be_learned_from_is_one_line() -> None:
    targets = np.array([0, 1, 0, 1])
    with pytest.raises(SettingsError, match="all alike"):
        fit_classes(np.full((4, 4), 7.0), targets, PEOPLE[:4], **USUAL)
    with pytest.raises(SettingsError, match="a single person"):
        fit_classes(GRAM[:4, :4], np.array([0, 0, 0, 1]), PEOPLE[:4], **USUAL)
    with pytest.raises(SettingsError, match="leaving people out"):
        fit_number(GRAM[:2, :2], targets[:2], np.array(["one", "one"]), folds=5, seed=0)


@pytest.mark.parametrize("fwhm_mm", [0.0, 5.0, 9.0])
def test_spreading_is_the_transpose_of_smoothing(fwhm_mm: float) -> None:
    smoothing = Smoothing.of(fwhm_mm, (1.5, 2.0, 3.0))
    volume = GENERATOR.normal(size=(12, 11, 9)).astype(np.float32)
    coarse = smoothing(volume)
    values = GENERATOR.normal(size=coarse.shape)
    spread = smoothing.spread(values, volume.shape)
    assert spread.shape == volume.shape
    assert (spread * volume).sum() == pytest.approx((values * coarse).sum(), abs=1e-4)
    assert coarse.size == volume.size if fwhm_mm == 0 else coarse.size < volume.size
