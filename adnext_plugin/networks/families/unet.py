"""Encoders of U-Nets as classifiers, from the blocks of nnU-Net's own library.

    scan (B, C, Z, Y, X)
      levels       convolutions, instance norm, leaky ReLU; between two levels each axis is halved
      head         mean over space of the deepest level, Linear

`unet_b` and `unet_xl` are those of AMAES (Munk et al. 2024): five levels of two convolutions, max pooling in between.
`resenc_l` is the encoder of nnU-Net's ResEnc-L (Isensee et al. 2024), with six levels of residual blocks.

The tensors of an encoder are named as in nnU-Net, each of them twice, as there, so that nnU-Net's own networks can take
them over.
"""

from collections.abc import Sequence
from functools import partial

from dynamic_network_architectures.building_blocks.plain_conv_encoder import PlainConvEncoder
from dynamic_network_architectures.building_blocks.residual_encoders import ResidualEncoder
from torch import nn

from adnext_plugin.networks.classifier import Classifier, require_input_size
from adnext_plugin.networks.pyramid import PooledStages

LAYERS = {
    "conv_op": nn.Conv3d,
    "conv_bias": True,
    "norm_op": nn.InstanceNorm3d,
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin": nn.LeakyReLU,
    "nonlin_kwargs": {"negative_slope": 0.01, "inplace": True},
}
UNET_LEVELS = 5
RESENC_L_WIDTHS = (32, 64, 128, 256, 320, 320)
RESENC_L_BLOCKS = (1, 3, 4, 6, 6, 6)


class UNetEncoder(PooledStages, PlainConvEncoder):
    """Levels of two convolutions each, max pooling in between."""

    def __init__(self, in_channels: int, width: int) -> None:
        widths = [width * 2**level for level in range(UNET_LEVELS)]
        PlainConvEncoder.__init__(
            self,
            in_channels,
            n_stages=UNET_LEVELS,
            features_per_stage=widths,
            kernel_sizes=3,
            strides=[1, *[2] * (UNET_LEVELS - 1)],
            n_conv_per_stage=2,
            pool="max",
            **LAYERS,
        )
        self.level_widths, self.level_strides = tuple(widths), _strides(UNET_LEVELS)


class ResEncLEncoder(PooledStages, ResidualEncoder):
    """Levels of residual blocks, the first of each but the finest with stride 2."""

    def __init__(self, in_channels: int) -> None:
        levels = len(RESENC_L_WIDTHS)
        ResidualEncoder.__init__(
            self,
            in_channels,
            n_stages=levels,
            features_per_stage=RESENC_L_WIDTHS,
            kernel_sizes=3,
            strides=[1, *[2] * (levels - 1)],
            n_blocks_per_stage=RESENC_L_BLOCKS,
            **LAYERS,
        )
        self.level_widths, self.level_strides = RESENC_L_WIDTHS, _strides(levels)


def build_unet(
    name: str,
    width: int,
    in_channels: int,
    num_outputs: int,
    input_size_voxels: Sequence[int] = (128, 128, 128),
) -> Classifier:
    """Build the encoder of an AMAES U-Net as a classifier, with fresh weights.

    Args:
        name: what errors call it.
        width: channels of the first level.
        in_channels: modalities of a scan.
        num_outputs: logits.
        input_size_voxels: (Z, Y, X) it will be fed; halved before each level but the first, rounding down.

    Raises:
        SettingsError: the input is too small.
    """
    # the last level must keep more than a voxel, or its norm would erase what is there
    require_input_size(name, input_size_voxels, smallest=2**UNET_LEVELS)
    return Classifier(UNetEncoder(in_channels, width), nn.Linear(width * 2 ** (UNET_LEVELS - 1), num_outputs))


def resenc_l(in_channels: int, num_outputs: int, input_size_voxels: Sequence[int] = (160, 160, 160)) -> Classifier:
    """Build the encoder of nnU-Net's ResEnc-L as a classifier, with fresh weights.

    Args:
        in_channels: modalities of a scan.
        num_outputs: logits.
        input_size_voxels: (Z, Y, X) it will be fed; halved before each level but the first.

    Raises:
        SettingsError: the input is too small, or cannot be halved so often.
    """
    coarsest = 2 ** (len(RESENC_L_WIDTHS) - 1)
    require_input_size("resenc_l", input_size_voxels, smallest=2 * coarsest, multiple=coarsest)
    return Classifier(ResEncLEncoder(in_channels), nn.Linear(RESENC_L_WIDTHS[-1], num_outputs))


# Parameters of the encoder, for one channel
unet_b = partial(build_unet, "unet_b", 32)  # 14,134,944
unet_xl = partial(build_unet, "unet_xl", 64)  # 56,526,144


def _strides(levels: int) -> tuple[int, ...]:
    return tuple(2**level for level in range(levels))
