"""SimMIM and MAE around a registered network's encoder.

    SimMIM   patches → embeddings, masked ones replaced by one learned token → encoder → Linear to voxels
    MAE      patches → embeddings and positions, visible ones alone → encoder → decoder on all → Linear to voxels

Sources: Xie et al. 2022, CVPR (SimMIM); Dhinagar et al. 2023 (its use for brain scans); He et al. 2022, CVPR (MAE).
"""

import math
from collections.abc import Sequence
from typing import cast

import torch
from monai.networks.blocks.pos_embed_utils import build_sincos_position_embedding
from torch import nn

from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.families.vit import ViTEncoder
from adnext_plugin.networks.layers.tokens import to_volume
from adnext_plugin.networks.layers.transformer import transformer_blocks
from adnext_plugin.networks.token_encoder import TokenEncoder
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.pretraining.masked_tokens.options import MAEOptions, SimMIMOptions
from adnext_plugin.pretraining.masks import join_patches, mask_voxels, positions_of, token_grid, visible_count

LIGHT_WIDTH = 16  # of MONAI's ViTAutoEnc between its two transposed convolutions
Size = tuple[int, int, int]


class SimMIM(nn.Module):
    """An encoder that sees all tokens, masked ones as one learned token, and a decoder to voxels.

    Args:
        encoder: takes tokens.
        channels: of the scans.
        decoder: `linear`, or `vitautoenc`.
    """

    key_to_encoder = "encoder"

    def __init__(self, encoder: nn.Module, channels: int, decoder: str) -> None:
        super().__init__()
        self.encoder = encoder
        tokens = cast(TokenEncoder, encoder)
        self.mask_token = nn.Parameter(torch.zeros(tokens.token_width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.decoder: nn.Module
        if decoder == "linear":
            self.decoder = ToVoxels(tokens.width, channels, tokens.cell_voxels)
        else:
            self.decoder = nn.Sequential(
                _ToVolume(),
                nn.ConvTranspose3d(tokens.width, LIGHT_WIDTH, kernel_size=4, stride=4),
                nn.ConvTranspose3d(LIGHT_WIDTH, channels, kernel_size=4, stride=4),
            )

    def forward(self, images_bczyx: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Scans (B, C, Z, Y, X) as they are predicted from their visible blocks (B, gz, gy, gx)."""
        encoder = cast(TokenEncoder, self.encoder)
        tokens = encoder.patches(images_bczyx)
        seen = mask_voxels(visible, tokens.shape[1:4]).unsqueeze(-1)
        return self.decoder(encoder.encode_grid(torch.where(seen, tokens, self.mask_token.to(tokens.dtype))))


class MAE(nn.Module):
    """A ViT that sees visible tokens alone, and a decoder that sees all.

    Args:
        encoder: the ViT.
        channels: of the scans.
        grid: tokens along z, y and x.
        options: of the decoder.
        visible_each: visible tokens that every scan has; says how many there are in a mask on a GPU, which is not
            asked. Masks on the CPU may have any number.
    """

    key_to_encoder = "encoder"
    positions: torch.Tensor

    def __init__(self, encoder: ViTEncoder, channels: int, grid: Size, options: MAEOptions, visible_each: int) -> None:
        super().__init__()
        self.encoder = encoder
        self._visible_each = visible_each
        width = options.decoder_width
        self.bridge = nn.Linear(encoder.width, width)
        self.mask_token = nn.Parameter(torch.zeros(width))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        # fixed, and so no parameter; made on the CPU wherever the network is
        positions = build_sincos_position_embedding(list(grid), width, 3).detach()
        self.register_buffer("positions", positions, persistent=False)
        self.blocks = transformer_blocks(
            options.decoder_depth,
            width,
            options.decoder_mlp_width,
            options.decoder_heads,
            dropout_rate=0.0,
            qkv_bias=True,
        )
        self.norm = nn.LayerNorm(width)
        self.predict = ToVoxels(width, channels, encoder.cell_voxels)

    def forward(self, images_bczyx: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        """Scans (B, C, Z, Y, X) as they are predicted from their visible blocks (B, gz, gy, gx)."""
        tokens = self.encoder.patches(images_bczyx)
        batch, *grid, _ = tokens.shape
        is_seen = mask_voxels(visible, grid).flatten(1)
        seen = positions_of(
            is_seen, tokens.device, None if is_seen.device.type == "cpu" else batch * self._visible_each
        )
        placed = self.encoder.place(tokens.flatten(1, 3))
        # every scan has as many visible tokens
        encoded = self.bridge(self.encoder.encode_tokens(placed[seen].view(batch, -1, placed.shape[-1])))
        filled = self.mask_token.to(encoded.dtype).repeat(batch, is_seen.shape[1], 1)
        filled[seen] = encoded.flatten(0, 1)
        x = filled + self.positions
        for block in self.blocks:
            x = block(x)
        return self.predict(self.norm(x).view(batch, *grid, -1))


class ToVoxels(nn.Module):
    """Tokens (B, gz, gy, gx, D) to the voxels that each stands for, (B, C, Z, Y, X)."""

    def __init__(self, width: int, channels: int, cell_voxels: Size) -> None:
        super().__init__()
        self._cell = (channels, *cell_voxels)
        z, y, x = cell_voxels
        self.linear = nn.Linear(width, channels * z * y * x)

    def forward(self, tokens_bzyxd: torch.Tensor) -> torch.Tensor:
        return join_patches(self.linear(tokens_bzyxd).view(*tokens_bzyxd.shape[:4], *self._cell))


class _ToVolume(nn.Module):
    def forward(self, tokens_bzyxd: torch.Tensor) -> torch.Tensor:
        return to_volume(tokens_bzyxd)


def build_simmim(network: NetworkSettings, options: SimMIMOptions, in_channels: int, size_voxels: Size) -> SimMIM:
    """Build SimMIM around a registered network's encoder, with fresh weights.

    Raises:
        SettingsError: the encoder takes no tokens, or its patches, the blocks and the input do not go together.
    """
    encoder = getattr(build_network(network, in_channels, 2, size_voxels), "encoder", None)
    if not isinstance(encoder, TokenEncoder):
        raise SettingsError(
            f"network {network.name!r} does not work on tokens that could be masked; pre-train a ViT or swin3d_t so"
        )
    _require_fit(network.name, encoder, options.token_voxels, size_voxels)
    if options.decoder == "vitautoenc" and tuple(encoder.cell_voxels) != (16, 16, 16):
        raise SettingsError(f"decoder 'vitautoenc' is for tokens of 16³ voxels; network {network.name!r} has others")
    return SimMIM(cast(nn.Module, encoder), in_channels, options.decoder)


def build_mae(network: NetworkSettings, options: MAEOptions, in_channels: int, size_voxels: Size) -> MAE:
    """Build MAE around a registered ViT's encoder, with fresh weights.

    Raises:
        SettingsError: the network is no ViT, or its patches, the blocks and the input do not go together.
    """
    encoder = getattr(build_network(network, in_channels, 2, size_voxels), "encoder", None)
    if not isinstance(encoder, ViTEncoder):
        raise SettingsError(
            f"network {network.name!r} is no ViT, whose tokens can be left out; pre-train vit_b16 or vit_small_mim so"
        )
    _require_fit(network.name, encoder, options.token_voxels, size_voxels)
    z, y, x = (edge // patch for edge, patch in zip(size_voxels, encoder.patch_voxels, strict=True))
    blocks = math.prod(token_grid(size_voxels, options.token_voxels))
    each = visible_count(blocks, options.mask_ratio) * (z * y * x // blocks)
    return MAE(encoder, in_channels, (z, y, x), options, each)


def _require_fit(name: str | None, encoder: TokenEncoder, token_voxels: int, size_voxels: Sequence[int]) -> None:
    if any(token_voxels % edge for edge in encoder.patch_voxels):
        raise SettingsError(
            f"token_voxels {token_voxels} is no multiple of the {list(encoder.patch_voxels)} voxels of a patch of "
            f"network {name!r}"
        )
    if any(size % cell for size, cell in zip(size_voxels, encoder.cell_voxels, strict=True)):
        raise SettingsError(
            f"network {name!r} ends in one token per {list(encoder.cell_voxels)} voxels, of which an input of "
            f"{list(size_voxels)} is no multiple; plan again with another --input-size"
        )
