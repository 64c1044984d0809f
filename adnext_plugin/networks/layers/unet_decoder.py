"""From an encoder's levels back to the scan's own resolution: the decoder of a U-Net, with skips or without.

    levels of the encoder, the deepest last
      each time  a transposed convolution that doubles the resolution, the encoder's level beside it, convolutions
      output     1³ convolution

Each level of the decoder is as wide as the encoder's of the same resolution, as in a U-Net. Where an encoder has none,
above its finest, each level is half as wide as the one before.

Source: Munk et al. 2024 (AMAES), section 3.
"""

from collections.abc import Sequence

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks
from torch import nn

from adnext_plugin.networks.families.unet import LAYERS
from adnext_plugin.networks.recomputation import MayRecompute

NARROWEST = 8


class UNetDecoder(MayRecompute):
    """From an encoder's levels to (B, channels, Z, Y, X) at the scan's resolution.

    Args:
        widths, strides: of the encoder's levels, the finest first.
        channels: that come out.
        convolutions: of each level.
        skips: whether levels besides the deepest are seen.
    """

    def __init__(
        self, widths: Sequence[int], strides: Sequence[int], channels: int, convolutions: int, skips: bool
    ) -> None:
        super().__init__()
        self.skips = skips
        self._level_of = {stride: level for level, stride in enumerate(strides)}
        self.up, self.levels = nn.ModuleList(), nn.ModuleList()
        width, stride = widths[-1], strides[-1]
        self._strides: list[int] = []
        while stride > 1:
            stride //= 2
            level = self._level_of.get(stride)
            narrower = max(width // 2, NARROWEST) if level is None else widths[level]
            self.up.append(nn.ConvTranspose3d(width, narrower, kernel_size=2, stride=2))
            seen = narrower * (2 if skips and level is not None else 1)
            self.levels.append(convolution_blocks(convolutions, seen, narrower))
            self._strides.append(stride)
            width = narrower
        self.output = nn.Conv3d(width, channels, kernel_size=1)

    def forward(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        x = levels[-1]
        for stride, up, level in zip(self._strides, self.up, self.levels, strict=True):
            x = up(x)
            if self.skips and stride in self._level_of:
                x = torch.cat([x, levels[self._level_of[stride]]], dim=1)
            x = self.through(level, x)
        return self.output(x)


def convolution_blocks(count: int, width_in: int, width_out: int, stride: int = 1) -> nn.Module:
    """So many 3³ convolutions, each with instance norm and leaky ReLU; the first may halve each axis."""
    return StackedConvBlocks(
        count, input_channels=width_in, output_channels=width_out, kernel_size=3, initial_stride=stride, **LAYERS
    )
