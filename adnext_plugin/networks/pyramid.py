"""Encoders that also give what they have at every resolution, for decoders that lead back to the scan's own."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import nn

from adnext_plugin.networks.recomputation import MayRecompute


@runtime_checkable
class Pyramid(Protocol):
    """What a decoder needs of an encoder; an `nn.Module` besides.

    `level_widths` are the channels of the levels and `level_strides` the voxels of the scan along an edge of theirs,
    the finest level first.
    """

    level_widths: Sequence[int]
    level_strides: Sequence[int]

    def levels(self, x_bczyx: torch.Tensor) -> list[torch.Tensor]:
        """Features (B, C, Z, Y, X) of every level, the finest first."""
        ...


class PooledStages(MayRecompute):
    """Mixed into an encoder whose `stages` follow each other: levels, features, and layers for learning rates."""

    stages: nn.Sequential
    level_widths: Sequence[int]
    level_strides: Sequence[int]

    def levels(self, x_bczyx: torch.Tensor) -> list[torch.Tensor]:
        """Features (B, C, Z, Y, X) of every stage, the finest first."""
        found = []
        stem = getattr(self, "stem", None)
        x = x_bczyx if stem is None else stem(x_bczyx)
        for stage in self.stages:
            x = self.through(stage, x)
            found.append(x)
        return found

    def layers(self) -> list[nn.Module]:
        """All parts from input to output, as learning rates are given to them."""
        stem = getattr(self, "stem", None)
        return [*([] if stem is None else [stem]), *self.stages]

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        """Scan (B, C, Z, Y, X) to features (B, width of the deepest stage): its mean over space."""
        return self.levels(x_bczyx)[-1].mean(dim=(2, 3, 4))
