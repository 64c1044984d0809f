"""Fully convolutional masked autoencoder: predict the masked patches of a scan from the visible ones.

    scan (B, C, Z, Y, X), visible patches (B, gz, gy, gx)
      encoder    sees visible patches only
      bridge     Linear to the decoder's width; masked positions become one learned token
      decoder    one AD-NeXt block over the whole grid
      predict    Linear to the voxels of each masked patch

Source: Woo et al. 2023 (ConvNeXt V2), section 3.1; AD-NeXt, section 3.2. With one channel and a decoder of width 128 it
has 5.18, 8.15, 28.83 and 75.72 M parameters for AD-NeXt-T, S, B and L.
"""

import math

import torch
from torch import nn

from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.families.adnext import ADNeXtEncoder, Block, Init, initialise
from adnext_plugin.networks.layers.stems import PatchStem
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.pretraining.masked_autoencoder.options import FCMAEOptions
from adnext_plugin.pretraining.masked_autoencoder.sparse.backends import Encode, encode_with
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_depthwise import Way
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_patches import VisiblePatches
from adnext_plugin.pretraining.masks import (
    TOTAL_STRIDE,
    Positions,
    join_patches,
    mask_voxels,
    patch_grid,
    positions_of,
    split_into_patches,
    visible_count,
)

EPS = 1e-6
DEFAULT_WAYS: tuple[Way, ...] = ("halo", "scatter", "scatter", "scatter")


class FCMAE(nn.Module):
    """The autoencoder around an AD-NeXt encoder.

    Args:
        encoder: with a drop-path rate of 0.
        in_channels: C of the scans.
        decoder_width: channels of the decoder.
        encode: how to encode what is visible.
        init: of all weights, see `initialise`.
        visible_each: visible patches that every sample has; says how many there are in a mask on a GPU, which is not
            asked. Masks on the CPU may have any number.
    """

    key_to_encoder = "encoder"
    key_to_stem = "encoder.stem"

    def __init__(
        self,
        encoder: ADNeXtEncoder,
        in_channels: int,
        decoder_width: int,
        encode: Encode,
        init: Init = "paper",
        visible_each: int | None = None,
    ) -> None:
        super().__init__()
        last = encoder.blocks()[-1][0]
        self.encoder = encoder
        self.bridge = nn.Linear(encoder.width, decoder_width)
        self.mask_token = nn.Parameter(torch.zeros(decoder_width))
        self.decoder = Block(decoder_width, last.depthwise.conv.kernel_size[0], drop_path_rate=0.0)
        # a masked patch of 64³ voxels has 2³ tokens, each of which predicts its own 32³
        self.predict = nn.Linear(decoder_width, in_channels * TOTAL_STRIDE**3)
        self.encode, self._visible_each = encode, visible_each
        initialise(self, init)
        nn.init.normal_(self.mask_token, std=0.02)
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, images_bczyx: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Predict what is masked.

        Args:
            images_bczyx: scans.
            visible: (B, gz, gy, gx), True where a patch is visible.

        Returns:
            (M, C · 32³) voxels of the masked tokens, in the order of `masked_voxels`.
        """
        each = None if visible.device.type == "cpu" else self._visible_each
        patches = VisiblePatches(visible, images_bczyx.device, each)
        seen = self.bridge(self.encode(self.encoder, images_bczyx, patches))
        masked = ~mask_voxels(visible, seen.shape[1:4])
        is_masked = masked.unsqueeze(-1).to(seen.device, non_blocking=True)
        filled = torch.where(is_masked, self.mask_token.to(seen.dtype), seen)
        tokens_of_patch = masked[0].numel() // visible[0].numel()
        hidden = None if each is None else masked.numel() - patches.count * tokens_of_patch
        return self.predict(self.decoder(filled)[positions_of(masked, seen.device, hidden)])


def masked_voxels(images_bczyx: torch.Tensor, visible: torch.Tensor, *, normalise: bool) -> torch.Tensor:
    """What is to be predicted, (M, C · 32³).

    Args:
        images_bczyx: scans.
        visible: (B, gz, gy, gx).
        normalise: bring each token's voxels to mean 0 and variance 1 (unbiased, eps 1e-6).
    """
    tokens, masked = _tokens(images_bczyx, visible)
    voxels = tokens[masked].flatten(1)
    if not normalise:
        return voxels
    variance, mean = torch.var_mean(voxels, dim=1, keepdim=True)
    return (voxels - mean) / (variance + EPS).sqrt()


@torch.no_grad()
def reconstruct(network: FCMAE, images_bczyx: torch.Tensor, visible: torch.Tensor, *, normalised: bool) -> torch.Tensor:
    """Scans whose masked voxels are the network's prediction.

    Args:
        network: a trained autoencoder.
        images_bczyx: scans.
        visible: (B, gz, gy, gx).
        normalised: the network predicts normalised voxels; they are given back each token's true mean and variance.
    """
    tokens, masked = _tokens(images_bczyx, visible)
    predicted = network(images_bczyx, visible).float()
    if normalised:
        variance, mean = torch.var_mean(tokens[masked].flatten(1), dim=1, keepdim=True)
        predicted = predicted * (variance + EPS).sqrt() + mean
    rebuilt = tokens.clone()
    rebuilt[masked] = predicted.view(-1, *tokens.shape[4:])
    return join_patches(rebuilt)


def build_encoder(
    settings: NetworkSettings, in_channels: int, input_size_voxels: tuple[int, int, int]
) -> ADNeXtEncoder:
    """The encoder of a registered network, without dropped residual branches.

    Raises:
        SettingsError: the network is not an AD-NeXt.
    """
    options = {**settings.options, "drop_path_rate": 0.0}
    try:
        network = build_network(NetworkSettings(name=settings.name, options=options), in_channels, 2, input_size_voxels)
    except SettingsError as error:
        if "drop_path_rate" not in str(error):
            raise
        network = None
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, ADNeXtEncoder):
        raise SettingsError(f"network {settings.name!r} is not an AD-NeXt; only those can be pre-trained this way")
    if not isinstance(encoder.stem, PatchStem):
        raise SettingsError("stem 'convolutional' looks across the edges of masked patches; pre-train with 'patch'")
    return encoder


def build_fcmae(
    network: NetworkSettings,
    options: FCMAEOptions,
    in_channels: int,
    input_size_voxels: tuple[int, int, int],
) -> FCMAE:
    """Build the autoencoder around a registered network's encoder, with fresh weights.

    Raises:
        SettingsError: the network cannot be pre-trained this way, or patches do not fit the input.
    """
    grid = patch_grid(input_size_voxels, options.patch_size_voxels)
    encoder = build_encoder(network, in_channels, input_size_voxels)
    encode = encode_with(options.sparse_backend, options.sparse_convolution or DEFAULT_WAYS)
    each = visible_count(math.prod(grid), options.mask_ratio)
    return FCMAE(encoder, in_channels, options.decoder_width, encode, network.options.get("init", "paper"), each)


def _tokens(images_bczyx: torch.Tensor, visible: torch.Tensor) -> tuple[torch.Tensor, Positions]:
    """Scans as (B, Z/32, Y/32, X/32, C, 32, 32, 32), and which of these are masked."""
    cells = [size // TOTAL_STRIDE for size in images_bczyx.shape[2:]]
    return split_into_patches(images_bczyx, cells), positions_of(~mask_voxels(visible, cells), images_bczyx.device)
