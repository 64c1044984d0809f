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
response is divided by its mean over channels, as in ConvNeXt V2; a reading of MedNeXt-v2 that divides by the sum
instead differs by a constant factor, which the learned gamma takes up.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from monai.networks.blocks import MedNeXtBlock, MedNeXtDownBlock
from torch import nn

from adnext_plugin.networks.classifier import Classifier, SpatialMean, require_input_size


class MedNeXtEncoder(nn.Sequential):
    """Stem and levels, (B, C, Z, Y, X) to (B, width · 2^(levels - 1)): all layers in a row, and the mean over space.

    Args:
        in_channels: modalities of a scan.
        width: channels of the first level.
        depths: blocks of each level; the last may have none.
        expansions: how many times wider the blocks of each level are inside.
        kernel_size: of the depthwise convolutions.
        response_norm: whether blocks have global response norm.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        depths: Sequence[int],
        expansions: Sequence[int],
        kernel_size: int,
        response_norm: bool,
    ) -> None:
        options: dict[str, Any] = {
            "kernel_size": kernel_size,
            "use_residual_connection": True,
            "global_resp_norm": response_norm,
        }
        layers: list[nn.Module] = [nn.Conv3d(in_channels, width, kernel_size=1)]
        for level, (depth, expansion) in enumerate(zip(depths, expansions, strict=True)):
            if level:
                layers.append(MedNeXtDownBlock(width, 2 * width, expansion, **options))
                width *= 2
            layers += [MedNeXtBlock(width, width, expansion, **options) for _ in range(depth)]
        super().__init__(*layers, SpatialMean())
        self.level_widths = tuple(width // 2**above for above in reversed(range(len(depths))))
        self.level_strides = tuple(2**level for level in range(len(depths)))

    def levels(self, x_bczyx: torch.Tensor) -> list[torch.Tensor]:
        """Features (B, C, Z, Y, X) of every level, the finest first."""
        found, x = [], x_bczyx
        for layer in self:
            if isinstance(layer, MedNeXtDownBlock | SpatialMean):
                found.append(x)
            x = layer(x)
        return found


def build(
    name: str,
    width: int,
    depths: Sequence[int],
    expansions: Sequence[int],
    kernel_size: int,
    response_norm: bool,
    in_channels: int,
    num_outputs: int,
    input_size_voxels: Sequence[int] = (128, 128, 128),
) -> Classifier:
    """Build a MedNeXt classifier with fresh weights.

    Args:
        name: what errors call it.
        width, depths, expansions, kernel_size, response_norm: see `MedNeXtEncoder`.
        in_channels: modalities of a scan.
        num_outputs: logits.
        input_size_voxels: (Z, Y, X) it will be fed; halved before each level but the first, rounding up.

    Raises:
        SettingsError: the input is too small.
    """
    # the last level must keep more than a voxel, or its norm would erase what is there
    require_input_size(name, input_size_voxels, smallest=2 ** (len(depths) - 1) + 1)
    encoder = MedNeXtEncoder(in_channels, width, depths, expansions, kernel_size, response_norm)
    return Classifier(encoder, nn.Linear(width * 2 ** (len(depths) - 1), num_outputs))


_B = ((2, 2, 2, 2, 0), (2, 3, 4, 4, 4))
_M = ((3, 4, 4, 4, 4), (2, 3, 4, 4, 4))
_L = ((3, 4, 8, 8, 8), (3, 4, 8, 8, 8))
# Parameters are for one channel and two outputs
mednext_b_k3 = partial(build, "mednext_b_k3", 32, *_B, 3, False)  # 2,636,194
mednext_b_k5 = partial(build, "mednext_b_k5", 32, *_B, 5, False)  # 2,777,314
mednext_m_k3 = partial(build, "mednext_m_k3", 32, *_M, 3, False)  # encoder 12,491,712
mednext_l_k3 = partial(build, "mednext_l_k3", 32, *_L, 3, False)  # encoder 46,752,320
mednext_v2 = partial(build, "mednext_v2", 32, *_L, 3, True)  # 46,878,082
mednext_v2_wide = partial(build, "mednext_v2_wide", 64, *_L, 3, True)  # 186,637,058
