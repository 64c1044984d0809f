"""An AD-NeXt is one graph to `torch.compile`, and the graph answers as the network does."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adnext_plugin.networks.build import build_network
from adnext_plugin.plan import NetworkSettings

SMALL = {"stem": "convolutional", "head_norm": "batch"}
SIZE = 32


@pytest.mark.parametrize(
    ("name", "options"),
    [("adnext_t", {}), ("adnext_t", SMALL), ("adnext_s", {}), ("adnext_b", {}), ("adnext_l", {})],
)
def test_an_adnext_is_compiled_whole_and_answers_as_before(name: str, options: dict) -> None:
    torch.manual_seed(0)
    torch._dynamo.reset()
    network = build_network(NetworkSettings(name=name, options=options), 1, 2, (SIZE, SIZE, SIZE)).eval()
    scans = torch.randn(2, 1, SIZE, SIZE, SIZE)
    # `fullgraph`: what dynamo cannot trace is an error; nothing is compiled, which would take a minute
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    with torch.no_grad():
        torch.testing.assert_close(compiled(scans), network(scans))


@pytest.mark.parametrize("options", [{}, SMALL])
def test_a_training_step_is_compiled_whole_with_the_gradients_as_before(options: dict) -> None:
    torch.manual_seed(0)
    torch._dynamo.reset()
    network = build_network(NetworkSettings(name="adnext_t", options=options), 1, 2, (SIZE, SIZE, SIZE)).train()
    for key, weight in network.named_parameters():
        if key.endswith("gamma"):  # which start at 0, and so would hide what response norms are
            nn.init.normal_(weight)
    scans, targets = torch.randn(2, 1, SIZE, SIZE, SIZE), torch.tensor([0, 1])
    # the graph of the gradients is traced, too
    compiled = torch.compile(copy.deepcopy(network), backend="aot_eager", fullgraph=True)
    for one in (network, compiled):
        torch.manual_seed(1)  # of the branches that are dropped
        F.cross_entropy(one(scans), targets).backward()
    found, expected = (_gradients_and_buffers(one) for one in (compiled._orig_mod, network))
    torch.testing.assert_close(found, expected)


def _gradients_and_buffers(network: nn.Module) -> dict[str, torch.Tensor]:
    return {key: weight.grad for key, weight in network.named_parameters()} | dict(network.named_buffers())
