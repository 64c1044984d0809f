"""Vision transformers on patches of 16³ voxels: MONAI's ViT, the encoder set apart.

`vit_b16` is the ViT-B that AD-NeXt is compared with (Table 4; Kunanbayev et al. 2024), there pre-trained as a masked
autoencoder. It departs in that the class token has no position of its own, which nothing could tell apart from the
token itself.

`vit_small_mim` is the scaled-down ViT of Dhinagar et al. 2023, there pre-trained by masked image modelling. The paper
contradicts itself: it states 6 layers and 12 heads with the hidden and MLP sizes of ViT-B/16 unchanged, which makes
45.8 M parameters, and 8 M parameters. The count is followed: width 300 and MLP 1200 give 7,797,900 parameters at 96³,
8,106,141 with the light decoder of MONAI's ViTAutoEnc, whose encoder has the very tensors of this one.
"""

from collections.abc import Sequence

import torch
from monai.networks.nets import ViT
from torch import nn

from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.classifier import Classifier, require_input_size, require_rate
from adnext_plugin.networks.layers.tokens import to_tokens
from adnext_plugin.networks.layers.transformer import drop_cross_attention

PATCH_SIZE = 16


class ViTEncoder(ViT):
    """Scan (B, C, Z, Y, X) to features (B, width): the class token's, or the mean over patches without one."""

    def __init__(self, in_channels: int, input_size_voxels: Sequence[int], *, class_token: bool, **sizes) -> None:
        super().__init__(
            in_channels, input_size_voxels, (PATCH_SIZE,) * 3, classification=class_token, qkv_bias=True, **sizes
        )
        drop_cross_attention(self.blocks)
        if class_token:
            del self.classification_head  # MONAI ties it to the token; without it forward gives all tokens

        self.width = self.token_width = self.norm.normalized_shape[0]
        self.patch_voxels = self.cell_voxels = (PATCH_SIZE,) * 3

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        tokens, _ = super().forward(x_bczyx)
        return tokens[:, 0] if self.classification else tokens.mean(dim=1)

    def patches(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        """Tokens (B, gz, gy, gx, D) of a scan, which do not know their positions yet."""
        return to_tokens(self.patch_embedding.patch_embeddings(x_bczyx))

    def place(self, tokens_bnd: torch.Tensor) -> torch.Tensor:
        """All tokens of a scan, with their positions."""
        return self.patch_embedding.dropout(tokens_bnd + self.patch_embedding.position_embeddings)

    def encode_tokens(self, placed_bnd: torch.Tensor) -> torch.Tensor:
        """What the blocks make of tokens with positions, be they all or some; without the class token."""
        x = placed_bnd
        if self.classification:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x[:, 1:] if self.classification else x

    def encode_grid(self, tokens_bzyxd: torch.Tensor) -> torch.Tensor:
        """What the encoder makes of tokens without positions, (B, gz, gy, gx, D)."""
        return self.encode_tokens(self.place(tokens_bzyxd.flatten(1, 3))).view(tokens_bzyxd.shape)


def vit_b16(
    in_channels: int,
    num_outputs: int,
    input_size_voxels: Sequence[int] = (128, 128, 128),
    *,
    dropout_rate: float = 0.1,
) -> Classifier:
    """Build ViT-B/16 with a class token and fresh weights; 88,598,018 parameters at 128³.

    Args:
        in_channels: modalities of a scan.
        num_outputs: logits.
        input_size_voxels: (Z, Y, X) it will be fed, each a multiple of 16.
        dropout_rate: of embeddings, attention and MLPs.

    Raises:
        SettingsError: the input does not divide into patches, or the rate is out of range.
    """
    require_input_size("vit_b16", input_size_voxels, smallest=2 * PATCH_SIZE, multiple=PATCH_SIZE)
    require_rate("dropout_rate", dropout_rate)
    encoder = ViTEncoder(in_channels, tuple(input_size_voxels), class_token=True, dropout_rate=dropout_rate)
    return Classifier(encoder, nn.Linear(768, num_outputs))


def vit_small_mim(
    in_channels: int,
    num_outputs: int,
    input_size_voxels: Sequence[int] = (96, 96, 96),
    *,
    width: int = 300,
    mlp_width: int = 1200,
    depth: int = 6,
    num_heads: int = 12,
    dropout_rate: float = 0.0,
) -> Classifier:
    """Build the scaled-down ViT with fresh weights.

    Args:
        in_channels: modalities of a scan.
        num_outputs: logits.
        input_size_voxels: (Z, Y, X) it will be fed, each a multiple of 16.
        width: channels of a token, a multiple of `num_heads`.
        mlp_width: hidden channels of the MLPs.
        depth: transformer blocks.
        num_heads: of the attention.
        dropout_rate: of embeddings, attention and MLPs.

    Raises:
        SettingsError: the input does not divide into patches, or an option is out of range.
    """
    require_input_size("vit_small_mim", input_size_voxels, smallest=2 * PATCH_SIZE, multiple=PATCH_SIZE)
    require_rate("dropout_rate", dropout_rate)
    if min(width, mlp_width, depth, num_heads) < 1 or width % num_heads:
        raise SettingsError(
            f"width must be a multiple of num_heads and all sizes positive, got {width} and {num_heads}"
        )
    encoder = ViTEncoder(
        in_channels,
        tuple(input_size_voxels),
        class_token=False,
        hidden_size=width,
        mlp_dim=mlp_width,
        num_layers=depth,
        num_heads=num_heads,
        dropout_rate=dropout_rate,
    )
    return Classifier(encoder, nn.Linear(width, num_outputs))
