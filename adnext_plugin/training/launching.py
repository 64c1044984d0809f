"""How a GPU is given the kernels of a network: one after the other, as a graph that was recorded, or compiled.

AD-NeXt-B has 36 blocks of small kernels. To launch them one by one takes a processor longer than the GPU needs to run
them, so that the GPU waits. A CUDA graph of the network, forward and back, is recorded once and launched as a whole:
the same kernels, the same results. `torch.compile` also merges kernels, after a minute or more of compiling.

Where a loss is a function of what the GPU holds, all of a step up to the optimizer's is one graph, so that gradients of
hundreds of weights do not go through Python one by one. So are the networks of scans that epochs are judged by, and of
those that statistics of batch norms are settled by.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from adnext_plugin.environment import LaunchSetting

Recorded = TypeVar("Recorded")
GRAPHED = "adnext"  # how names of networks begin whose graphs are known to be recorded without trouble
WARM_RUNS = 3  # before recording, as PyTorch asks for
MOST_SHAPES = 6  # of batches that epochs are judged or settled by: whole ones, and what is left over


def launch_of(asked: LaunchSetting, network_name: str, device: torch.device) -> LaunchSetting:
    """How to launch; "auto" is a graph for AD-NeXt, and one by one for others and without a GPU.

    Args:
        asked: by the user.
        network_name: as registered.
        device: which is computed on.
    """
    if device.type != "cuda":
        return "eager"
    if asked != "auto":
        return asked
    return "graphs" if network_name.startswith(GRAPHED) else "eager"


class LaunchedNetwork:
    """A network for inputs of one shape; others, and what cannot be recorded, go to it one by one.

    Neither the network nor its weights are changed or wrapped, so that checkpoints know nothing of this.

    Args:
        network: trained.
        launch: how.
        tell: is given a line if that cannot be done.

    Attributes:
        network: as given; all else that is asked for is the network's own.
    """

    def __init__(self, network: nn.Module, launch: LaunchSetting, tell: Callable[[str], None]) -> None:
        self.network, self._launch, self._tell = network, launch, tell
        self._recorded: Any = None
        self._shapes: list[torch.Size] = []
        self._judging: dict[tuple[tuple[torch.Size, ...], tuple[float, ...]], Recording] = {}
        self._step: RecordedStep | None = None
        self._judges_by_graphs = self._steps_by_graph = launch == "graphs"
        self._is_recording = False
        self._memory: Any = None  # of all graphs, none of which runs while another does

    def __getattr__(self, name: str) -> Any:
        if name == "network":  # not there yet, as in a copy
            raise AttributeError(name)
        return getattr(self.network, name)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The network's outputs, valid until the next call."""
        if self._judges_by_graphs and (momenta := self._momenta_of_judging()) is not None:
            return self._judged(inputs, momenta)
        if self._launch == "eager" or self._is_recording or not self.network.training:
            return self.network(*inputs)
        if self._recorded is None:
            self._record(inputs)
        if self._recorded is None or self._shapes != [one.shape for one in inputs]:
            return self.network(*inputs)
        if self._launch == "graphs":
            return self._recorded(*inputs)
        torch.compiler.cudagraph_mark_step_begin()
        with _without_kept_casts():  # as it was compiled under, or it is compiled again
            return self._recorded(*inputs)

    def step(self, loss_of: Callable[..., torch.Tensor], inputs: tuple[torch.Tensor, ...]) -> torch.Tensor | None:
        """The loss of a training step, with gradients in all parameters; None where it is not launched as one graph.

        Args:
            loss_of: inputs to a scalar; calls the network itself, and depends on nothing else that changes.
            inputs: on the device. Those of another shape than the first are not launched so.
        """
        if self._steps_by_graph and self._step is None:
            self._step = self._try(
                lambda: RecordedStep(self.network, loss_of, inputs, self._pool()), "A step is not one graph"
            )
            self._steps_by_graph = self._step is not None
        if self._step is None or not self._step.takes(inputs):
            return None
        return self._step(inputs)

    def _momenta_of_judging(self) -> tuple[float, ...] | None:
        """Of batch norms that learn statistics meanwhile; None where the network is asked for more than outputs."""
        if torch.is_grad_enabled():
            return None
        momenta = []
        for module in self.network.modules():
            if not module.training:
                continue
            if not isinstance(module, _BatchNorm) or module.momentum is None:
                return None
            momenta.append(module.momentum)
        return tuple(momenta)

    def _judged(self, inputs: tuple[torch.Tensor, ...], momenta: tuple[float, ...]) -> torch.Tensor:
        shapes = (tuple(one.shape for one in inputs), momenta)
        if shapes not in self._judging and len(self._judging) < MOST_SHAPES:
            recording = self._try(
                lambda: Recording(self.network, inputs, self._pool()), "Epochs are judged without graphs"
            )
            if recording is None:
                self._judges_by_graphs = False
            else:
                self._judging[shapes] = recording
        return self._judging[shapes](inputs) if shapes in self._judging else self.network(*inputs)

    def _record(self, inputs: tuple[torch.Tensor, ...]) -> None:
        self._recorded = self._try(lambda: self._both_ways(inputs), "Kernels are launched one by one")
        self._shapes = [one.shape for one in inputs]
        if self._recorded is None:
            self._launch = "eager"

    def _both_ways(self, inputs: tuple[torch.Tensor, ...]) -> Any:
        """The network, forward and back, as it is to be called."""
        if self._launch == "graphs":
            forward = _ForwardUnder(self.network)
            with torch.autocast("cuda", enabled=False):  # gradients are found outside of it, also one by one
                return torch.cuda.make_graphed_callables(
                    forward,
                    tuple(one.clone() for one in inputs),
                    allow_unused_input=True,
                    pool=self._pool(),
                )
        compiled = torch.compile(_Forward(self.network), dynamic=False, mode="reduce-overhead")
        compiled(*inputs).sum().backward()
        return compiled

    def _pool(self) -> Any:
        if self._memory is None:
            self._memory = torch.cuda.graph_pool_handle()
        return self._memory

    def _try(self, record: Callable[[], Recorded], otherwise: str) -> Recorded | None:
        """What was recorded, leaving no trace in statistics, random numbers or gradients; None, and a line."""
        self._is_recording = True
        stream = torch.cuda.current_stream() if torch.cuda.is_initialized() else None
        is_graph = self._launch != "compile"
        # what torch compiles, it records in a way of its own
        beside = _beside_other_threads() if is_graph else nullcontext()
        try:
            with _leaving_no_trace(self.network), _without_kept_casts(), beside:
                return record()
        except Exception as error:  # of a compiler or a driver, of whatever kind
            if stream is not None:
                _go_on_after_failure(stream)
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            way = "graphs" if is_graph else "compile"
            self._tell(f"{otherwise} ({way} failed: {first[:200]})")
            return None
        finally:
            self._is_recording = False


