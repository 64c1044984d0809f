"""A run in several processes, one for each GPU: what they exchange, and the seeds that set them apart."""

import os
from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from monai.networks.layers import DropPath
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.ops import StochasticDepth

from adnext_plugin.networks.weight_names import COMPILED

Value = TypeVar("Value")


class LossOf(nn.Module):
    """A network whose forward pass is a whole training loss.

    `DistributedDataParallel` averages gradients of what its forward pass used. So that a loss may reach into the
    network, call parts of it, or call it more than once, the loss is what is wrapped, not the network.

    Args:
        network: whose parameters are trained.
        loss: of the network and further arguments.
    """

    def __init__(self, network: nn.Module, loss: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.network = network
        self._loss = loss

    def forward(self, *arguments: Any) -> torch.Tensor:
        return self._loss(self.network, *arguments)


def sharing_gradients(network: nn.Module, device: torch.device) -> DistributedDataParallel:
    """A network whose gradients are the mean over all processes of a group.

    Args:
        network: or its loss (`LossOf`), on the device of this process.
        device: this.
    """
    for parameter in network.parameters():
        if parameter.requires_grad and 1 in parameter.shape:
            parameter.register_hook(partial(_with_strides, strides=parameter.stride()))
    own_gpu = [device.index] if device.type == "cuda" else None
    # shared batch norms have equal statistics everywhere, so no buffers need be sent; the word has been renamed
    known = signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    unsent: dict[str, Any] = {name: False}
    return DistributedDataParallel(network, device_ids=own_gpu, **unsent)


def unwrapped(network: nn.Module) -> nn.Module:
    """The network itself, as one process without others has it."""
    if isinstance(network, DistributedDataParallel):
        network = network.module
    if isinstance(network, LossOf):
        network = network.network
    # torch.compile wraps a network and keeps it; its parameters are the same
    return getattr(network, COMPILED, network)


def number_of_processes() -> int:
    """How many train together; 1 outside of a group."""
    return dist.get_world_size() if _together() else 1


def from_all_processes(outputs: list[Value]) -> list[Value]:
    """The outputs of every process, those of the first first."""
    if not _together():
        return outputs
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, outputs)
    return [output for of_process in gathered for output in of_process]


def of_first_process(value: Value) -> Value:
    """What the first process found, for all to go by: measurements differ."""
    if not _together():
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def wait_for_all() -> None:
    """Go on when every process is here: what the first has written by then can be read by all."""
    if _together():
        dist.barrier()


def device_of_process(kind: str) -> torch.device:
    """The device of this process of several on its machine."""
    if kind != "cuda":
        return torch.device(kind)
    place = os.environ.get("LOCAL_RANK")  # as torchrun has it, which may start processes on several machines
    return torch.device("cuda", dist.get_rank() if place is None else int(place))


def draws_at_random(network: nn.Module) -> bool:
    """Whether training drops parts of the network, which every process draws for itself."""
    return any(
        module.p > 0 if isinstance(module, nn.modules.dropout._DropoutNd | StochasticDepth) else module.drop_prob > 0
        for module in network.modules()
        if isinstance(module, nn.modules.dropout._DropoutNd | StochasticDepth | DropPath)
    )


def seed_torch(seed: int, epoch: int, rank: int) -> None:
    """Seed torch's generator for an epoch, or with -1 for the first weights, which are the same in every process."""
    # rank apart, so that processes drop different residual branches
    seeds = np.random.SeedSequence((seed, epoch + 1, rank if epoch >= 0 else 0))
    torch.manual_seed(int(seeds.generate_state(1)[0]))


def _with_strides(gradient: torch.Tensor, strides: tuple[int, ...]) -> torch.Tensor:
    """The gradient with a parameter's strides, where they differ along axes of length 1 alone and so mean the same.

    `DistributedDataParallel` compares them all, and warns that a copy may be slow. It is not: filters of depthwise
    convolutions, (C, 1, K, K, K), lie in memory as their gradients do.
    """
    axes = zip(gradient.shape, gradient.stride(), strides, strict=True)
    if gradient.stride() == strides or any(size > 1 and own != asked for size, own, asked in axes):
        return gradient
    return gradient.as_strided(gradient.shape, strides)


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()
