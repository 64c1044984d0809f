"""Depthwise 3D convolution of tokens as an operator of torch, computed by our kernels or PyTorch's as a plan says.

As operators they stay whole under `torch.compile`, and their gradients are operators, too. Tokens are (B, Z, Y, X, C)
in any precision, filters (K, K, K, C) and biases float32; sums are float32.
"""

from collections.abc import Sequence
from dataclasses import astuple

import torch
import torch.nn.functional as F
from torch.nn.grad import conv3d_input, conv3d_weight

from adnext_plugin.networks.kernels.triton_here import ceil_div, on_device_of, or_stock, power_of_two
from adnext_plugin.records import record

CONTIGUOUS, CHANNELS_LAST = "contiguous", "channels_last"


@record
class ConvolutionTile:
    """What a program of the convolution, or of its input gradient, computes."""

    tokens: int  # along X
    planes: int = 1  # along Z
    rows: int = 4  # along Y, a warp each
    channels: int = 64
    unroll: bool = False


@record
class WeightTile:
    """What a program of the filter's gradient takes at a time, and how many share the work."""

    tokens: int
    rows: int = 4
    channels: int = 64
    chunks: int = 1
    merge: bool = True  # sum up over a program's rows before writing


@record
class DepthwisePlan:
    """How a convolution and its gradients are computed: a tile of our kernels, or a layout for PyTorch's."""

    forward: ConvolutionTile | str
    grad_input: ConvolutionTile | str
    grad_weight: WeightTile | str

    def numbers(self) -> list[int]:
        """As the operators take it: five numbers each, of PyTorch's 0 and whether channels come last."""
        return [number for part in (self.forward, self.grad_input, self.grad_weight) for number in _numbers(part)]


def default_plan(size: Sequence[int], channels: int, batch: int, processors: int = 132) -> DepthwisePlan:
    """A plan that is good for most GPUs.

    Args:
        size: tokens along Z, Y and X.
        channels: C.
        batch: B.
        processors: multiprocessors of the GPU.
    """
    width = min(64, max(16, power_of_two(channels)))
    along = size[2] if size[2] <= 32 else 16
    tile = ConvolutionTile(tokens=along, channels=width, unroll=along <= 8)
    short = size[2] if size[2] <= 16 else 8
    return DepthwisePlan(
        forward=tile,
        grad_input=tile,
        grad_weight=weight_tile(WeightTile(tokens=short, channels=width), size, channels, batch, processors),
    )


def weight_tile(tile: WeightTile, size: Sequence[int], channels: int, batch: int, processors: int) -> WeightTile:
    """The tile with as many chunks as keep a GPU busy, but no more than there is work for."""
    work = batch * size[0] * ceil_div(size[1], tile.rows) * ceil_div(size[2], tile.tokens)
    wanted = ceil_div(2 * processors, 7 * ceil_div(channels, tile.channels))
    chunks = max(1, min(work, wanted))
    return WeightTile(tokens=tile.tokens, rows=tile.rows, channels=tile.channels, chunks=chunks, merge=tile.merge)


@torch.library.custom_op("adnext::depthwise3d", mutates_args=())
def depthwise3d(x: torch.Tensor, filters: torch.Tensor, bias: torch.Tensor | None, plan: list[int]) -> torch.Tensor:
    """Convolve tokens (B, Z, Y, X, C) with filters (K, K, K, C), stride 1, to the same size."""
    x = x.contiguous()
    return _convolved(x, filters.contiguous(), bias, plan[:5], flip=False)


