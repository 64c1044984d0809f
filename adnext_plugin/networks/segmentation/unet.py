"""The decoder of a U-Net on any encoder that gives its levels.

    levels of the encoder
      finer levels   where the encoder's finest is coarser than the scan: convolutions of the scan itself
      decoder        networks.layers.unet_decoder, two convolutions a level, with skips

On a U-Net's encoder this is the U-Net that AMAES fine-tunes, on a MedNeXt's its MedNeXt (Munk et al. 2024).
AD-NeXt's finest level has an eighth of a scan's voxels along each edge cut by four; its decoder could not see an edge
without the finer levels. They are our own addition, as SwinUNETR has one at full resolution.
"""

from collections.abc import Sequence

import torch
from torch import nn

from adnext_plugin.networks.layers.unet_decoder import NARROWEST, UNetDecoder, convolution_blocks
from adnext_plugin.networks.recomputation import MayRecompute
from adnext_plugin.networks.segmentation.segmenter import SegmentationDecoder

CONVOLUTIONS = 2  # a level


class FinerLevels(MayRecompute):
    """Levels of the scan itself that are finer than an encoder's finest, each half as wide as the next.

    Args:
        in_channels: of the scan.
        width, stride: of the encoder's finest level.
    """

    def __init__(self, in_channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.widths: list[int] = []
        self.strides: list[int] = []
        while stride > 1:
            width, stride = max(width // 2, NARROWEST), stride // 2
            self.widths.insert(0, width)
            self.strides.insert(0, stride)
        seen = [in_channels, *self.widths]
        self.levels = nn.ModuleList(
            convolution_blocks(CONVOLUTIONS, seen[level], wide, stride=2 if level else 1)
            for level, wide in enumerate(self.widths)
        )

    def forward(self, scan_bczyx: torch.Tensor) -> list[torch.Tensor]:
        found, x = [], scan_bczyx
        for level in self.levels:
            x = self.through(level, x)
            found.append(x)
        return found


class UNetSegmentationDecoder(SegmentationDecoder):
    """A U-Net's decoder, all of which begins afresh.

    Args:
        widths, strides: of the encoder's levels, the finest first.
        in_channels: of the scan.
        num_outputs: classes, background among them.
    """

    def __init__(self, widths: Sequence[int], strides: Sequence[int], in_channels: int, num_outputs: int) -> None:
        super().__init__()
        finer = FinerLevels(in_channels, widths[0], strides[0])
        self.seg_layers = nn.ModuleDict(
            {
                "finer": finer,
                "decoder": UNetDecoder(
                    [*finer.widths, *widths], [*finer.strides, *strides], num_outputs, CONVOLUTIONS, skips=True
                ),
            }
        )

    def forward(self, levels: Sequence[torch.Tensor], scan_bczyx: torch.Tensor) -> torch.Tensor:
        return self.seg_layers["decoder"]([*self.seg_layers["finer"](scan_bczyx), *levels])
