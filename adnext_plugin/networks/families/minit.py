"""NiT and MiNiT: transformers on small patches of a scan, and on small patches of blocks of it.

NiT is a plain ViT. MiNiT cuts the scan into 4³ blocks of 4³ patches, scores each block by one shared ViT, to which a
learned embedding says which block it sees, and weighs the scores linearly.

Source: Singla et al. 2022, with the sizes of their code; used by Dhinagar et al. 2023, who give none. Departures:
learned positions start small (standard deviation 0.02) rather than at 1, which would drown the patches; blocks and
patches of MiNiT grow with the input, so that 4³ blocks of 4³ patches are kept. NiT's code makes a distillation token
and head, counts them among its parameters and never uses them; here they are used as in DeiT (Touvron et al. 2021):
the token sees the patches, and the logits are the mean of both heads'. `distillation_token=False` leaves them out,
which is what that code computes.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn

from adnext_plugin.networks.classifier import Classifier, require_input_size, require_rate
from adnext_plugin.networks.layers.transformer import transformer_blocks

WIDTH = 256
NUM_HEADS = 8
BLOCKS_PER_AXIS = 4
PATCHES_PER_AXIS = 4  # of a block


class PatchTransformer(nn.Module):
    """Patches, learned positions and transformer: (B, C, Z, Y, X) to the tokens that stand for the whole, (B, T, 256).

    The first of these is the class token; the second, where there is one, the distillation token.
    """

    def __init__(
        self,
        in_channels: int,
        input_size_voxels: Sequence[int],
        patch_size_voxels: Sequence[int],
        *,
        depth: int,
        mlp_width: int,
        distillation_token: bool = False,
        dropout_rate: float,
        embedding_dropout_rate: float,
    ) -> None:
        super().__init__()
        patches = 1
        for size, patch in zip(input_size_voxels, patch_size_voxels, strict=True):
            patches *= size // patch
        patch_zyx = cast(tuple[int, int, int], tuple(patch_size_voxels))
        self.patches = nn.Conv3d(in_channels, WIDTH, patch_zyx, patch_zyx)
        self.class_token = nn.Parameter(torch.empty(1, 1, WIDTH))
        # learned as a whole, so that a position of its own would add nothing
        self.distillation_token = nn.Parameter(torch.empty(1, 1, WIDTH)) if distillation_token else None
        self.positions = nn.Parameter(torch.empty(1, 1 + patches, WIDTH))
        for parameter in (self.class_token, self.distillation_token, self.positions):
            if parameter is not None:
                nn.init.trunc_normal_(parameter, std=0.02)
        self.dropout = nn.Dropout(embedding_dropout_rate)
        self.blocks = transformer_blocks(depth, WIDTH, mlp_width, NUM_HEADS, dropout_rate=dropout_rate, qkv_bias=False)

    def forward(self, x_bczyx: torch.Tensor, block_embedding: torch.Tensor | None = None) -> torch.Tensor:
        """Like the class says; `block_embedding`, (B, 1 + patches, 256), is added to the tokens."""
        tokens = self.patches(x_bczyx).flatten(2).transpose(1, 2)
        class_token = self.class_token.expand(tokens.shape[0], -1, -1)
        tokens = torch.cat((class_token, tokens), dim=1) + self.positions
        if block_embedding is not None:
            tokens = tokens + block_embedding
        wanted = 1
        if self.distillation_token is not None:
            tokens = torch.cat((tokens[:, :1], self.distillation_token.expand_as(class_token), tokens[:, 1:]), dim=1)
            wanted = 2
        tokens = self.dropout(tokens)
        for block in self.blocks:
            tokens = block(tokens)
        return tokens[:, :wanted]


class MeanOfHeads(nn.Module):
    """A LayerNorm and Linear for each token, and the mean over tokens: (B, T, 256) to (B, outputs)."""

    def __init__(self, num_tokens: int, num_outputs: int) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_norm_and_linear(num_outputs) for _ in range(num_tokens))

    def forward(self, tokens_btc: torch.Tensor) -> torch.Tensor:
        logits = [head(token) for head, token in zip(self.heads, tokens_btc.unbind(dim=1), strict=True)]
        return torch.stack(logits).mean(dim=0)


class BlockEncoder(nn.Module):
    """One transformer for all blocks of a scan: (B, C, Z, Y, X) to the blocks' class tokens (B, 64, 256)."""

    def __init__(self, in_channels: int, block_size_voxels: Sequence[int], **options) -> None:
        super().__init__()
        patch_size_voxels = [size // PATCHES_PER_AXIS for size in block_size_voxels]
        self.transformer = PatchTransformer(in_channels, block_size_voxels, patch_size_voxels, **options)
        tokens = self.transformer.positions.shape[1]
        self.block_embeddings = nn.Parameter(torch.empty(BLOCKS_PER_AXIS**3, tokens, WIDTH))
        nn.init.trunc_normal_(self.block_embeddings, std=0.02)

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        scans = x_bczyx.shape[0]  # which a trace follows, as it does not `len`
        embedding = self.block_embeddings.repeat(scans, 1, 1)
        return self.transformer(_cut_into_blocks(x_bczyx), embedding).view(scans, BLOCKS_PER_AXIS**3, WIDTH)


class BlockHead(nn.Module):
    """Scores of every block, weighed linearly: (B, 64, 256) to (B, outputs)."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.score = _norm_and_linear(num_outputs)
        self.weigh = nn.Linear(BLOCKS_PER_AXIS**3 * num_outputs, num_outputs)

    def forward(self, tokens_btc: torch.Tensor) -> torch.Tensor:
        return self.weigh(self.score(tokens_btc).flatten(1))


def nit(
    in_channels: int,
    num_outputs: int,
    input_size_voxels: Sequence[int] = (80, 80, 80),
    *,
    distillation_token: bool = True,
    dropout_rate: float = 0.0,
    embedding_dropout_rate: float = 0.0,
) -> Classifier:
    """Build NiT with fresh weights; 1,925,036 parameters at 80³, 1,923,754 without the distillation token.

    Args:
        in_channels: modalities of a scan.
        num_outputs: logits.
        input_size_voxels: (Z, Y, X) it will be fed, each a multiple of the patch size of 8.
        distillation_token: whether a second token with a head of its own has a say.
        dropout_rate: of attention and MLPs.
        embedding_dropout_rate: of the tokens at the start.

    Raises:
        SettingsError: the input does not divide into patches, or a rate is out of range.
    """
    patch = 8
    require_input_size("nit", input_size_voxels, smallest=2 * patch, multiple=patch)
    require_rate("dropout_rate", dropout_rate)
    require_rate("embedding_dropout_rate", embedding_dropout_rate)
    encoder = PatchTransformer(
        in_channels,
        input_size_voxels,
        (patch,) * 3,
        depth=4,
        mlp_width=234,
        distillation_token=distillation_token,
        dropout_rate=dropout_rate,
        embedding_dropout_rate=embedding_dropout_rate,
    )
    return Classifier(encoder, MeanOfHeads(2 if distillation_token else 1, num_outputs))


def minit(
    in_channels: int,
    num_outputs: int,
    input_size_voxels: Sequence[int] = (64, 64, 64),
    *,
    dropout_rate: float = 0.0,
    embedding_dropout_rate: float = 0.0,
) -> Classifier:
    """Build MiNiT with fresh weights; 3,632,962 parameters at 64³ (blocks of 16³, patches of 4³), 3,648,578 at 80³.

    Args:
        in_channels: modalities of a scan.
        num_outputs: logits.
        input_size_voxels: (Z, Y, X) it will be fed, each a multiple of 16.
        dropout_rate: of attention and MLPs.
        embedding_dropout_rate: of the tokens at the start.

    Raises:
        SettingsError: the input does not divide into blocks and patches, or a rate is out of range.
    """
    parts = BLOCKS_PER_AXIS * PATCHES_PER_AXIS
    require_input_size("minit", input_size_voxels, smallest=2 * parts, multiple=parts)
    require_rate("dropout_rate", dropout_rate)
    require_rate("embedding_dropout_rate", embedding_dropout_rate)
    encoder = BlockEncoder(
        in_channels,
        [size // BLOCKS_PER_AXIS for size in input_size_voxels],
        depth=6,
        mlp_width=309,
        dropout_rate=dropout_rate,
        embedding_dropout_rate=embedding_dropout_rate,
    )
    return Classifier(encoder, BlockHead(num_outputs))


def _cut_into_blocks(x_bczyx: torch.Tensor) -> torch.Tensor:
    """(B, C, Z, Y, X) to (B · 64, C, Z/4, Y/4, X/4), the blocks of a scan one after the other."""
    scans, channels, *sizes = x_bczyx.shape
    block_z, block_y, block_x = (size // BLOCKS_PER_AXIS for size in sizes)
    n = BLOCKS_PER_AXIS
    cut = x_bczyx.reshape(scans, channels, n, block_z, n, block_y, n, block_x).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return cut.reshape(scans * n**3, channels, block_z, block_y, block_x)


def _norm_and_linear(num_outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, num_outputs))
