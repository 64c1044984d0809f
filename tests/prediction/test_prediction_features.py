"""What networks make of a scan, how far it is from the usual, and ranges of what is usual."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import LedoitWolf

from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.features import feature_layer
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.prediction.description import Range
from adnext_plugin.prediction.features import FeatureProfile
from adnext_plugin.registry import NETWORKS, registered_names


def test_distances_are_those_of_ledoit_and_wolfs_covariance() -> None:
    generator = np.random.default_rng(0)
    features = generator.normal(size=(40, 6)) @ generator.normal(size=(6, 6)) + 3
    profile = FeatureProfile.of(features)
    spread = features.std(axis=0)
    precision = LedoitWolf().fit(features / spread).precision_
    expected = [mahalanobis(row / spread, features.mean(axis=0) / spread, precision) for row in features]
    np.testing.assert_allclose(profile.distances(features), expected, rtol=1e-4)
    again = FeatureProfile.from_arrays(profile.arrays(), "here")
    np.testing.assert_array_equal(again.distances(features), profile.distances(features))


def test_fewer_cases_than_features_and_silent_units_have_finite_distances() -> None:
    generator = np.random.default_rng(0)
    features = np.pad(generator.normal(size=(5, 20)), ((0, 0), (0, 3)))
    profile = FeatureProfile.of(features)
    held_out = np.pad(generator.normal(size=(200, 20)), ((0, 0), (0, 3)))
    assert np.isfinite(profile.distances(held_out)).all()
    assert profile.distances(held_out + 10).min() > profile.distances(held_out).max()
    assert np.isfinite(FeatureProfile.of(np.ones((4, 3))).distances(np.zeros((1, 3)))).all()


def test_a_value_is_far_out_beyond_three_widths_of_the_middle_half() -> None:
    found = Range.of([1, 2, 3, 4, 5])
    assert found.limits == (2 - 3 * 2, 4 + 3 * 2)
    assert Range.of([2.0] * 5).limits == pytest.approx((1.88, 2.12))
    assert Range.of([1, 2, 3, 4]) is None
    normal = Range.of(np.random.default_rng(0).normal(size=10_000))
    assert normal.limits[1] == pytest.approx(4.72, abs=0.1)


@pytest.mark.parametrize("name", registered_names(NETWORKS))
def test_every_network_ends_in_a_layer_whose_input_is_its_features(name: str) -> None:
    try:
        with torch.device("meta"):
            network = build_network(NetworkSettings(name=name), 1, 3, (96, 96, 96))
    except (SettingsError, NotImplementedError, RuntimeError) as error:
        pytest.skip(f"not at this size, or not without data: {error}")
    layer = feature_layer(network)
    if name == "linear":
        assert layer is None  # it sees voxels, and makes no features of them
        return
    assert layer.out_features == 3
    assert layer.in_features >= 64
