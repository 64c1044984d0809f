"""Classifiers that compute their blocks again for the backward pass: the same gradients."""

import pytest
import torch
import torch.nn.functional as F

from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.recomputation import recompute_in
from adnext_plugin.plan import NetworkSettings


@pytest.mark.parametrize("name", ["adnext_t", "mednext_b_k3", "unet_b"])
def test_gradients_are_those_of_the_network_that_keeps_everything(name: str) -> None:
    images, targets, found = torch.randn(2, 1, 32, 32, 32), torch.arange(2), []
    for recompute in (False, True):
        torch.manual_seed(0)
        network = build_network(NetworkSettings(name=name), 1, 2, (32, 32, 32)).train()
        assert not recompute or recompute_in(network)
        torch.manual_seed(1)  # dropped branches are drawn once and drawn again
        F.cross_entropy(network(images), targets).backward()
        found.append({key: parameter.grad for key, parameter in network.named_parameters()})
    for key, gradient in found[0].items():
        torch.testing.assert_close(found[1][key], gradient, rtol=1e-5, atol=1e-7)


def test_a_network_without_such_blocks_says_that_it_has_none() -> None:
    assert recompute_in(build_network(NetworkSettings(name="resnet10"), 1, 2, (32, 32, 32))) == 0
