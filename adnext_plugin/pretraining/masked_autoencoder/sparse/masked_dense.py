"""The reference: the whole volume is computed, and what is masked is kept from having any effect.

Masked voxels are set to zero wherever a voxel can see others (depthwise convolution) and left out of statistics over
space (response norm). At visible voxels this equals a sparse network whose only active sites they are.
"""

import torch

from adnext_plugin.networks.families.adnext import ADNeXtEncoder, Block
from adnext_plugin.networks.layers.relative_response import relative_response
from adnext_plugin.networks.layers.tokens import to_tokens, to_volume
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_patches import VisiblePatches
from adnext_plugin.pretraining.masks import mask_voxels


def encode_masked_dense(encoder: ADNeXtEncoder, images_bczyx: torch.Tensor, patches: VisiblePatches) -> torch.Tensor:
    """Encode visible patches; an `Encode`."""
    x = encoder.stem(images_bczyx)
    for number, blocks in enumerate(encoder.blocks()):
        if number:
            x = encoder.transitions[number - 1](x)
        keep = _at_size(patches, x)
        for block in blocks:
            x = _block(block, x, keep)
    return x * _at_size(patches, x)


def encode_masked_once(encoder: ADNeXtEncoder, images_bczyx: torch.Tensor, patches: VisiblePatches) -> torch.Tensor:
    """Mask after the stem, then compute as if nothing were masked (the paper's non-sparse arm); an `Encode`."""
    x = encoder.stem(images_bczyx)
    x = encoder.stages[0](x * _at_size(patches, x))
    for transition, stage in zip(encoder.transitions, encoder.stages[1:], strict=True):
        x = stage(transition(x))
    return x


def _block(block: Block, x_bzyxc: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    y = block.norm(to_tokens(block.depthwise(to_volume(x_bzyxc * keep))))
    y = block.activation.gelu(block.expand(y))
    response = block.activation.norm
    dtype = torch.promote_types(y.dtype, torch.float32)
    norm = torch.linalg.vector_norm(y * keep, dim=(1, 2, 3), keepdim=True, dtype=dtype)
    y = response.beta + y * (1 + response.gamma * relative_response(norm, response.eps)).to(y.dtype)
    return x_bzyxc + block.drop_path(block.project(y))


def _at_size(patches: VisiblePatches, x_bzyxc: torch.Tensor) -> torch.Tensor:
    """The mask at the resolution of tokens: (B, Z, Y, X, 1), 1 where visible."""
    mask = mask_voxels(patches.visible.to(x_bzyxc.device, non_blocking=True), x_bzyxc.shape[1:4])
    return mask.unsqueeze(-1).to(x_bzyxc.dtype)
