"""An AD-NeXt is one graph to `torch.compile`, and the graph answers as the network does."""

import pytest
import torch

from adnext_plugin.networks.build import build_network
from adnext_plugin.plan import NetworkSettings

SMALL = {"stem": "convolutional", "head_norm": "batch"}
SIZE = 32


@pytest.mark.parametrize(
    ("name", "options"),
    [("adnext_t", {}), ("adnext_t", SMALL), ("adnext_s", {}), ("adnext_b", {})],
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
