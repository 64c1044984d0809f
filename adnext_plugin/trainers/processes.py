"""A run in several processes, one for each GPU: what they exchange, and the seeds that set them apart."""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

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


def seed_torch(seed: int, epoch: int, rank: int) -> None:
    """Seed torch's generator for an epoch, or with -1 for the first weights, which are the same in every process."""
    # rank apart, so that processes drop different residual branches
    seeds = np.random.SeedSequence((seed, epoch + 1, rank if epoch >= 0 else 0))
    torch.manual_seed(int(seeds.generate_state(1)[0]))


def _together() -> bool:
    return dist.is_available() and dist.is_initialized()
