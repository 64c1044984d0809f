"""The ways of encoding visible patches by name. Weights and results are the same; speed and requirements differ."""

import time
from collections.abc import Callable
from functools import partial
from typing import Literal

import torch

from adnext_plugin.networks.families.adnext import ADNeXtEncoder
from adnext_plugin.networks.layers.depthwise import DepthwiseConv3d
from adnext_plugin.networks.layers.stems import STEM_STRIDE
from adnext_plugin.pretraining.masked_autoencoder.sparse.gathered import encode_gathered
from adnext_plugin.pretraining.masked_autoencoder.sparse.masked_dense import encode_masked_dense, encode_masked_once
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_depthwise import (
    WAYS,
    VisibleDepthwise,
    Way,
    visible_depthwise,
)
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_patches import VisiblePatches

Backend = Literal["gathered", "masked_dense", "masked_once", "minkowski"]

# Encoder, scans (B, C, Z, Y, X) and visible patches (B, gz, gy, gx) to tokens (B, Z/32, Y/32, X/32, C), of which those
# in visible patches are the encoding; the encoder's drop-path rate must be 0.
Encode = Callable[[ADNeXtEncoder, torch.Tensor, torch.Tensor], torch.Tensor]


def encode_with(backend: Backend, ways: tuple[Way, ...]) -> Encode:
    """The encoding function of a backend.

    Args:
        backend: `gathered` computes what is visible only; `masked_dense` is the reference; `minkowski` needs that
            library; `masked_once`, which is not sparse at all, is the AD-NeXt paper's ablation in its Table 2.
        ways: for `gathered`, how each stage convolves.
    """
    if backend == "gathered":
        return partial(encode_gathered, ways=ways)
    if backend == "minkowski":
        from adnext_plugin.pretraining.masked_autoencoder.sparse.minkowski import encode_minkowski

        return encode_minkowski
    return {"masked_dense": encode_masked_dense, "masked_once": encode_masked_once}[backend]


def fastest_ways(encoder: ADNeXtEncoder, visible: torch.Tensor, patch_size_voxels: int) -> tuple[Way, ...]:
    """Measure, on this machine and for masks like this one, which way of convolving each stage is faster."""
    patches = VisiblePatches(visible)
    chosen = []
    for number, blocks in enumerate(encoder.blocks()):
        side = patch_size_voxels // STEM_STRIDE // 2**number
        layer: DepthwiseConv3d = blocks[0].depthwise
        tokens = torch.randn(
            patches.count, side, side, side, layer.conv.in_channels, device=visible.device, requires_grad=True
        )
        seconds = {
            way: _seconds(visible_depthwise(patches, side, layer.conv.kernel_size[0], way), layer, tokens)
            for way in WAYS
        }
        chosen.append(min(seconds, key=seconds.__getitem__))
    return tuple(chosen)


def _seconds(depthwise: VisibleDepthwise, layer: DepthwiseConv3d, tokens: torch.Tensor) -> float:
    """The shortest of three passes forward and backward, after one to warm up."""
    runs = []
    for _ in range(4):
        started = time.perf_counter()
        torch.autograd.grad(depthwise(layer, tokens).sum(), [tokens, layer.conv.weight])
        if tokens.device.type == "cuda":
            torch.cuda.synchronize()
        runs.append(time.perf_counter() - started)
    return min(runs[1:])
