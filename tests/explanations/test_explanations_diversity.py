"""Diversity of features is 0 of what is alike, a half of what is orthogonal, 1 of what is opposed."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from adnext_plugin.explanations.diversity import diversities, diversity
from adnext_plugin.explanations.layers import Layers
from adnext_plugin.explanations.method import ExplainedNetwork
from adnext_plugin.networks.build import build_network
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.task import Task

AD = Task(name="AD", target="diagnosis", classes=("CN", "AD"))


def test_alike_orthogonal_and_opposed_rows_have_their_known_distances() -> None:
    one = torch.tensor([1.0, -2.0, 3.0])
    assert diversity(torch.stack([one, 2 * one, 5 * one])).distance == pytest.approx(0)
    assert diversity(torch.eye(7) * torch.arange(1, 8)).distance == pytest.approx(0.5)
    assert diversity(torch.stack([one, -3 * one])).distance == pytest.approx(1)
    # the most that many rows can have is where they add up to 0
    assert diversity(torch.cat([torch.eye(3), -torch.eye(3)])).distance == pytest.approx(0.5 * 6 / 5)


def test_the_short_form_is_the_mean_over_all_pairs_and_dead_rows_are_left_out() -> None:
    rows = torch.randn(9, 40, generator=torch.Generator().manual_seed(0))
    rows[4] = 0
    alive = [row for row in rows if row.any()]
    pairs = [
        (1 - float(torch.cosine_similarity(first, second, dim=0))) / 2
        for first, second in itertools.permutations(alive, 2)
    ]
    found = diversity(rows)
    assert found.distance == pytest.approx(np.mean(pairs), abs=1e-6) and found.dead == 1
    assert np.isnan(diversity(torch.zeros(3, 4)).distance) and diversity(torch.zeros(3, 4)).dead == 3


def test_channels_and_tokens_of_layers_are_told_apart() -> None:
    network = nn.Sequential(nn.Conv3d(1, 4, 2, 2), nn.Flatten(), nn.Linear(32, 2))
    explained = ExplainedNetwork(network=network, task=AD, image_shape=(1, 4, 4, 4))
    with torch.no_grad():  # four channels that see the same, each its share of it
        network[0].weight.copy_(torch.arange(1.0, 5)[:, None, None, None, None].expand_as(network[0].weight))
        network[0].bias.zero_()
    image = torch.rand(1, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    found = diversities(Layers(explained), image, ["0"])
    assert found["0", "channel"].distance == pytest.approx(0, abs=1e-9)
    assert found["0", "token"].distance == pytest.approx(0, abs=1e-9)
    with torch.no_grad():
        network[0].weight.normal_(generator=torch.Generator().manual_seed(1))
    found = diversities(Layers(explained), image, ["0"])
    features = network[0](image)[0].detach().flatten(1)
    assert found["0", "channel"] == diversity(features) and found["0", "token"] == diversity(features.T)
    assert abs(found["0", "channel"].distance - found["0", "token"].distance) > 0.01


@pytest.mark.parametrize(
    ("name", "size", "blocks"), [("adnext_t", 64, 12), ("vit_small_mim", 48, 6), ("minit", 32, 6), ("resnet10", 32, 4)]
)
def test_the_blocks_of_a_network_are_its_layers(name: str, size: int, blocks: int) -> None:
    torch.manual_seed(0)
    network = build_network(NetworkSettings(name=name), 1, 2, (size,) * 3)
    layers = Layers(ExplainedNetwork(network=network, task=AD, image_shape=(1, size, size, size)))
    names = layers.spatial_blocks()
    assert len(names) == blocks
    assert names == tuple(sorted(names, key=layers.names.index))
    found = diversities(layers, torch.randn(1, 1, size, size, size), names)
    assert len(found) == 2 * blocks and all(0 <= one.distance <= 1 for one in found.values())
