"""The ways of encoding visible patches by name. Weights and results are the same; speed and requirements differ."""

import timeit
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Literal

import torch

from adnext_plugin.networks.families.adnext import ADNeXtEncoder
from adnext_plugin.networks.kernels.choice import largest_difference, milliseconds_on_gpu
from adnext_plugin.networks.kernels.triton_here import in_words, raising
from adnext_plugin.networks.layers.depthwise import DepthwiseConv3d
from adnext_plugin.networks.layers.stems import STEM_STRIDE
from adnext_plugin.pretraining.masked_autoencoder.sparse.gathered import encode_gathered
from adnext_plugin.pretraining.masked_autoencoder.sparse.masked_dense import encode_masked_dense, encode_masked_once
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_depthwise import (
    VisibleDepthwise,
    Way,
    visible_depthwise,
    ways_on,
)
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_patches import VisiblePatches

CALLS, WAIT_CYCLES = 3, 20_000_000  # to be timed on a GPU, and how long they may take to be lined up: about 10 ms

Backend = Literal["gathered", "masked_dense", "masked_once", "minkowski"]

# Encoder, scans (B, C, Z, Y, X) and their visible patches to tokens (B, Z/32, Y/32, X/32, C), of which those in visible
# patches are the encoding; the encoder's drop-path rate must be 0.
Encode = Callable[[ADNeXtEncoder, torch.Tensor, VisiblePatches], torch.Tensor]


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


def fastest_ways(
    encoder: ADNeXtEncoder, visible: torch.Tensor, patch_size_voxels: int, device: torch.device
) -> tuple[Way, ...]:
    """Measure, on this machine and for masks like this one, which way of convolving each stage is faster.

    Args:
        encoder: on the device.
        visible: (B, gz, gy, gx), a mask.
        patch_size_voxels: edge of a patch.
        device: to measure on; a GPU is measured in half precision, as it computes by default.
    """
    patches = VisiblePatches(visible, device)
    chosen = []
    for number, blocks in enumerate(encoder.blocks()):
        side = patch_size_voxels // STEM_STRIDE // 2**number
        layer: DepthwiseConv3d = blocks[0].depthwise
        tokens = torch.randn(patches.count, side, side, side, layer.conv.in_channels, device=device, requires_grad=True)
        chosen.append(_fastest_way(patches, layer, tokens))
    return tuple(chosen)


def _fastest_way(patches: VisiblePatches, layer: DepthwiseConv3d, tokens: torch.Tensor) -> Way:
    """The way that takes the least time, of those that compute what the first does.

    One that fails is left out, and that alone: in training, kernels are given up altogether where one fails.
    """
    seconds: dict[Way, float] = {}
    expected: tuple[torch.Tensor, ...] | None = None
    for way in (ways := ways_on(tokens.device)):
        depthwise = visible_depthwise(patches, tokens.shape[1], layer.conv.kernel_size[0], way)
        step = partial(_step, depthwise, layer, tokens)
        try:
            with nullcontext() if way == ways[0] else raising():
                found = step()
        except Exception as error:  # a compiler may fail in any way
            if way == ways[0]:
                raise
            warnings.warn(f"{way!r} cannot be used on this machine ({in_words(error)})", stacklevel=3)
            continue
        expected = expected or found
        apart = [largest_difference(*pair) for pair in zip(found, expected, strict=True)]
        if wrong := next(filter(None, apart), None):
            warnings.warn(
                f"{way!r} computes otherwise than {ways[0]!r} on this machine ({wrong}) and is not used", stacklevel=3
            )
        else:
            seconds[way] = _seconds(step, tokens.device)
    return min(seconds, key=seconds.__getitem__, default=ways[0])


def _step(depthwise: VisibleDepthwise, layer: DepthwiseConv3d, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Forward and backward: the output, and the gradients of tokens and weight."""
    device = tokens.device.type
    with nullcontext() if device == "cpu" else torch.autocast(device, dtype=_half()):
        out = depthwise(layer, tokens)
    return out, *torch.autograd.grad(out, [tokens, layer.conv.weight], tokens.detach().to(out.dtype))


def _seconds(step: Callable[[], object], device: torch.device) -> float:
    """The shortest of three; on a GPU, what its kernels take, which are launched as a graph later."""
    if device.type == "cuda":
        return min(milliseconds_on_gpu(step, CALLS, WAIT_CYCLES) for _ in range(3)) / 1000
    return min(timeit.repeat(step, number=1, repeat=3))


def _half() -> torch.dtype:
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
