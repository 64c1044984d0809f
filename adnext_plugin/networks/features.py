"""What any registered network makes of a scan before its head: one vector of features.

A network is an `encoder`, which is handed on, and a `head`, which is not. Where the encoder ends in more than a vector,
the head's own method `pool`, which has no weights, says how it becomes one; without, tokens (B, ..., D) are averaged.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import nn

from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.build import build_network
from adnext_plugin.plan import NetworkSettings

Pool = Callable[[torch.Tensor], torch.Tensor]


def encoder_of(network: nn.Module, name: str | None) -> nn.Module:
    """A network's encoder.

    Raises:
        SettingsError: it has none.
    """
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, nn.Module):
        raise SettingsError(
            f"network {name!r} has no module `encoder`, so that there is nothing to hand on; choose another network"
        )
    return encoder


def pool_of(network: nn.Module) -> Pool:
    """How what the encoder ends with becomes (B, D)."""
    own = getattr(getattr(network, "head", None), "pool", None)
    return cast(Pool, own) if callable(own) else mean_of_tokens


def mean_of_tokens(encoded: torch.Tensor) -> torch.Tensor:
    """(B, D) as it is; (B, ..., D) averaged over what is in between."""
    return encoded if encoded.ndim == 2 else encoded.flatten(1, -2).mean(dim=1)


@dataclass(frozen=True, kw_only=True)
class Features:
    """How many there are, and how to come by them: `pool` makes (B, width) of what the encoder ends with."""

    width: int
    pool: Pool


def features_of(settings: NetworkSettings, in_channels: int, input_size_voxels: tuple[int, int, int]) -> Features:
    """What a network's features are, found without computing any.

    Raises:
        SettingsError: it has no encoder, or one that ends in something that cannot be made a vector.
    """
    with torch.device("meta"):
        network = build_network(settings, in_channels, 2, input_size_voxels).eval()
        encoded = encoder_of(network, settings.name)(torch.zeros(1, in_channels, *input_size_voxels))
        pool = pool_of(network)
        if pool is mean_of_tokens and not isinstance(encoded, torch.Tensor):
            raise SettingsError(
                f"the encoder of network {settings.name!r} ends in a {type(encoded).__name__}, and its head has no "
                "`pool` to make a vector of it; choose another network"
            )
        return Features(width=pool(encoded).shape[-1], pool=pool)


def feature_layer(network: nn.Module) -> nn.Linear | None:
    """The layer whose input is what a network has made of a scan in the end; None if it does not end in such a layer.

    Where the outputs of several are put together (NiT, MiNiT), the first of them.
    """
    layers = [module for module in getattr(network, "head", network).modules() if isinstance(module, nn.Linear)]
    return next((layer for layer in layers if layer.out_features == layers[-1].out_features), None)
