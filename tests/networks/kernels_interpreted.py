"""Kernels in Triton's interpreter, on the CPU, beside PyTorch in float64: prints the largest relative errors as JSON.

A program of its own, because the interpreter has to be chosen before Triton is loaded.
"""

import json
import os
import sys
from collections.abc import Callable

os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch
import torch.nn.functional as F
import triton.runtime.interpreter as interpreter
from torch import nn

from adnext_plugin.networks.kernels import depthwise_visible
from adnext_plugin.networks.kernels.depthwise import (
    CHANNELS_LAST,
    CONTIGUOUS,
    ConvolutionTile,
    DepthwisePlan,
    WeightTile,
    default_plan,
    depthwise3d,
    filters_of,
)
from adnext_plugin.networks.kernels.depthwise_visible import cell_edge, depthwise3d_visible
from adnext_plugin.networks.kernels.layer_norm import layer_norm
from adnext_plugin.networks.kernels.response_norm import gelu_response_norm
from adnext_plugin.networks.kernels.triton_here import computed_in, failure
from adnext_plugin.networks.layers.activation import GeluResponseNorm
from adnext_plugin.networks.layers.depthwise import DepthwiseConv3d
from adnext_plugin.networks.layers.norms import ChannelNorm, GlobalResponseNorm
from adnext_plugin.networks.layers.patch_counts import PatchCounts
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_depthwise import tables_of_cells
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_patches import VisiblePatches, whole_volume


def accept_masks_of_integers() -> None:
    """The interpreter makes integers of a boolean that is spread over a tensor, and then refuses it as a mask."""
    builder = interpreter.InterpreterBuilder
    load, store = builder.create_masked_load, builder.create_masked_store

    def boolean(mask: interpreter.TensorHandle) -> interpreter.TensorHandle:
        is_boolean = mask.data.dtype == np.bool_
        return mask if is_boolean else interpreter.TensorHandle(mask.data.astype(np.bool_), mask.dtype)

    builder.create_masked_load = lambda self, at, mask, *rest: load(self, at, boolean(mask), *rest)
    builder.create_masked_store = lambda self, at, value, mask, *rest: store(self, at, value, boolean(mask), *rest)


def errors(found: tuple, expected: tuple) -> list[float]:
    """Largest differences, relative to the largest value expected."""
    return [
        ((one.double() - other.double()).abs().max() / other.double().abs().max()).item()
        for one, other in zip(found, expected, strict=True)
    ]


