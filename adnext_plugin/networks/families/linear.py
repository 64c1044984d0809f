"""A linear model of voxels: each output is a weighted sum of the voxels that it is shown, plus an offset.

`ADNeXtLinearTrainer` finds the weights in closed form; any other trainer would find them by descent.
"""

from collections.abc import Sequence

import torch
from torch import nn

from adnext_plugin.networks.classifier import Classifier, SpatialMean, require_input_size

SMALLEST = 16  # voxels per axis


class VoxelMask(nn.Module):
    """Sets voxels outside of `mask` (C, Z, Y, X) to 0. All are inside at first."""

    mask: torch.Tensor

    def __init__(self, in_channels: int, input_size_voxels: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("mask", torch.ones(in_channels, *input_size_voxels, dtype=torch.bool))

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        return x_bczyx * self.mask


class VoxelWeights(nn.Module):
    """Weighted sums over all voxels of all channels; in float32 as all heads: millions of products lose no digits."""

    def __init__(self, in_channels: int, num_outputs: int, input_size_voxels: Sequence[int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_outputs, in_channels, *input_size_voxels))
        self.bias = nn.Parameter(torch.zeros(num_outputs))
        nn.init.normal_(self.weight, std=self.weight[0].numel() ** -0.5)

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        return torch.addmm(self.bias, x_bczyx.flatten(1), self.weight.flatten(1).T)

    def pool(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        """What pre-training and probes take as features: the mean of each channel, (B, C)."""
        return SpatialMean()(x_bczyx)


def linear(in_channels: int, num_outputs: int, input_size_voxels: Sequence[int] = (128, 128, 128)) -> Classifier:
    """Build a linear model with fresh weights.

    Args:
        in_channels: modalities of a scan.
        num_outputs: logits, or 1 for a number.
        input_size_voxels: (Z, Y, X) it will be fed.

    Raises:
        SettingsError: the input is too small.
    """
    require_input_size("linear", input_size_voxels, smallest=SMALLEST)
    return Classifier(
        VoxelMask(in_channels, input_size_voxels), VoxelWeights(in_channels, num_outputs, input_size_voxels)
    )
