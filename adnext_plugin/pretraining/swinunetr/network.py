"""MONAI's Swin encoder with three heads.

    scan → encoder → deepest level (B, 768, Z/32, Y/32, X/32)
      rotation         Linear on its first token
      contrast         Linear on its second token
      reconstruction   five times convolution, instance norm, leaky ReLU, twice the resolution; then 1³ convolution

That rotation and contrast each look at one token, and not at all, is the code's own oddity, and is kept.

Source: Tang et al. 2022, CVPR (SwinUNETR), code of Project MONAI.
"""

from typing import NamedTuple, cast

import torch
from torch import nn

from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.families.swin_unetr import SwinUNETREncoder
from adnext_plugin.networks.pyramid import Pyramid
from adnext_plugin.plan import NetworkSettings

QUARTER_TURNS = 4
CONTRAST_WIDTH = 512


class Answers(NamedTuple):
    """Logits of the turns (B, 4), projections (B, 512), and scans (B, C, Z, Y, X)."""

    turns: torch.Tensor
    projections: torch.Tensor
    scans: torch.Tensor


class ThreeHeads(nn.Module):
    """The encoder with its heads.

    Args:
        encoder: of SwinUNETR.
        channels: of the scans.
    """

    key_to_encoder = "encoder"

    def __init__(self, encoder: nn.Module, channels: int) -> None:
        super().__init__()
        self.encoder = encoder
        width = cast(Pyramid, encoder).level_widths[-1]
        self.rotation = nn.Linear(width, QUARTER_TURNS)
        self.contrast = nn.Linear(width, CONTRAST_WIDTH)
        layers: list[nn.Module] = []
        for narrower in (width // 2, width // 4, width // 8, width // 16, width // 16):
            layers += [nn.Conv3d(width, narrower, 3, padding=1), nn.InstanceNorm3d(narrower), nn.LeakyReLU()]
            layers.append(nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False))
            width = narrower
        self.reconstruction = nn.Sequential(*layers, nn.Conv3d(width, channels, 1))

    def forward(self, images_bczyx: torch.Tensor) -> Answers:
        deepest = cast(Pyramid, self.encoder).levels(images_bczyx)[-1]
        tokens = deepest.flatten(2)
        return Answers(self.rotation(tokens[..., 0]), self.contrast(tokens[..., 1]), self.reconstruction(deepest))


def build_three_heads(network: NetworkSettings, in_channels: int, size_voxels: tuple[int, int, int]) -> ThreeHeads:
    """Build them around a registered network's encoder, with fresh weights.

    Raises:
        SettingsError: the network is not SwinUNETR's encoder, or the input leaves it one token.
    """
    encoder = getattr(build_network(network, in_channels, 2, size_voxels), "encoder", None)
    if not isinstance(encoder, SwinUNETREncoder):
        raise SettingsError(
            f"network {network.name!r} is not the encoder of SwinUNETR; pre-train swin_unetr_48 this way"
        )
    if max(size_voxels) < 2 * encoder.level_strides[-1]:
        raise SettingsError(
            f"an input of {list(size_voxels)} voxels leaves one token, where rotation and contrast need two; plan "
            f"again with an --input-size of at least {2 * encoder.level_strides[-1]} along one axis"
        )
    return ThreeHeads(encoder, in_channels)