def convolution(
    size: tuple,
    channels: int,
    kernel_size: int,
    plan: DepthwisePlan | None,
    dtype: torch.dtype = torch.float32,
    *,
    of_volumes: bool = False,
) -> list[float]:
    """Of the output and the gradients of tokens, weight and bias."""
    x = torch.randn(*size, channels, dtype=torch.float64).to(dtype)
    if of_volumes:
        x = x.permute(0, 4, 1, 2, 3).contiguous().permute(0, 2, 3, 4, 1)
    x.requires_grad_()
    conv = nn.Conv3d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
    grad = torch.randn(*size, channels, dtype=torch.float64).to(dtype)
    plan = plan or default_plan(size[1:], channels, size[0], processors=1)
    found = depthwise3d(x, filters_of(conv.weight), conv.bias, plan.numbers(), of_volumes)
    found = (found, *torch.autograd.grad(found, (x, *conv.parameters()), grad))
    if any(tensor.stride() != x.stride() for tensor in found[:2]):
        sys.exit("results do not lie in memory as what was given does")
    x = x.detach().double().requires_grad_()
    conv = conv.double()
    expected = conv(x.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
    return errors(found, (expected, *torch.autograd.grad(expected, (x, *conv.parameters()), grad.double())))


def response_norm(size: tuple, per_sample: tuple | None, dtype: torch.dtype = torch.float32) -> list[float]:
    """Of the output and the gradients of tokens, gamma and beta; a channel is silent in the second sample."""
    norm = GlobalResponseNorm(size[-1])
    nn.init.normal_(norm.gamma)
    nn.init.normal_(norm.beta)
    x = torch.randn(size).to(dtype)
    x[2 if per_sample else 1, ..., 1] = 0
    if per_sample:
        x[1, ..., 1] = 0
    x.requires_grad_()
    counts = None if per_sample is None else PatchCounts.of(per_sample, torch.device("cpu"))
    grad = torch.randn(size).to(dtype)
    offsets, samples = (None, size[0]) if counts is None else (counts.offsets, len(counts.per_sample))
    found = gelu_response_norm(x, norm.gamma, norm.beta, offsets, samples, norm.eps)[0]
    found = (found, *torch.autograd.grad(found, (x, norm.gamma, norm.beta), grad))
    x, norm = x.detach().double().requires_grad_(), norm.double()
    expected = norm(F.gelu(x), counts)
    return errors(found, (expected, *torch.autograd.grad(expected, (x, norm.gamma, norm.beta), grad.double())))


def among_visible(grid: tuple, side: int, channels: int, kernel_size: int, edge: int | None = None) -> list[float]:
    """Of the output and the gradients of tokens, weight and bias, beside the whole volume with masked tokens at 0."""
    edge = edge or cell_edge(side, kernel_size)
    visible = torch.rand(grid) < 0.6
    visible[0, 0, 0, 0], visible[0, 1, 0, 0], visible[-1, -1, -1, -1] = True, True, False
    patches = VisiblePatches(visible, torch.device("cpu"))
    x, grad = torch.randn(2, patches.count, side, side, side, channels).unbind()
    x.requires_grad_()
    conv = nn.Conv3d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
    tables = tables_of_cells(patches, side, kernel_size, edge)
    found = depthwise3d_visible(x, filters_of(conv.weight), conv.bias, edge, tables)
    found = (found, *torch.autograd.grad(found, (x, *conv.parameters()), grad))
    x, conv = x.detach().double().requires_grad_(), conv.double()
    rows, size = patches.rows_in_volume(side), (grid[0], *[cells * side for cells in grid[1:]])
    volume = whole_volume(x.reshape(-1, channels), rows, size).permute(0, 4, 1, 2, 3)
    expected = conv(volume).permute(0, 2, 3, 4, 1).reshape(-1, channels)[rows].view(x.shape)
    return errors(found, (expected, *torch.autograd.grad(expected, (x, *conv.parameters()), grad.double())))


def by_small_planes() -> list[float]:
    """Of patches that are cut into cells which are taken a plane at a time; as small as shows that."""
    usual, depthwise_visible.PLANES = depthwise_visible.PLANES, 2
    try:
        return among_visible((1, 2, 1, 1), 4, 2, 3, edge=2)
    finally:
        depthwise_visible.PLANES = usual


def norm_of_channels(size: tuple, dtype: torch.dtype = torch.float32) -> list[float]:
    """Of the output and the gradients of tokens, weight and bias."""
    weight, bias = torch.randn(2, size[-1]).unbind()
    x, grad = (torch.randn(2, *size) + 3).to(dtype).unbind()
    inputs = x.clone().requires_grad_(), weight.clone().requires_grad_(), bias.clone().requires_grad_()
    found = layer_norm(*inputs, 1e-6, dtype)[0]
    found = (found, *torch.autograd.grad(found, inputs, grad))
    inputs = tuple(one.detach().double().requires_grad_() for one in inputs)
    expected = F.layer_norm(inputs[0], size[-1:], *inputs[1:], 1e-6)
    return errors(found, (expected, *torch.autograd.grad(expected, inputs, grad.double())))


def repeats() -> list[float]:
    """0 where the weight's gradient comes out the same, to the bit, of the same tokens twice."""
    x, filters = torch.randn(2, 2, 3, 4, 4), torch.randn(3, 3, 3, 4)
    plan = default_plan((2, 3, 4), 4, 2, processors=1).numbers()
    both = []
    for _ in range(2):
        filters = filters.detach().requires_grad_()
        both.append(torch.autograd.grad(depthwise3d(x, filters, None, plan).square().sum(), filters)[0])
    return [float(not torch.equal(*both))]


def compiled() -> list[float]:
    """By how much a block's loss and gradient change when it is compiled, all of it as one graph."""
    depthwise, norm, activation = DepthwiseConv3d(4, 3), ChannelNorm(4), GeluResponseNorm(4)

    def block(x: torch.Tensor) -> torch.Tensor:  # as on a GPU
        with torch.autocast("cpu", dtype=torch.bfloat16):
            y = depthwise.of_tokens(x)
            y = layer_norm(y, norm.weight, norm.bias, norm.eps, computed_in(y))[0]
            weights = activation.norm.gamma, activation.norm.beta
            return gelu_response_norm(y, *weights, None, len(y), 1e-6)[0].float().square().mean()

    x = torch.randn(1, 2, 2, 3, 4)
    losses, gradients = [], []
    for run in (block, torch.compile(block, fullgraph=True, backend="aot_eager")):
        depthwise.zero_grad()
        losses.append(run(x))
        losses[-1].backward()
        gradients.append(depthwise.conv.weight.grad.clone())
    return [(one - other).abs().max().item() for one, other in (losses, gradients)]


def tile_of(tokens: int, **others: int) -> ConvolutionTile:
    """A small tile, whose last channels do not exist."""
    return ConvolutionTile(tokens=tokens, rows=2, channels=4, **others)


BF16 = torch.bfloat16
STOCK = [DepthwisePlan(forward=kind, grad_input=kind, grad_weight=kind) for kind in (CONTIGUOUS, CHANNELS_LAST)]
CUT = DepthwisePlan(  # tiles that end neither with the volume nor with the channels
    forward=tile_of(2, planes=2, schedule=2),
    grad_input=tile_of(4, schedule=1),
    grad_weight=WeightTile(tokens=2, rows=2, channels=4, filter_rows=2, chunks=3, merge=True),
)
BY_PLANES = DepthwisePlan(
    forward=CONTIGUOUS,
    grad_input=CONTIGUOUS,
    grad_weight=WeightTile(tokens=4, rows=1, channels=4, chunks=2, by_planes=True),
)
CASES: dict[str, Callable[[], list[float]]] = {
    "k3": lambda: convolution((2, 3, 5, 4), 6, 3, None),
    "k5": lambda: convolution((1, 2, 3, 5), 5, 5, None),
    "k7": lambda: convolution((1, 2, 3, 3), 3, 7, None),
    "k3, small tiles": lambda: convolution((1, 3, 3, 3), 5, 3, CUT),
    "k3, by planes": lambda: convolution((2, 4, 8, 4), 3, 3, BY_PLANES),
    "k3 of volumes": lambda: convolution((2, 3, 5, 4), 6, 3, None, of_volumes=True),
    "k3 of volumes, by planes": lambda: convolution((2, 4, 8, 4), 3, 3, BY_PLANES, of_volumes=True),
    "k3 of volumes, channels last": lambda: convolution((2, 3, 5, 4), 6, 3, STOCK[1], of_volumes=True),
    "k3, one token": lambda: convolution((1, 1, 1, 1), 4, 3, None),
    "k3, contiguous": lambda: convolution((2, 3, 5, 4), 6, 3, STOCK[0]),
    "k3, channels last": lambda: convolution((2, 3, 5, 4), 6, 3, STOCK[1]),
    "k3, bfloat16": lambda: convolution((1, 3, 2, 4), 4, 3, None, BF16),
    "k3 among visible patches": lambda: among_visible((2, 2, 2, 2), 1, 3, 3),
    "k5 among visible patches": lambda: among_visible((1, 2, 1, 1), 2, 2, 5),
    "k5 among visible patches of a token": lambda: among_visible((1, 3, 1, 2), 1, 3, 5),
    "k3 among visible patches of cells": lambda: among_visible((1, 2, 1, 1), 4, 2, 3, edge=2),
    "k3 among visible patches, by planes": lambda: among_visible((1, 2, 2, 1), 4, 3, 3),
    "k3 among visible patches, by planes of cells": by_small_planes,
    "response norm": lambda: response_norm((3, 2, 3, 5, 6), None),
    "response norm of patches": lambda: response_norm((4, 2, 2, 2, 6), (1, 3)),
    "response norm, bfloat16": lambda: response_norm((2, 2, 3, 5, 6), None, BF16),
    "layer norm": lambda: norm_of_channels((2, 3, 5, 6)),
    "layer norm, bfloat16": lambda: norm_of_channels((7, 6), BF16),
    "repeats": repeats,
    "compiled": compiled,
}

if __name__ == "__main__":
    accept_masks_of_integers()
    found = {}
    for name, case in CASES.items():
        torch.manual_seed(0)
        found[name] = case()
    if failure() is not None:  # then all of it is PyTorch's, and proves nothing
        sys.exit(failure())
    print(json.dumps(found))
