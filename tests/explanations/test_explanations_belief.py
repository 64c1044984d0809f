"""Checks of maps tell a map of what counts from a map of nothing."""

import numpy as np
import pytest
import torch
from torch import nn

from adnext_plugin.explanations.belief import agreement, deletion_and_insertion, random_map, rank_correlation
from adnext_plugin.explanations.method import ExplainedNetwork
from adnext_plugin.task import Task

AGE = Task(name="Age", kind="regression", target="age")
AD = Task(name="AD", target="diagnosis", classes=("CN", "AD"))
SHAPE = (1, 20, 20, 20)
KNOWN = (slice(5, 10),) * 3


class Looks(nn.Module):
    """Weights times the mean over a known box."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.register_buffer("weights", torch.tensor(weights))

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        return x_bczyx[(slice(None), 0, *KNOWN)].mean(dim=(1, 2, 3))[:, None] * self.weights


def _image() -> np.ndarray:
    image = np.zeros(SHAPE, dtype=np.float32)
    image[:, 1:-1, 1:-1, 1:-1] = 1
    return image


def test_what_counts_is_deleted_and_inserted_at_once_and_anything_else_in_the_end() -> None:
    right = np.zeros(SHAPE[1:])
    right[KNOWN] = 1
    network = ExplainedNetwork(network=Looks(1.0), task=AGE, image_shape=SHAPE)
    # the box is 125 of 5832 voxels, gone within the first tenth: the curve falls from 1 to 0 in it
    assert deletion_and_insertion(network, _image(), right, 0) == pytest.approx((0.05, 0.95))
    assert deletion_and_insertion(network, _image(), -right, 0, batch_size=7) == pytest.approx((0.95, 0.05))
    by_chance = np.mean([deletion_and_insertion(network, _image(), random_map(SHAPE[1:], k), 0) for k in range(40)], 0)
    np.testing.assert_allclose(by_chance, 0.5, atol=0.12)


def test_scores_of_classes_are_probabilities() -> None:
    right = np.zeros(SHAPE[1:])
    right[KNOWN] = 1
    network = ExplainedNetwork(network=Looks(-4.0, 4.0), task=AD, image_shape=SHAPE)
    full = 1 / (1 + np.exp(-8))
    deleted, inserted = deletion_and_insertion(network, _image(), right, 1)
    assert deleted == pytest.approx(0.1 * (full + 0.5) / 2 + 0.9 * 0.5, abs=1e-6)
    assert inserted == pytest.approx(0.1 * (full + 0.5) / 2 + 0.9 * full, abs=1e-6)


def test_maps_agree_by_their_ranks_in_the_brain() -> None:
    brain = _image()[0] > 0
    first = np.random.default_rng(0).normal(size=SHAPE[1:])
    outside = np.where(brain, np.exp(first), 99)
    assert rank_correlation(first, outside, brain) == pytest.approx(1)
    assert rank_correlation(first, -first, brain) == pytest.approx(-1)
    assert rank_correlation(first, np.zeros_like(first), brain) == 0
    assert agreement([first, outside, -first], brain) == pytest.approx(-1 / 3)
    assert abs(rank_correlation(random_map(SHAPE[1:], 0), random_map(SHAPE[1:], 1), brain)) < 0.9
