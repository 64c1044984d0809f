"""What AMAES makes worse in a scan, against its formulas, chances and ranges."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from adnext_plugin.data.augmentation import Augmentation
from adnext_plugin.data.augmentations import artefacts
from adnext_plugin.data.augmentations.amaes import DEGRADATIONS, Deformation, Degradations
from adnext_plugin.data.augmentations.deformation import looked_up_at, rotation, smoothed

SIZE = (8, 10, 12)


def _volume(size=SIZE) -> np.ndarray:
    return np.random.default_rng(0).uniform(size=size).astype(np.float32)


@pytest.mark.parametrize("axis", range(3))
def test_ghosts_are_every_few_planes_of_the_whole_k_space_times_a_factor(axis: int) -> None:
    volume = _volume()
    before = volume.copy()
    spectrum = np.fft.fftn(volume)
    weights = np.ones(volume.shape[axis])
    weights[[0, 3, 6, 9][: len(range(0, volume.shape[axis], 3))]] = 0.9
    expected = np.abs(np.fft.ifftn(spectrum * weights.reshape([-1 if one == axis else 1 for one in range(3)])))
    found = artefacts.motion_ghosting(volume, axis, every=3, factor=0.9)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(volume, before)
    # frequency 0 is among the planes, so the image darkens
    np.testing.assert_allclose(artefacts.motion_ghosting(np.ones(SIZE), axis, 2, 0.85), 0.85)


@pytest.mark.parametrize("axis", range(3))
def test_gibbs_ringing_keeps_the_central_frequencies_of_one_axis(axis: int) -> None:
    volume, kept = _volume(), 6
    spectrum = np.fft.fftshift(np.fft.fftn(volume))
    first = (volume.shape[axis] - kept) // 2
    outside = [one for one in range(volume.shape[axis]) if not first <= one < first + kept]
    np.moveaxis(spectrum, axis, 0)[outside] = 0
    expected = np.abs(np.fft.ifftn(np.fft.ifftshift(spectrum)))
    np.testing.assert_allclose(artefacts.gibbs_ringing(volume, axis, kept), expected, atol=1e-6)
    whole = artefacts.gibbs_ringing(volume, axis, volume.shape[axis])
    np.testing.assert_allclose(whole, volume, atol=1e-6)
    np.testing.assert_allclose(artefacts.gibbs_ringing(volume, axis, 1).std(axis=axis), 0, atol=1e-6)


def test_a_bias_field_falls_with_the_squared_distance_down_to_almost_minus_2() -> None:
    size = (100, 100, 100)
    field = artefacts.bias_field(np.ones(size, dtype=np.float64), (0, 0, 0))
    assert field[0, 0, 0] == 1
    assert field[99, 99, 99] == pytest.approx(1 - 3 * 0.99**2)
    assert field[10, 20, 30] == pytest.approx(1 - 0.01 - 0.04 - 0.09)
    assert artefacts.bias_field(np.full(size, 2.0), (50, 60, 70))[40, 40, 40] == pytest.approx(2 * (1 - 0.14))


def test_gamma_is_a_power_of_the_range_and_inverted_one_of_the_negative_image() -> None:
    volume = np.array([2.0, 3.0, 4.0]).reshape(1, 1, 3)
    np.testing.assert_allclose(artefacts.gamma(volume, 2.0, inverted=False).ravel(), [2, 2.5, 4])
    np.testing.assert_allclose(artefacts.gamma(volume, 2.0, inverted=True).ravel(), [2, 3.5, 4])
    np.testing.assert_array_equal(artefacts.gamma(np.ones(SIZE), 2.0, inverted=False), np.ones(SIZE))


def test_noise_is_added_or_multiplied() -> None:
    volume, noise = _volume(), np.full(SIZE, 0.25, dtype=np.float32)
    np.testing.assert_allclose(artefacts.additive_noise(volume, noise), volume + 0.25)
    np.testing.assert_allclose(artefacts.multiplicative_noise(volume, noise), volume * 1.25)


def test_low_resolution_loses_what_is_finer_than_it_and_nothing_of_what_is_not() -> None:
    alternating = np.tile(np.array([0.0, 1.0], dtype=np.float32), 8).reshape(1, 1, 16) + np.zeros((4, 4, 1), np.float32)
    assert artefacts.low_resolution(alternating, (1, 1, 0.5)).std() < 1e-6
    np.testing.assert_allclose(artefacts.low_resolution(alternating, (0.5, 0.5, 1)), alternating, atol=1e-6)
    np.testing.assert_array_equal(artefacts.low_resolution(alternating, (1, 1, 1)), alternating)
    np.testing.assert_allclose(
        artefacts.low_resolution(np.full(SIZE, 0.3, np.float32), (0.6, 0.7, 0.9)), 0.3, atol=1e-6
    )


@pytest.mark.parametrize("sigma", [1.3, 4.0, 25.0])
def test_smoothing_by_matrices_is_scipys_gaussian_with_zeros_outside(sigma: float) -> None:
    noise = np.random.default_rng(1).uniform(-1, 1, (9, 14, 11))
    np.testing.assert_allclose(smoothed(noise, sigma), gaussian_filter(noise, sigma, mode="constant"), atol=1e-12)


def test_a_turn_goes_about_x_then_y_then_z_and_a_scale_below_1_makes_larger() -> None:
    x, y, z = np.array([0, 0, 1.0]), np.array([0, 1.0, 0]), np.array([1.0, 0, 0])
    right = np.pi / 2
    for angles, fixed in (((right, 0, 0), x), ((0, right, 0), y), ((0, 0, right), z)):
        np.testing.assert_allclose(rotation(angles) @ fixed, fixed, atol=1e-12)
    both = rotation((0, 0, right)) @ rotation((right, 0, 0))
    np.testing.assert_allclose(rotation((right, 0, right)), both, atol=1e-12)
    np.testing.assert_allclose(rotation((0.1, 0.2, 0.3)) @ rotation((0.1, 0.2, 0.3)).T, np.eye(3), atol=1e-12)
    at = looked_up_at((5, 5, 5), offsets=None, turn=None, scale=0.5)
    assert at[:, 2, 2, 2].tolist() == [2, 2, 2] and at[:, 0, 0, 4].tolist() == [1, 1, 3]
    offsets = np.zeros((3, 5, 5, 5))
    offsets[0, 2, 2, 2] = 1  # one voxel along z, then turned about x by a right angle: along y
    moved = looked_up_at((5, 5, 5), offsets=offsets, turn=rotation((right, 0, 0)), scale=1)[:, 2, 2, 2]
    assert abs(moved - [2, 2, 2]).round(9).tolist() == [0, 1, 0]


def test_faults_come_in_amaes_order_as_often_as_there() -> None:
    order, chances = [one.formula.__name__ for one in DEGRADATIONS], (0.2, 0.1, 0.2, 0.2, 0.2, 0.1, 0.33, 0.2)
    assert order == [
        "additive_noise",
        "gaussian_filter",
        "multiplicative_noise",
        "motion_ghosting",
        "gibbs_ringing",
        "low_resolution",
        "bias_field",
        "gamma",
    ]
    drawn: dict[str, list[dict]] = {name: [] for name in order}
    met: list[str] = []

    def noted(name):
        def formula(volume_zyx, **numbers):
            drawn[name].append(numbers)
            met.append(name)
            return volume_zyx

        return formula

    chain = Degradations([replace(one, formula=noted(one.formula.__name__)) for one in DEGRADATIONS])
    image, runs = torch.from_numpy(_volume((1, 2, 2, 2))), 4000
    for seed in range(runs):
        chain.set_random_state(seed=seed)
        met.clear()
        chain(image)
        assert met == [name for name in order if name in met]
    for name, chance in zip(order, chances, strict=True):
        assert len(drawn[name]) / runs == pytest.approx(chance, abs=4 * (chance * (1 - chance) / runs) ** 0.5), name
    assert Counter(one["every"] for one in drawn["motion_ghosting"]).keys() == set(range(2, 11))
    assert all(0.85 <= one["factor"] <= 0.95 for one in drawn["motion_ghosting"])
    kept = [DEGRADATIONS[4].draw(np.random.RandomState(seed), (128,) * 3)["kept"] for seed in range(2000)]
    assert set(kept) == set(range(96, 129))
    zooms = np.array([one["zoom"] for one in drawn["low_resolution"]])
    assert (zooms < 1).mean() == pytest.approx(0.33, abs=0.05) and zooms.min() >= 0.5
    exponents = np.array([one["exponent"] for one in drawn["gamma"]])
    assert exponents.min() >= 0.5 and exponents.max() <= 2 and (exponents < 1).mean() == pytest.approx(0.5, abs=0.06)
    assert np.mean([one["inverted"] for one in drawn["gamma"]]) == pytest.approx(0.05, abs=0.03)


def _head() -> torch.Tensor:
    image = torch.zeros(2, 24, 24, 24)
    image[:, 4:20, 4:20, 4:20] = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    return image


def test_scanners_faults_stay_inside_the_brain_and_within_its_range() -> None:
    image = _head()
    augment = Augmentation("amaes_intensity", (24, 24, 24))
    changed = [augment(image, seed) for seed in range(30)]
    outside = (image == 0).all(dim=0)
    assert all((one[:, outside] == 0).all() for one in changed)
    for one in changed:
        assert (one.amax((1, 2, 3)) <= image.amax((1, 2, 3)) + 1e-5).all()
        assert (one.amin((1, 2, 3)) >= image.amin((1, 2, 3)) - 1e-5).all()
    assert sum(not torch.allclose(one, image, atol=1e-6) for one in changed) > 15


def test_a_deformation_moves_brain_and_background_alike_and_nothing_else_changes() -> None:
    image, chain = _head(), Deformation()
    changed = []
    for seed in range(40):
        chain.set_random_state(seed=seed)
        changed.append(chain(image))
    still = [torch.equal(one, image) for one in changed]
    # nothing is drawn in 0.67 · 0.8 · 0.8 of images
    assert 0.2 < np.mean(still) < 0.7
    for one in changed:
        share = (one != 0).any(dim=0).sum() / (image != 0).any(dim=0).sum()
        assert 0.7 < share < 1.4  # 0.9³ and 1.1³, and what a turn and a deformation add
        assert one.max() <= image.max() + 1e-5 and one.min() >= image.min() - 1e-5


def test_outside_an_image_without_background_it_is_as_dark_as_the_darkest_voxel() -> None:
    image = torch.rand(1, 16, 16, 16, generator=torch.Generator().manual_seed(0)) + 1
    chain = Deformation()
    for seed in range(60):
        chain.set_random_state(seed=seed)
        one = chain(image)
        assert one.min() >= image.min() - 1e-5
