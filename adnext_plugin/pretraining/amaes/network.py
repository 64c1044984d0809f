"""An encoder that sees a scan with holes, and a decoder that leads back to the scan's own resolution.

    scan (B, C, Z, Y, X), 0 where it is masked
      encoder    of a registered network, any that gives its levels
      decoder    doubles the resolution until it is the scan's; each time a transposed convolution, then convolutions
      output     1³ convolution

Each level of the decoder is as wide as the encoder's of the same resolution, as in a U-Net. Where an encoder
has none, above its finest, each level is half as wide as the one before.

Source: Munk et al. 2024 (AMAES), section 3.
"""

from collections.abc import Sequence
from typing import cast

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks
from torch import nn

from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.families.unet import LAYERS
from adnext_plugin.networks.pyramid import Pyramid
from adnext_plugin.plan import NetworkSettings

CONVOLUTIONS = {"light": 1, "standard": 2}  # a level
NARROWEST = 8


class MaskedRestorer(nn.Module):
    """An encoder and a decoder, from scans with holes to whole ones.

    Args:
        encoder: gives its levels.
        channels: of the scans.
        convolutions: of each level of the decoder.
        skips: whether the decoder is given the encoder's levels besides the deepest.
    """

    key_to_encoder = "encoder"

    def __init__(self, encoder: nn.Module, channels: int, convolutions: int, skips: bool) -> None:
        super().__init__()
        self.encoder = encoder
        pyramid = cast(Pyramid, encoder)
        self.decoder = Decoder(pyramid.level_widths, pyramid.level_strides, channels, convolutions, skips)

    def forward(self, images_bczyx: torch.Tensor, visible_bzyx: torch.Tensor) -> torch.Tensor:
        """Whole scans (B, C, Z, Y, X) from what is visible of some."""
        with_holes = images_bczyx * visible_bzyx.unsqueeze(1)
        return self.decoder(cast(Pyramid, self.encoder).levels(with_holes))


class Decoder(nn.Module):
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
            self.levels.append(_convolutions(convolutions, seen, narrower))
            self._strides.append(stride)
            width = narrower
        self.output = nn.Conv3d(width, channels, kernel_size=1)

    def forward(self, levels: Sequence[torch.Tensor]) -> torch.Tensor:
        x = levels[-1]
        for stride, up, level in zip(self._strides, self.up, self.levels, strict=True):
            x = up(x)
            if self.skips and stride in self._level_of:
                x = torch.cat([x, levels[self._level_of[stride]]], dim=1)
            x = level(x)
        return self.output(x)


def build_restorer(
    network: NetworkSettings, in_channels: int, size_voxels: tuple[int, int, int], decoder: str, skips: bool
) -> MaskedRestorer:
    """Build the restorer around a registered network's encoder, with fresh weights.

    Raises:
        SettingsError: the network gives no levels, or they do not fit the input.
    """
    encoder = getattr(build_network(network, in_channels, 2, size_voxels), "encoder", None)
    if not isinstance(encoder, Pyramid):
        raise SettingsError(
            f"the encoder of network {network.name!r} does not give its levels, so that no decoder can be put on it; "
            "pre-train a U-Net, a MedNeXt, ResEnc-L or an AD-NeXt this way"
        )
    coarsest = encoder.level_strides[-1]
    if any(edge % coarsest for edge in size_voxels):
        raise SettingsError(
            f"network {network.name!r} halves its input down to 1/{coarsest}, of which {list(size_voxels)} voxels are "
            f"no multiple; plan again with an --input-size of multiples of {coarsest}, or set patch_voxels"
        )
    return MaskedRestorer(cast(nn.Module, encoder), in_channels, CONVOLUTIONS[decoder], skips)


def _convolutions(count: int, width_in: int, width_out: int) -> nn.Module:
    return StackedConvBlocks(
        count, input_channels=width_in, output_channels=width_out, kernel_size=3, initial_stride=1, **LAYERS
    )
