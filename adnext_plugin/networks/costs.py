"""What a network costs to keep and to run once: parameters and multiply-adds."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from ptflops import get_model_complexity_info
from ptflops.pytorch_engine import is_supported_instance
from torch import nn

from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.classifier import has_batch_norm
from adnext_plugin.plan import NetworkSettings


@dataclass(frozen=True, kw_only=True)
class NetworkCosts:
    """Costs of one network at one input size; None where they are not known, and `problem` says why."""

    name: str
    parameters: int | None = None
    multiply_adds: int | None = None
    has_batch_norm: bool | None = None
    problem: str = ""


def count(name: str, in_channels: int, num_outputs: int, input_size_voxels: Sequence[int]) -> NetworkCosts:
    """Count a registered network's costs with its default options.

    Raises:
        UnknownNameError: no network of that name.
    """
    try:
        size_zyx = cast(tuple[int, int, int], tuple(input_size_voxels))
        network = build_network(NetworkSettings(name=name), in_channels, num_outputs, size_zyx)
        multiply_adds = count_multiply_adds(network, in_channels, input_size_voxels)
    except SettingsError as error:
        return NetworkCosts(name=name, problem=str(error))
    return NetworkCosts(
        name=name,
        parameters=count_parameters(network),
        multiply_adds=multiply_adds,
        has_batch_norm=has_batch_norm(network),
    )


def count_parameters(network: nn.Module) -> int:
    """Learned values of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_multiply_adds(network: nn.Module, in_channels: int, input_size_voxels: Sequence[int]) -> int:
    """Multiply-adds of one scan's way through a network, as the AD-NeXt paper's Table 4 counts them.

    Convolutions and linear layers with their biases, pooling, activations, and norms that are modules; attention
    products written as einsum escape. A real forward pass is run: on tensors without data the count is wrong.

    Args:
        network: left in evaluation mode.
        in_channels: of a scan.
        input_size_voxels: (Z, Y, X).

    Raises:
        SettingsError: the pass failed.
    """
    # ptflops prints what went wrong, with a traceback, instead of raising it
    said = io.StringIO()
    network.eval()
    with torch.no_grad(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        multiply_adds, _ = get_model_complexity_info(
            _EachOnce(network) if _has_second_names(network) else network,
            (in_channels, *input_size_voxels),
            as_strings=False,
            print_per_layer_stat=False,
            backend="pytorch",
        )
    if multiply_adds is None:
        raise SettingsError(
            f"the network cannot be run on {list(input_size_voxels)} ({said.getvalue().splitlines()[-1]})"
        )
    return multiply_adds


class _EachOnce(nn.Module):
    """A network for ptflops, which adds up over children and so counts twice what two of them share."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        return self.network(x_bczyx)

    def children(self) -> Iterator[nn.Module]:
        """Every layer that is counted, once."""
        return (module for module in self.network.modules() if is_supported_instance(module))


def _has_second_names(network: nn.Module) -> bool:
    """Whether a module is registered under several names, as nnU-Net's blocks register their layers."""
    return len(list(network.named_modules(remove_duplicate=False))) > len(list(network.modules()))