@torch.library.custom_op("adnext::depthwise3d_backward", mutates_args=())
def depthwise3d_backward(
    grad: torch.Tensor, x: torch.Tensor, filters: torch.Tensor, plan: list[int], for_input: bool, for_weight: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of tokens, filters and bias; empty ones that nobody asked for."""
    grad, x = grad.contiguous(), x.contiguous()
    grad_x = _convolved(grad, filters.contiguous(), None, plan[5:10], flip=True) if for_input else x.new_empty(0)
    if not for_weight:
        return grad_x, filters.new_empty(0), filters.new_empty(0)
    return grad_x, *_weight_gradient(x, grad, filters.shape[0], plan[10:])


@depthwise3d.register_fake
def _(x: torch.Tensor, filters: torch.Tensor, bias: torch.Tensor | None, plan: list[int]) -> torch.Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@depthwise3d_backward.register_fake
def _(
    grad: torch.Tensor, x: torch.Tensor, filters: torch.Tensor, plan: list[int], for_input: bool, for_weight: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format) if for_input else x.new_empty(0)
    if not for_weight:
        return grad_x, filters.new_empty(0), filters.new_empty(0)
    return grad_x, filters.new_empty(filters.shape), filters.new_empty(filters.shape[-1])


def _keep(ctx, inputs, output) -> None:
    x, filters, bias, plan = inputs
    ctx.save_for_backward(x, filters)
    ctx.has_bias, ctx.plan = bias is not None, plan


def _differentiate(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    x, filters = ctx.saved_tensors
    for_input, for_weight = ctx.needs_input_grad[0], ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
    grad_x, grad_filters, grad_bias = depthwise3d_backward(grad, x, filters, ctx.plan, for_input, for_weight)
    return (
        grad_x if for_input else None,
        grad_filters if for_weight else None,
        grad_bias if for_weight and ctx.has_bias else None,
        None,
    )


depthwise3d.register_autograd(_differentiate, setup_context=_keep)


def filters_of(weight: torch.Tensor) -> torch.Tensor:
    """The weight of a depthwise `Conv3d`, (C, 1, K, K, K), as filters (K, K, K, C)."""
    return weight.flatten(1).t().reshape(*weight.shape[2:], weight.shape[0])


# ---------------------------------------------------------------------- what the operators do


def _convolved(
    x: torch.Tensor, filters: torch.Tensor, bias: torch.Tensor | None, tile: list[int], *, flip: bool
) -> torch.Tensor:
    def stock() -> torch.Tensor:
        volume, weight = _volume(x, tile), filters.permute(3, 0, 1, 2)[:, None].to(x.dtype).contiguous()
        padding, channels = weight.shape[-1] // 2, len(weight)
        if flip:
            found = conv3d_input(volume.shape, weight, volume, padding=padding, groups=channels)
        else:
            found = F.conv3d(
                volume, weight, None if bias is None else bias.to(x.dtype), padding=padding, groups=channels
            )
        return found.permute(0, 2, 3, 4, 1).contiguous()

    def ours() -> torch.Tensor:
        from adnext_plugin.networks.kernels.depthwise_triton import convolve

        tokens, planes, rows, width, unroll = tile
        (batch, z, y, along, channels), kernel_size = x.shape, filters.shape[0]
        out = torch.empty_like(x)
        programs = batch * ceil_div(z, planes) * ceil_div(y, rows) * ceil_div(along, tokens)
        with on_device_of(x):
            convolve[(programs, ceil_div(channels, width))](
                x, filters, filters if bias is None else bias, out, z, y, along, channels, kernel_size,
                planes, tokens, rows, width, bool(unroll), flip, bias is not None, num_warps=rows,
            )  # fmt: skip
        return out

    return or_stock(ours, stock) if tile[0] else stock()


def _weight_gradient(
    x: torch.Tensor, grad: torch.Tensor, kernel_size: int, tile: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    channels = x.shape[-1]

    def stock() -> tuple[torch.Tensor, torch.Tensor]:
        shape = (channels, 1, *[kernel_size] * 3)
        volumes = _volume(x, tile), _volume(grad, tile)
        found = conv3d_weight(volumes[0], shape, volumes[1], padding=kernel_size // 2, groups=channels)
        return filters_of(found).float().contiguous(), grad.sum(dim=(0, 1, 2, 3), dtype=torch.float32)

    def ours() -> tuple[torch.Tensor, torch.Tensor]:
        from adnext_plugin.networks.kernels.depthwise_triton import weight_gradient

        tokens, rows, width, chunks, merge = tile
        batch, z, y, along, _ = x.shape
        parts = chunks if merge else chunks * rows
        partial = torch.empty(parts, kernel_size**3 + 1, channels, dtype=torch.float32, device=x.device)
        with on_device_of(x):
            weight_gradient[(chunks, kernel_size, ceil_div(channels, width))](
                x, grad, partial, batch, chunks, z, y, along, channels, kernel_size,
                tokens, rows, width, bool(merge), num_warps=rows,
            )  # fmt: skip
        taps = partial[:, :-1].sum(dim=0).view(*[kernel_size] * 3, channels)
        return taps, partial[:, -1].sum(dim=0)

    return or_stock(ours, stock) if tile[0] else stock()


def _volume(tokens: torch.Tensor, tile: list[int]) -> torch.Tensor:
    volume = tokens.permute(0, 4, 1, 2, 3)
    return volume if tile[0] or tile[1] else volume.contiguous()


def _numbers(part: ConvolutionTile | WeightTile | str) -> list[int]:
    if isinstance(part, str):
        return [0, int(part == CHANNELS_LAST), 0, 0, 0]
    return [int(number) for number in astuple(part)]
