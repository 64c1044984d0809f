"""The decoder of MedNeXt-v2: its encoder backwards, and logits at every level if they are wanted.

    levels of the encoder
      each time  a block that doubles the resolution, the encoder's level added, blocks
      output     1³ transposed convolution; with deep supervision also of coarser levels, the bottleneck among them

A block that leads up expands as much as the level it leads to, as those that lead down do.
Source: Roy et al. 2023 (MedNeXt) and 2025 (MedNeXt-v2), their networks for segmentation.
"""

from collections.abc import Sequence
from typing import cast

import torch
from monai.networks.blocks import MedNeXtOutBlock
from torch import nn

from adnext_plugin.networks.families.mednext import MedNeXtEncoder
from adnext_plugin.networks.segmentation.segmenter import Logits, SegmentationDecoder


class MedNeXtSegmentationDecoder(SegmentationDecoder):
    """Its levels are handed on from segmentation to segmentation; only what gives logits begins afresh.

    Args:
        encoder: whose levels are decoded.
        num_outputs: classes, background among them.
        all_levels: whether coarser levels have outputs of their own, for deep supervision.
    """

    def __init__(self, encoder: MedNeXtEncoder, num_outputs: int, *, all_levels: bool) -> None:
        super().__init__()
        widths, blocks = encoder.level_widths, encoder.blocks
        finer = range(len(widths) - 1)
        self.up = nn.ModuleList(blocks.up(widths[level + 1], encoder.expansions[level]) for level in finer)
        self.levels = nn.ModuleList(
            nn.ModuleList(blocks.level(widths[level], encoder.depths[level], encoder.expansions[level]))
            for level in finer
        )
        self.seg_layers = nn.ModuleList(
            MedNeXtOutBlock(width, num_outputs, "3d") for width in (widths if all_levels else widths[:1])
        )

    def forward(self, levels: Sequence[torch.Tensor], scan_bczyx: torch.Tensor) -> Logits:
        x = levels[-1]
        decoded = [x]
        for level in reversed(range(len(self.up))):
            x = self.through(self.up[level], x) + levels[level]
            for block in cast(nn.ModuleList, self.levels[level]):
                x = self.through(block, x)
            decoded.insert(0, x)
        if not self.deep_supervision:
            return self.seg_layers[0](x)
        return [output(features) for output, features in zip(self.seg_layers, decoded, strict=True)]
