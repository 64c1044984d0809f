"""An encoder with a small network behind its features, which is dropped when the encoder is handed on.

scan (B, C, Z, Y, X)
  encoder     that of the plan's registered network
  projector   the features as one vector, then linear layers with ReLU in between
(B, widths[-1])
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import nn

from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.features import Pool, encoder_of, features_of
from adnext_plugin.plan import Plan

ProjectorNorm = Literal["none", "batch"]


class Projector(nn.Module):
    """What an encoder ends with to (B, widths[-1]).

    Args:
        pool: makes a vector of what the encoder ends with.
        features: of that vector.
        widths: of the linear layers.
        norm: `batch`: take away from the features what all scans of a batch share, before the first layer.
    """

    def __init__(self, pool: Pool, features: int, widths: Sequence[int], norm: ProjectorNorm) -> None:
        super().__init__()
        self._pool = pool
        self.norm = nn.BatchNorm1d(features) if norm == "batch" else nn.Identity()
        layers: list[nn.Module] = []
        for narrow, wide in pairwise((features, *widths)):
            layers += [nn.ReLU()] if layers else []
            layers.append(nn.Linear(narrow, wide))
        self.layers = nn.Sequential(*layers)

    def forward(self, encoded: torch.Tensor) -> torch.Tensor:
        return self.layers(self.norm(self._pool(encoded)))


class Projected(nn.Module):
    """Scans (B, C, Z, Y, X) to (B, D)."""

    key_to_encoder = "encoder"

    def __init__(self, encoder: nn.Module, projector: Projector) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector

    def forward(self, images_bczyx: torch.Tensor) -> torch.Tensor:
        return self.projector(self.encoder(images_bczyx))


def projector_for(plan: Plan, in_channels: int, widths: Sequence[int], norm: ProjectorNorm) -> Projector:
    """A projector for the encoder of the plan's network, with fresh weights.

    Raises:
        SettingsError: the network is none that has an encoder and features.
    """
    features = features_of(plan.network, in_channels, plan.preprocessing.input_size_voxels)
    return Projector(features.pool, features.width, widths, norm)


def build_projected(plan: Plan, in_channels: int, widths: Sequence[int], norm: ProjectorNorm) -> Projected:
    """The encoder of the plan's network and a projector, with fresh weights.

    Raises:
        SettingsError: the network is none that has an encoder and features.
    """
    network = build_network(plan.network, in_channels, 2, plan.preprocessing.input_size_voxels)
    return Projected(encoder_of(network, plan.network.name), projector_for(plan, in_channels, widths, norm))
