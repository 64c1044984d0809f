"""How a GPU is given the kernels of a network: one after the other, as a graph that was recorded, or compiled.

AD-NeXt-B has 36 blocks of small kernels. To launch them one by one takes a processor longer than the GPU needs to run
them, so that the GPU waits. A CUDA graph of the network, forward and back, is recorded once and launched as a whole:
the same kernels, the same results. `torch.compile` also merges kernels, after a minute or more of compiling.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from adnext_plugin.environment import LaunchSetting

GRAPHED = "adnext"  # how names of networks begin whose graphs are known to be recorded without trouble


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
    """A network in training mode for inputs of one shape; others, and what cannot be recorded, go to it one by one.

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

    def __getattr__(self, name: str) -> Any:
        if name == "network":  # not there yet, as in a copy
            raise AttributeError(name)
        return getattr(self.network, name)

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """The network's outputs, valid until the next call."""
        if self._launch == "eager" or not self.network.training:
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

    def _record(self, inputs: tuple[torch.Tensor, ...]) -> None:
        buffers = {name: buffer.clone() for name, buffer in self.network.named_buffers()}
        devices = [inputs[0].device] if inputs[0].device.type == "cuda" else []
        try:
            # the runs before recording must leave no trace in statistics or random numbers
            with torch.random.fork_rng(devices), _without_kept_casts():
                if self._launch == "graphs":
                    self._recorded = torch.cuda.make_graphed_callables(
                        _Forward(self.network), tuple(one.clone() for one in inputs), allow_unused_input=True
                    )
                else:
                    compiled = torch.compile(_Forward(self.network), dynamic=False, mode="reduce-overhead")
                    compiled(*inputs).sum().backward()
                    self._recorded = compiled
            self._shapes = [one.shape for one in inputs]
        except Exception as error:  # of a compiler or a driver, of whatever kind
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            self._tell(f"Kernels are launched one by one ({self._launch} failed: {first[:200]})")
            self._launch = "eager"
        finally:
            self.network.zero_grad(set_to_none=True)
            with torch.no_grad():
                for name, buffer in self.network.named_buffers():
                    buffer.copy_(buffers[name])


class _Forward(nn.Module):
    """A network as a module of its own: recording replaces `forward`, and the network's is to stay."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.network(*inputs)


def _without_kept_casts() -> torch.autocast:
    """The autocast of now, which casts weights anew each time: casts that were kept would be recorded as they were."""
    return torch.autocast(
        "cuda",
        dtype=torch.get_autocast_dtype("cuda"),
        enabled=torch.is_autocast_enabled("cuda"),
        cache_enabled=False,
    )