class Recording:
    """Work on tensors of certain shapes, recorded as a CUDA graph: the same kernels, on whatever tensors hold then.

    Args:
        work: what is recorded; reads nothing from the device.
        inputs: on the device.
        pool: memory that graphs share of which one runs at a time.
    """

    def __init__(self, work: Callable[..., torch.Tensor], inputs: tuple[torch.Tensor, ...], pool: Any) -> None:
        self._inputs = tuple(one.clone() for one in inputs)
        beside, here = torch.cuda.Stream(), torch.cuda.current_stream()
        beside.wait_stream(here)
        try:
            with torch.cuda.stream(beside):
                for _ in range(WARM_RUNS):
                    work(*self._inputs)
        finally:
            here.wait_stream(beside)  # also before what a failure leaves is mended
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph, pool=pool):
            self._outputs = work(*self._inputs)

    def takes(self, inputs: tuple[torch.Tensor, ...]) -> bool:
        """Whether these are of the shapes that were recorded."""
        return [one.shape for one in inputs] == [one.shape for one in self._inputs]

    def __call__(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """What the work gives for them, a copy that stays as it is."""
        for held, one in zip(self._inputs, inputs, strict=True):
            held.copy_(one)
        self._graph.replay()
        return self._outputs.detach().clone()


class RecordedStep(Recording):
    """A network's loss and the gradients of its parameters.

    Args:
        network: whose parameters learn.
        loss_of: inputs to a scalar.
        inputs: on the device.
        pool: memory that graphs share of which one runs at a time.
    """

    def __init__(
        self,
        network: nn.Module,
        loss_of: Callable[..., torch.Tensor],
        inputs: tuple[torch.Tensor, ...],
        pool: Any,
    ) -> None:
        def work(*held: torch.Tensor) -> torch.Tensor:
            network.zero_grad(set_to_none=True)  # gradients are then written, not added to
            loss = loss_of(*held)
            with torch.autocast(loss.device.type, enabled=False):  # as a step that is not recorded finds gradients
                loss.backward()
            return loss.detach()

        super().__init__(work, inputs, pool)
        self._gradients = [(parameter, parameter.grad) for parameter in network.parameters()]

    def __call__(self, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The loss; gradients are where the optimizer looks for them."""
        loss = super().__call__(inputs)
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        return loss


@contextmanager
def _leaving_no_trace(network: nn.Module) -> Iterator[None]:
    """Let buffers, random numbers and gradients be what they were; gradients none."""
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    devices = {one.device for one in (*network.parameters(), *network.buffers()) if one.device.type == "cuda"}
    try:
        with torch.random.fork_rng(sorted(devices, key=str)):
            yield
    finally:
        network.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(buffers[name])


@contextmanager
def _beside_other_threads() -> Iterator[None]:
    """Let threads that pin memory for a loader, or bring a state to the CPU, go on while a graph is recorded.

    CUDA would refuse them what it refuses a thread that records, and fail the recording for it.
    """
    graph = torch.cuda.graph
    # not every version of torch hands the mode on to all that records
    torch.cuda.graph = partial(_of_this_thread, graph)  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        torch.cuda.graph = graph  # type: ignore[misc]


def _of_this_thread(graph: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    return graph(*arguments, **{**options, "capture_error_mode": "thread_local"})


def _go_on_after_failure(stream: torch.cuda.Stream) -> None:
    """Undo what a recording that CUDA failed leaves behind in versions of torch that do not.

    Work would go on in the stream that was recorded, in no order with what waits in `stream`, and random numbers would
    take themselves to be recorded.
    """
    left = torch.cuda.current_stream()
    if left != stream:
        stream.wait_stream(left)
        torch.cuda.set_stream(stream)
    generator = torch.cuda.default_generators[torch.cuda.current_device()]
    with suppress(AttributeError, RuntimeError):  # versions without that state
        generator.graphsafe_set_state(generator.clone_state())


class _Forward(nn.Module):
    """A network as a module of its own: recording replaces `forward`, and the network's is to stay."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.network(*inputs)


class _ForwardUnder(_Forward):
    """The same under the autocast of now, wherever it is called."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self._autocast = _without_kept_casts()

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        with self._autocast:
            return super().forward(*inputs)


def _without_kept_casts() -> torch.autocast:
    """The autocast of now, which casts weights anew each time: casts that were kept would be recorded as they were."""
    return torch.autocast(
        "cuda",
        dtype=torch.get_autocast_dtype("cuda"),
        enabled=torch.is_autocast_enabled("cuda"),
        cache_enabled=False,
    )
