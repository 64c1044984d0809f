"""The linear model of all voxels, against the same model fitted on the voxels themselves."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import LogisticRegression, RidgeCV

from adnext_plugin.evaluation.studies import linear_voxels
from adnext_plugin.evaluation.studies.linear_voxels import STRENGTHS, LinearOfVoxels, smoothed

CASES, VOXELS = 60, 400
GENERATOR = np.random.default_rng(0)
FEATURES = GENERATOR.normal(size=(CASES, VOXELS)).astype(np.float32)
LATENT = FEATURES[:, :40].mean(axis=1) * 40**0.5
PEOPLE = np.array([f"p{index}" for index in range(CASES)])


@pytest.mark.parametrize("names", [("AD", "CN"), ("AD", "CN", "MCI")])
def test_it_is_the_l2_logistic_regression_of_the_voxels(names: tuple[str, ...], monkeypatch) -> None:
    order = np.argsort(np.argsort(LATENT)) * len(names) // CASES
    targets = np.array(names)[order]
    strength = STRENGTHS[11]
    monkeypatch.setattr(linear_voxels, "STRENGTHS", np.array([strength]))
    model = LinearOfVoxels(is_number=False).fit(FEATURES[:45], targets[:45], PEOPLE[:45])
    direct = LogisticRegression(C=strength, class_weight="balanced", max_iter=5000, tol=1e-8)
    direct.fit(FEATURES[:45].astype(float) / VOXELS**0.5, targets[:45])
    assert list(model.classes_) == list(direct.classes_)
    expected = direct.predict_proba(FEATURES[45:].astype(float) / VOXELS**0.5)
    np.testing.assert_allclose(model.predict_proba(FEATURES[45:]), expected, atol=2e-3)
    assert np.ptp(expected) > 0.1


def test_a_number_is_learned_by_the_ridge_regression_of_the_voxels() -> None:
    targets = 60 + 10 * LATENT
    model = LinearOfVoxels(is_number=True).fit(FEATURES[:45], targets[:45], PEOPLE[:45])
    scaled = FEATURES.astype(float) / VOXELS**0.5
    direct = RidgeCV(1 / STRENGTHS).fit(scaled[:45], targets[:45])
    np.testing.assert_allclose(model.predict(FEATURES[45:]), direct.predict(scaled[45:]), rtol=1e-3)


def test_the_penalty_is_chosen_on_people_who_are_left_out() -> None:
    """Where each person has two like scans and the class is noise, only folds of people show that none is learned."""
    scans = np.repeat(FEATURES[:30], 2, axis=0) + 0.01 * GENERATOR.normal(size=(60, VOXELS)).astype(np.float32)
    scans /= VOXELS**0.5
    people = np.repeat(PEOPLE[:30], 2)
    targets = np.repeat(GENERATOR.permutation(["AD", "CN"] * 15), 2)
    by_people = linear_voxels._best_strength(scans, targets, people)
    by_scans = linear_voxels._best_strength(scans, targets, np.arange(60).astype(str))
    assert by_people <= STRENGTHS[3] < STRENGTHS[-3] <= by_scans


def test_smoothing_is_in_millimetres_and_the_grid_follows_memory() -> None:
    volume = np.zeros((24, 32, 40))
    volume[12, 16, 20] = 1
    fine = smoothed(volume, (3.0, 3.0, 1.5), cases=10)
    assert fine.shape == (24, 32, 20)
    expected = gaussian_filter(volume, (6 / 2.3548 / 3, 6 / 2.3548 / 3, 6 / 2.3548 / 1.5), truncate=3)
    np.testing.assert_allclose(fine, expected[:, :, 1::2], atol=1e-6)
    half = fine[12, 16] >= fine[12, 16].max() / 2
    assert half.sum() * 3.0 == 6.0
    many = smoothed(volume, (3.0, 3.0, 1.5), cases=100_000)
    assert 4 * 100_000 * many.size <= linear_voxels.MOST_BYTES
