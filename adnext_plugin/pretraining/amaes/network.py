"""An encoder that sees a scan with holes, and a decoder that leads back to the scan's own resolution.

    scan (B, C, Z, Y, X), 0 where it is masked
      encoder    of a registered network, any that gives its levels
      decoder    that of a U-Net

Source: Munk et al. 2024 (AMAES), section 3.
"""

from typing import cast

import torch
from torch import nn

from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.layers.unet_decoder import UNetDecoder
from adnext_plugin.networks.pyramid import Pyramid
from adnext_plugin.plan import NetworkSettings

CONVOLUTIONS = {"light": 1, "standard": 2}  # a level


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
        self.decoder = UNetDecoder(pyramid.level_widths, pyramid.level_strides, channels, convolutions, skips)

    def forward(self, images_bczyx: torch.Tensor, visible_bzyx: torch.Tensor) -> torch.Tensor:
        """Whole scans (B, C, Z, Y, X) from what is visible of some."""
        with_holes = images_bczyx * visible_bzyx.unsqueeze(1)
        return self.decoder(cast(Pyramid, self.encoder).levels(with_holes))


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
