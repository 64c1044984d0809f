"""Networks whose kernels are launched together: the same results, and no trace of recording or of its failure."""

from contextlib import nullcontext
from types import SimpleNamespace

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


@pytest.mark.parametrize("mode", [{}, {"capture_error_mode": "global"}])
def test_a_graph_is_recorded_beside_other_threads_and_its_gradients_outside_of_autocast(
    monkeypatch, mode: dict
) -> None:
    is_on, modes = [], []

    def graphed(module, inputs, pool, **_):
        is_on.append(torch.is_autocast_enabled("cuda"))
        with torch.cuda.graph("graph", pool=pool, **mode):
            return module

    def graph(graph, pool, capture_error_mode="global"):
        modes.append(capture_error_mode)
        return nullcontext()

    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", graphed)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    network, lines = _network(), []
    network.register_forward_hook(lambda *_: is_on.append(torch.is_autocast_enabled("cuda")))
    launched = LaunchedNetwork(network, "graphs", lines.append)
    with torch.autocast("cuda", dtype=torch.float16):
        launched(INPUTS[0])
    assert lines == [] and modes == ["thread_local"] and is_on == [False, True]
    assert torch.cuda.graph is graph


class _Stream:
    """As CUDA's, of which one is current."""

    current: "_Stream"

    def __init__(self) -> None:
        self.waited_for: list[_Stream] = []

    def wait_stream(self, other: "_Stream") -> None:
        self.waited_for.append(other)

    def make_current(self) -> None:
        _Stream.current = self


def test_what_a_failed_recording_leaves_behind_is_undone(monkeypatch) -> None:
    """As PyTorch 2.11: the stream stays that of the graph, and the generator's state takes itself to be recorded."""
    here, of_graph, states = _Stream(), _Stream(), []
    here.make_current()
    generator = SimpleNamespace(clone_state=lambda: "clone", graphsafe_set_state=states.append)

    def graph(graph, pool, capture_error_mode):
        of_graph.make_current()
        raise RuntimeError("capture was invalidated")

    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: _Stream.current)
    monkeypatch.setattr(torch.cuda, "set_stream", _Stream.make_current)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "default_generators", [generator])
    monkeypatch.setattr(torch.cuda, "Stream", _Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    network, lines = _network(), []
    launched = LaunchedNetwork(network, "graphs", lines.append)
    assert launched.step(lambda x: network(x).square().sum(), (INPUTS[0],)) is None
    assert lines == ["A step is not one graph (graphs failed: capture was invalidated)"]
    assert _Stream.current is here and here.waited_for[-1] is of_graph and states == ["clone"]


def test_buffers_are_restored_after_what_still_runs_of_a_failed_warm_up(monkeypatch) -> None:
    here = _Stream()
    here.make_current()
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: _Stream.current)
    monkeypatch.setattr(torch.cuda, "Stream", _Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "pool")
    network, lines, waited = _network(), [], []

    def fail(x: torch.Tensor) -> torch.Tensor:
        network(x)
        raise torch.OutOfMemoryError("CUDA out of memory")

    statistics = network[1].running_mean.clone()
    monkeypatch.setattr(
        torch.Tensor, "copy_", lambda *a, _copy=torch.Tensor.copy_: waited.append(here.waited_for) or _copy(*a)
    )
    LaunchedNetwork(network, "graphs", lines.append).step(fail, (INPUTS[0],))
    assert len(lines) == 1 and torch.equal(network[1].running_mean, statistics)
    assert waited and all(waited)


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
