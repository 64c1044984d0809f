"""Encoders of MedNeXt and MedNeXt-v2 as classifiers, put together from MONAI's blocks.

    scan (B, C, Z, Y, X)
      stem         1³ convolution to the first width
      levels       residual blocks; between two levels a block of stride 2 doubles the width
      head         mean over space, Linear

A block that leads down expands as much as the level it leads to. MONAI's ready-made MedNeXt takes the level above
instead, which makes another network.

Source: Roy et al. 2023 (MedNeXt); AD-NeXt is compared with its B encoder (Table 4), without blocks at the bottleneck.
AMAES (Munk et al. 2024) pre-trains the M and L encoders, with their bottleneck.
MedNeXt-v2 (2025) adds global response norm to every block; its widths are followed as far as they are published. The
response is divided by its mean over channels, as in ConvNeXt V2, or by the sum, as some read MedNeXt-v2's formula.
"""

from collections.abc import Sequence
from functools import partial

import torch
from monai.networks.blocks import MedNeXtBlock, MedNeXtDownBlock
from torch import nn

from adnext_plugin.networks.classifier import Classifier, SpatialMean, require_input_size
from adnext_plugin.networks.layers.mednext_blocks import Block, MedNeXtBlocks, ResponseNormaliser
from adnext_plugin.networks.recomputation import MayRecompute


class MedNeXtEncoder(MayRecompute, nn.Sequential):
    """Stem and levels, (B, C, Z, Y, X) to (B, width · 2^(levels - 1)): all layers in a row, and the mean over space.

    Args:
        in_channels: modalities of a scan.
        width: channels of the first level.
        depths: blocks of each level; the last may have none.
        expansions: how many times wider the blocks of each level are inside.
        blocks: what they are like.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        depths: Sequence[int],
        expansions: Sequence[int],
        blocks: MedNeXtBlocks,
    ) -> None:
        layers: list[nn.Module] = [nn.Conv3d(in_channels, width, kernel_size=1)]
        for level, (depth, expansion) in enumerate(zip(depths, expansions, strict=True)):
            if level:
                layers.append(blocks.down(width, expansion))
                width *= 2
            layers += blocks.level(width, depth, expansion)
        super().__init__(*layers, SpatialMean())
        # what a decoder must be like to fit
        self.depths, self.expansions, self.blocks = tuple(depths), tuple(expansions), blocks
        self.level_widths = tuple(width // 2**above for above in reversed(range(len(depths))))
        self.level_strides = tuple(2**level for level in range(len(depths)))

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        for layer in self:
            x_bczyx = self._passed(layer, x_bczyx)
        return x_bczyx

    def levels(self, x_bczyx: torch.Tensor) -> list[torch.Tensor]:
        """Features (B, C, Z, Y, X) of every level, the finest first."""
        found, x = [], x_bczyx
        for layer in self:
            if isinstance(layer, MedNeXtDownBlock | SpatialMean):
                found.append(x)
            x = self._passed(layer, x)
        return found

    def convolutions(self) -> list[list[Block]]:
        """The blocks of every level that keep its resolution, each with its depthwise convolution."""
        found: list[list[Block]] = [[]]
        for layer in self:
            if isinstance(layer, MedNeXtDownBlock):
                found.append([])
            elif isinstance(layer, Block):
                found[-1].append(layer)
        return found

    def _passed(self, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return self.through(layer, x) if isinstance(layer, MedNeXtBlock) else layer(x)


def build(
    name: str,
    width: int,
    depths: Sequence[int],
    expansions: Sequence[int],
    blocks: MedNeXtBlocks,
    in_channels: int,
    num_outputs: int,
    input_size_voxels: Sequence[int] = (128, 128, 128),
) -> Classifier:
    """Build a MedNeXt classifier with fresh weights.

    Args:
        name: what errors call it.
        width, depths, expansions, blocks: see `MedNeXtEncoder`.
        in_channels: modalities of a scan.
        num_outputs: logits.
        input_size_voxels: (Z, Y, X) it will be fed; halved before each level but the first, rounding up.

    Raises:
        SettingsError: the input is too small.
    """
    # the last level must keep more than a voxel, or its norm would erase what is there
    require_input_size(name, input_size_voxels, smallest=2 ** (len(depths) - 1) + 1)
    encoder = MedNeXtEncoder(in_channels, width, depths, expansions, blocks)
    return Classifier(encoder, nn.Linear(width * 2 ** (len(depths) - 1), num_outputs))


def build_v2(
    name: str,
    width: int,
    in_channels: int,
    num_outputs: int,
    input_size_voxels: Sequence[int] = (128, 128, 128),
    *,
    grn_normaliser: ResponseNormaliser = "mean",
) -> Classifier:
    """Build a MedNeXt-v2 classifier with fresh weights.

    Args:
        name, width, in_channels, num_outputs, input_size_voxels: as of `build`.
        grn_normaliser: what a response is divided by, the `mean` of all channels or their `sum`.

    Raises:
        SettingsError: the input is too small, or there is no such normaliser.
    """
    blocks = MedNeXtBlocks(kernel_size=3, response_norm=grn_normaliser)
    return build(name, width, *_L, blocks, in_channels, num_outputs, input_size_voxels)


_B = ((2, 2, 2, 2, 0), (2, 3, 4, 4, 4))
_M = ((3, 4, 4, 4, 4), (2, 3, 4, 4, 4))
_L = ((3, 4, 8, 8, 8), (3, 4, 8, 8, 8))
_K3, _K5 = MedNeXtBlocks(kernel_size=3), MedNeXtBlocks(kernel_size=5)
# Parameters are for one channel and two outputs
mednext_b_k3 = partial(build, "mednext_b_k3", 32, *_B, _K3)  # 2,636,194
mednext_b_k5 = partial(build, "mednext_b_k5", 32, *_B, _K5)  # 2,777,314
mednext_m_k3 = partial(build, "mednext_m_k3", 32, *_M, _K3)  # encoder 12,491,712
mednext_l_k3 = partial(build, "mednext_l_k3", 32, *_L, _K3)  # encoder 46,752,320
mednext_v2 = partial(build_v2, "mednext_v2", 32)  # 46,878,082
mednext_v2_wide = partial(build_v2, "mednext_v2_wide", 64)  # 186,637,058
