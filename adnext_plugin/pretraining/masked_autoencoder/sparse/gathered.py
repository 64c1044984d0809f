"""The fast way: only visible patches are kept, side by side like a batch, and computed.

All layers but two work on each token, or each patch, by itself and need not know. The depthwise convolution looks
across the borders of patches, and the response norm over all of a sample's patches.
"""

from collections.abc import Sequence

import torch

from adnext_plugin.networks.families.adnext import ADNeXtEncoder
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_depthwise import Way, visible_depthwise
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_patches import VisiblePatches, whole_volume
from adnext_plugin.pretraining.masks import split_into_patches


def encode_gathered(
    encoder: ADNeXtEncoder, images_bczyx: torch.Tensor, patches: VisiblePatches, ways: Sequence[Way]
) -> torch.Tensor:
    """Encode visible patches; an `Encode`, given one way of convolving for each stage."""
    x = encoder.stem(split_into_patches(images_bczyx, patches.visible.shape[1:])[patches.positions])
    for number, (blocks, way) in enumerate(zip(encoder.blocks(), ways, strict=True)):
        if number:
            x = encoder.transitions[number - 1](x)
        kernel_size = blocks[0].depthwise.conv.kernel_size[0]
        depthwise = visible_depthwise(patches, x.shape[1], kernel_size, way)
        for block in blocks:
            y = block.norm(depthwise(block.depthwise, x))
            x = x + block.activation.then(block.project, block.expand(y), patches.counts)
    return _to_volume(x, patches)


def _to_volume(x_npppc: torch.Tensor, patches: VisiblePatches) -> torch.Tensor:
    batch, *grid = patches.visible.shape
    side = x_npppc.shape[1]
    rows = x_npppc.reshape(-1, x_npppc.shape[-1])
    return whole_volume(rows, patches.rows_in_volume(side), (batch, *[cells * side for cells in grid]))
