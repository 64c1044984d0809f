"""The decoder of SwinUNETR, from MONAI's blocks, on our encoder of the same name.

Source: Hatamizadeh et al. 2022 (SwinUNETR); connections as in MONAI's `SwinUNETR`, whose results it gives with the same
weights.
"""

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.blocks import UnetOutBlock, UnetrBasicBlock, UnetrUpBlock
from torch import nn

from adnext_plugin.networks.segmentation.segmenter import SegmentationDecoder

DEEPEST = 4


class SwinUNETRSegmentationDecoder(SegmentationDecoder):
    """All of it begins afresh.

    Args:
        width: of the encoder's finest level.
        in_channels: of the scan.
        num_outputs: classes, background among them.
    """

    def __init__(self, width: int, in_channels: int, num_outputs: int) -> None:
        super().__init__()
        options: dict[str, Any] = {"spatial_dims": 3, "kernel_size": 3, "norm_name": "instance", "res_block": True}

        def seen_through(width_in: int, width_out: int) -> nn.Module:
            return UnetrBasicBlock(in_channels=width_in, out_channels=width_out, stride=1, **options)

        def up(width_in: int, width_out: int) -> nn.Module:
            return UnetrUpBlock(in_channels=width_in, out_channels=width_out, upsample_kernel_size=2, **options)

        self.seg_layers = nn.ModuleDict(
            {
                "scan": seen_through(in_channels, width),
                "skips": nn.ModuleList(seen_through(width * 2**level, width * 2**level) for level in range(3)),
                "deepest": seen_through(width * 2**DEEPEST, width * 2**DEEPEST),
                # the finest first; the last but one step keeps the width
                "up": nn.ModuleList([up(width, width), *(up(width * 2 ** (k + 1), width * 2**k) for k in range(4))]),
                "output": UnetOutBlock(spatial_dims=3, in_channels=width, out_channels=num_outputs),
            }
        )

    def forward(self, levels: Sequence[torch.Tensor], scan_bczyx: torch.Tensor) -> torch.Tensor:
        parts: Any = self.seg_layers
        skips = [
            self.through(parts["scan"], scan_bczyx),
            *(self.through(block, level) for block, level in zip(parts["skips"], levels, strict=False)),
            levels[3],  # as it is
        ]
        x = self.through(parts["deepest"], levels[DEEPEST])
        for up, skip in zip(reversed(parts["up"]), reversed(skips), strict=True):
            x = up(x, skip)
        return parts["output"](x)
