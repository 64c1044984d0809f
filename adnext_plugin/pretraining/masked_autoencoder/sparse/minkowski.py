"""MinkowskiEngine as a backend, where it is installed (it has to be built; see docs/pretraining.md).

Weights stay those of our encoder and are handed to the library's layers. Its kernels list their taps with the first
spatial axis fastest, so a filter (z, y, x) is read with its axes reversed. The library pools by dividing by the number
of inputs present, and its response norm would pool over the batch; ours is per sample.
"""

from functools import cache
from typing import cast

import torch
from torch import nn
from torch.func import functional_call

from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.families.adnext import ADNeXtEncoder, Block, Transition
from adnext_plugin.networks.layers.patch_counts import PatchCounts
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_patches import VisiblePatches
from adnext_plugin.pretraining.masks import mask_voxels

try:
    import MinkowskiEngine as ME  # noqa: N817  as in its own documentation
except ImportError as error:
    raise SettingsError(
        f"sparse_backend 'minkowski' needs MinkowskiEngine, which cannot be imported here ({error}); use 'gathered', "
        "which gives the same results"
    ) from error


def encode_minkowski(encoder: ADNeXtEncoder, images_bczyx: torch.Tensor, patches: VisiblePatches) -> torch.Tensor:
    """Encode visible patches; an `Encode`."""
    dense = encoder.stem(images_bczyx)
    active = mask_voxels(patches.visible.to(dense.device), dense.shape[1:4])
    x = ME.SparseTensor(dense[active], coordinates=active.nonzero().int().contiguous())
    for number, blocks in enumerate(encoder.blocks()):
        if number:
            x = _transition(cast(Transition, encoder.transitions[number - 1]), x)
        for block in blocks:
            x = _with(x, x.F + block.project(_hidden(block, x)))
    stride = x.tensor_stride[0]
    size = [length // stride for length in dense.shape[1:4]]
    batch, z, y, x_ = x.C.long().T
    features = x.F.new_zeros(len(images_bczyx), *size, x.F.shape[1])
    return features.index_put((batch, z // stride, y // stride, x_ // stride), x.F)


def _bias(convolution: nn.Conv3d) -> torch.Tensor:
    assert convolution.bias is not None  # every convolution of AD-NeXt has one
    return convolution.bias


def _hidden(block: Block, x: "ME.SparseTensor") -> torch.Tensor:
    conv = block.depthwise.conv
    y = _apply(_depthwise(conv.in_channels, conv.kernel_size[0]), x, _taps(conv.weight)[..., 0, :], _bias(conv))
    hidden = block.activation.gelu(block.expand(block.norm(y.F)))
    samples = x.C[:, 0].long()
    order = torch.argsort(samples, stable=True)
    counts = PatchCounts.of(torch.bincount(samples).tolist(), samples.device)
    # tokens as patches of one voxel, sample after sample
    normed = block.activation.norm(hidden[order][:, None, None, None], counts).flatten(1)
    return torch.empty_like(normed).index_copy(0, order, normed)


def _transition(transition: Transition, x: "ME.SparseTensor") -> "ME.SparseTensor":
    x = _with(x, transition.norm(x.F))
    if isinstance(transition.pool, nn.Conv3d):
        conv = transition.pool
        return _apply(_strided(conv.in_channels, conv.out_channels), x, _taps(conv.weight), _bias(conv))
    is_average = isinstance(transition.pool, nn.AvgPool3d)
    pool = (ME.MinkowskiAvgPooling if is_average else ME.MinkowskiMaxPooling)(kernel_size=2, stride=2, dimension=3)
    pooled = pool(x)
    return _with(pooled, transition.project(pooled.F))


def _with(x: "ME.SparseTensor", features: torch.Tensor) -> "ME.SparseTensor":
    return ME.SparseTensor(features, coordinate_map_key=x.coordinate_map_key, coordinate_manager=x.coordinate_manager)


def _taps(weight: torch.Tensor) -> torch.Tensor:
    """Filters (out, in, z, y, x) as a list of taps (k³, in, out), z fastest."""
    return weight.permute(4, 3, 2, 1, 0).flatten(0, 2)


def _apply(layer: nn.Module, x: "ME.SparseTensor", kernel: torch.Tensor, bias: torch.Tensor) -> "ME.SparseTensor":
    return functional_call(layer, {"kernel": kernel, "bias": bias[None]}, (x,))


@cache
def _depthwise(channels: int, kernel_size: int) -> nn.Module:
    return ME.MinkowskiChannelwiseConvolution(channels, kernel_size=kernel_size, bias=True, dimension=3)


@cache
def _strided(channels_in: int, channels_out: int) -> nn.Module:
    return ME.MinkowskiConvolution(channels_in, channels_out, kernel_size=2, stride=2, bias=True, dimension=3)
