"""Networks whose kernels are launched together: the same results, and no trace of recording or of its failure."""

import pytest
import torch
from torch import nn

from adnext_plugin.environment import launch_setting
from adnext_plugin.errors import SettingsError
from adnext_plugin.training.launching import LaunchedNetwork, launch_of

COMPILE = torch.compile

INPUTS = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))


def _network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.GELU(), nn.Linear(6, 2))


def _steps(network: nn.Module, call) -> list[torch.Tensor]:
    torch.manual_seed(2)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    for inputs in INPUTS:
        optimizer.zero_grad()
        call(inputs).square().sum().backward()
        optimizer.step()
    return [*network.state_dict().values(), torch.rand(1)]


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize("launch", ["eager", "graphs", "compile"])
def test_steps_are_those_of_the_network_itself_and_random_numbers_too(monkeypatch, launch) -> None:
    monkeypatch.setattr(torch, "compile", lambda module, **_: COMPILE(module, backend="aot_eager"))
    plain, network, lines = _network(), _network(), []
    expected = _steps(plain, plain)
    launched = LaunchedNetwork(network, launch, lines.append)
    found = _steps(network, launched)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    assert "forward" not in vars(network) and list(network.state_dict()) == list(plain.state_dict())
    # without a GPU no graph can be recorded, which is said once
    assert len(lines) == (launch == "graphs")
    assert not lines or lines[0].startswith("Kernels are launched one by one (graphs failed: ")


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
def test_other_shapes_and_what_is_judged_go_to_the_network_itself(monkeypatch) -> None:
    compiled = []

    def counted(module, **_):
        recorded = COMPILE(module, backend="aot_eager")
        return lambda *inputs: (compiled.append(inputs[0].shape), recorded(*inputs))[1]

    monkeypatch.setattr(torch, "compile", counted)
    network = _network()
    launched = LaunchedNetwork(network, "compile", lambda line: None)
    launched(INPUTS[0])
    launched(INPUTS[1])
    assert compiled == [(4, 5)] * 3  # once more to record
    assert launched(INPUTS[0, :3]).shape == (3, 2)
    network.eval()
    assert torch.equal(launched(INPUTS[0]), network(INPUTS[0]))
    assert compiled == [(4, 5)] * 3


def test_a_failing_compiler_costs_a_line_and_no_step(monkeypatch) -> None:
    def failing(module, **_):
        raise RuntimeError("no such compiler\nand more")

    monkeypatch.setattr(torch, "compile", failing)
    plain, network, lines = _network(), _network(), []
    found = _steps(network, LaunchedNetwork(network, "compile", lines.append))
    assert all(torch.equal(one, other) for one, other in zip(found, _steps(plain, plain), strict=True))
    assert lines == ["Kernels are launched one by one (compile failed: no such compiler)"]


def test_graphs_are_for_ad_next_on_a_gpu_unless_something_else_is_asked_for(monkeypatch) -> None:
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert launch_of("auto", "adnext_b", gpu) == "graphs" and launch_of("auto", "densenet121", gpu) == "eager"
    assert launch_of("compile", "densenet121", gpu) == "compile" and launch_of("graphs", "adnext_b", cpu) == "eager"
    for value, found in (("", "auto"), ("eager", "eager"), (" graphs ", "graphs")):
        monkeypatch.setenv("ADNEXT_LAUNCH", value)
        assert launch_setting() == found
    monkeypatch.setenv("ADNEXT_LAUNCH", "fast")
    with pytest.raises(SettingsError, match="one of auto, eager, graphs, compile, got 'fast'"):
        launch_setting()
