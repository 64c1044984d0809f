"""Masks hold what their rules say; localisation and its chance are known numbers."""

import numpy as np
import pytest

from adnext_plugin.errors import SettingsError
from adnext_plugin.explanations.localisation import localisation
from adnext_plugin.explanations.montage import strongest_slices
from adnext_plugin.explanations.thresholds import ThresholdSettings, stands_out

SHAPE = (9, 10, 11)


def _map(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def _brain() -> np.ndarray:
    brain = np.zeros(SHAPE, dtype=bool)
    brain[1:-1, 1:-2, 2:-1] = True
    return brain


@pytest.mark.parametrize("percent", [0.3, 10.0, 33.3, 100.0])
def test_top_percent_holds_exactly_that_share_of_the_brain(percent: float) -> None:
    brain = _brain()
    for map_zyx in (_map(), np.maximum(_map(), 0), np.round(_map())):  # with equal values, too
        found = stands_out(map_zyx, brain, ThresholdSettings(percent=percent))
        assert found.sum() == round(percent / 100 * brain.sum()) and not found[~brain].any()
        assert map_zyx[found].min() >= (map_zyx[brain & ~found].max() if (brain & ~found).any() else -np.inf)


def test_every_slice_holds_that_share_when_slices_are_asked_for() -> None:
    for axis, plane in enumerate(("axial", "coronal", "sagittal")):
        found = stands_out(_map(), _brain(), ThresholdSettings(percent=20, per_slice=plane))
        others = tuple(one for one in range(3) if one != axis)
        expected = np.round(0.2 * _brain().sum(axis=others))
        np.testing.assert_array_equal(found.sum(axis=others), expected)


def test_otsu_parts_two_levels_and_mean_std_is_its_formula() -> None:
    brain = _brain()
    levels = np.where(np.arange(SHAPE[2]) > 6, 5.0, 1.0) * np.ones(SHAPE)
    found = stands_out(levels, brain, ThresholdSettings(rule="otsu"))
    np.testing.assert_array_equal(found, brain & (levels > 3))
    values = _map()[brain].astype(float)
    expected = brain & (_map() > values.mean() + 1.5 * values.std())
    np.testing.assert_array_equal(
        stands_out(_map(), brain, ThresholdSettings(rule="mean_std", deviations=1.5)), expected
    )


@pytest.mark.parametrize("rule", ["top_percent", "otsu", "mean_std"])
def test_nothing_stands_out_of_a_map_that_is_the_same_everywhere_or_of_no_brain(rule) -> None:
    assert not stands_out(np.ones(SHAPE), _brain(), ThresholdSettings(rule=rule)).any()
    assert not stands_out(_map(), np.zeros(SHAPE, dtype=bool), ThresholdSettings(rule=rule)).any()
    # a slice in which nothing happens stays dark
    map_zyx = _map()
    map_zyx[4] = 0
    assert not stands_out(map_zyx, _brain(), ThresholdSettings(rule=rule, per_slice="axial"))[4].any()


def test_the_largest_part_alone_can_be_kept() -> None:
    map_zyx = np.zeros(SHAPE)
    map_zyx[2:4, 2:4, 3:5], map_zyx[6, 6, 6] = 1, 2
    settings = {"rule": "mean_std", "deviations": 0.0}
    both = stands_out(map_zyx, _brain(), ThresholdSettings(**settings))
    one = stands_out(map_zyx, _brain(), ThresholdSettings(**settings, largest_component=True))
    assert both.sum() == 9 and one.sum() == 8 and one[2, 2, 3]
    by_slice = stands_out(map_zyx, _brain(), ThresholdSettings(**settings, largest_component=True, per_slice="axial"))
    np.testing.assert_array_equal(by_slice, both)


def test_impossible_thresholds_are_refused() -> None:
    with pytest.raises(SettingsError, match="percent must be above 0 and at most 100, got 0"):
        ThresholdSettings(percent=0)
    with pytest.raises(SettingsError, match="deviations must be finite"):
        ThresholdSettings(deviations=float("nan"))


def test_slices_are_those_with_most_of_what_stands_out() -> None:
    map_zyx = np.zeros(SHAPE)
    map_zyx[7, 3, 3], map_zyx[2, 4, 4], map_zyx[5, 5, 5], map_zyx[3, 6, 6] = -4, 3, 2, 9
    mask = map_zyx != 9
    assert strongest_slices(map_zyx, mask, 0) == [2, 5, 7]
    assert strongest_slices(map_zyx, mask, 2) == [3, 4, 5]


def test_a_map_of_the_truth_is_found_and_noise_is_chance() -> None:
    brain = np.ones((30, 30, 30), dtype=bool)
    truth = np.zeros_like(brain)
    truth[5:15, 5:15, 5:15] = True
    chance = 1000 / 27000
    exact = localisation(truth.astype(float), truth, brain)
    assert (exact.average_precision, exact.hit, exact.mass_share) == (1, True, 1)
    assert exact.chance == pytest.approx(chance)
    noise = localisation(np.random.default_rng(0).random(brain.shape), truth, brain)
    assert noise.average_precision == pytest.approx(chance, rel=0.15)
    assert noise.mass_share == pytest.approx(chance, rel=0.05)
    flat = localisation(np.zeros(brain.shape), truth, brain)
    assert not flat.hit and flat.average_precision == pytest.approx(chance) and flat.mass_share == flat.chance
    # what speaks against the target is found as well
    assert localisation(-truth.astype(float), truth, brain) == exact
    elsewhere = localisation(truth.astype(float) - 1, truth, brain)
    assert elsewhere.average_precision <= chance and not elsewhere.hit and elsewhere.mass_share == 0
    assert localisation(np.zeros(brain.shape), np.zeros_like(truth), brain) is None
