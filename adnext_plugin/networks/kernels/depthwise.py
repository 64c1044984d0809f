"""Depthwise 3D convolution of tokens as an operator of torch, computed by our kernels or PyTorch's as a plan says.

As operators they stay whole under `torch.compile`, and their gradients are operators, too. Tokens are (B, Z, Y, X, C)
in any precision, filters (K, K, K, C) and biases float32; sums are float32.
"""

import math
from collections.abc import Sequence
from dataclasses import astuple

import torch
import torch.nn.functional as F
from torch.nn.grad import conv3d_input, conv3d_weight

from adnext_plugin.networks.kernels.triton_here import ceil_div, on_device_of, or_stock, power_of_two
from adnext_plugin.records import record

ROWS = 4  # along Y that a program computes, one for each warp
SMALLEST_WIDTH = 16
PLANES = 4  # edge of the cells of which a plane is taken at a time
CONTIGUOUS, CHANNELS_LAST = "contiguous", "channels_last"


@record
class ConvolutionTile:
    """What a program of the convolution, or of its input gradient, computes."""

    tokens: int  # along X
    planes: int = 1  # along Z
    rows: int = ROWS  # along Y, a warp each
    channels: int = 64
    schedule: int = 0  # as in `convolve`


@record
class WeightTile:
    """What a program of the filter's gradient takes at a time, and how many share the work."""

    tokens: int
    rows: int = ROWS
    channels: int = 64
    filter_rows: int = 7  # of the filter, along Y, in one program
    chunks: int = 1
    merge: bool = False  # sum up over a program's rows before writing
    by_planes: bool = False  # by `weight_gradient_by_planes`, for which only channels and chunks are of meaning


@record
class DepthwisePlan:
    """How a convolution and its gradients are computed: a tile of our kernels, or a layout for PyTorch's."""

    forward: ConvolutionTile | str
    grad_input: ConvolutionTile | str
    grad_weight: WeightTile | str

    def numbers(self) -> list[int]:
        """As the operators take it: five, five and seven numbers, of PyTorch's 0 and whether channels come last."""
        return [*numbers_of(self.forward, 5), *numbers_of(self.grad_input, 5), *numbers_of(self.grad_weight, 7)]


def default_plan(size: Sequence[int], channels: int, batch: int, processors: int = 132) -> DepthwisePlan:
    """The plan of all candidates that come first."""
    tile = convolution_tiles(size, channels)[0]
    weight = weight_tiles(size, channels, batch, processors)[0]
    return DepthwisePlan(forward=tile, grad_input=tile, grad_weight=weight)


@torch.compiler.assume_constant_result  # torch.compile cannot look into records
def default_numbers(batch: int, z: int, y: int, x: int, channels: int) -> list[int]:
    """`default_plan` as the operators take it."""
    return default_plan((z, y, x), channels, batch).numbers()


def convolution_tiles(size: Sequence[int], channels: int) -> list[ConvolutionTile]:
    """Tiles that are fast on some GPU, the best of an H100 first.

    Args:
        size: tokens along Z, Y and X.
        channels: C.
    """
    width = program_width(channels)
    along = size[2]
    if along > 16:
        along = along if along <= 32 else 16
        found = [(along, 1, width, 0), (16, 1, width, 2), (along, 1, width // 2, 2), (along, 1, width, 2)]
    elif along > 8:
        found = [(along, 1, width, 1), (along, 1, width, 2), (along, 1, 2 * width, 0), (along, 2, width, 2)]
    else:
        planes = 2 if along > 4 else 1
        found = [(along, planes, width, 1), (along, planes, width, 2), (along, 1, width, 2), (along, 2, width, 2)]
    tiles = [
        ConvolutionTile(tokens=tokens, planes=planes, channels=wide, schedule=schedule)
        for tokens, planes, wide, schedule in found
        if SMALLEST_WIDTH <= wide <= max(width, channels)
    ]
    return list(dict.fromkeys(tiles))


def weight_tiles(
    size: Sequence[int], channels: int, batch: int, processors: int, kernel_size: int = 7
) -> list[WeightTile]:
    """As `convolution_tiles`, for batches of B and filters of an edge K on a GPU with so many processors."""
    width = program_width(channels)
    if size[2] > 16:
        found = [(8, 7, 4), (8, 4, 8), (16, 4, 8)]
    elif size[2] > 8:
        found = [(size[2], 7, 2), (8, 7, 2), (size[2], 4, 4)]
    else:
        found = [(size[2], 7, 2), (size[2], 4, 4), (size[2], 4, 2)]
    tiles = []
    for tokens, filter_rows, programs in found:
        work = batch * size[0] * ceil_div(size[1], ROWS) * ceil_div(size[2], tokens)
        groups = ceil_div(kernel_size, min(filter_rows, kernel_size))
        wanted = ceil_div(programs * processors, kernel_size * groups * ceil_div(channels, width))
        chunks = max(1, min(work, wanted))
        tiles.append(WeightTile(tokens=tokens, channels=width, filter_rows=filter_rows, chunks=chunks))
    if all(length % PLANES == 0 for length in size):
        cells = batch * math.prod(length // PLANES for length in size)
        for warps in (8, 12):
            chunks = max(1, min(cells, ceil_div(warps * processors, kernel_size * ceil_div(channels, width))))
            tiles.append(WeightTile(tokens=PLANES, rows=1, channels=width, chunks=chunks, by_planes=True))
    return list(dict.fromkeys(tiles))


def program_width(channels: int) -> int:
    """Channels that a program takes."""
    return min(64, max(SMALLEST_WIDTH, power_of_two(channels)))


@torch.library.custom_op("adnext::depthwise3d", mutates_args=())
def depthwise3d(
    x: torch.Tensor, filters: torch.Tensor, bias: torch.Tensor | None, plan: list[int], of_volumes: bool = False
) -> torch.Tensor:
    """Convolve tokens (B, Z, Y, X, C) with filters (K, K, K, C), stride 1, to the same size.

    Args:
        x: the tokens.
        filters: in float32.
        bias: (C,) in float32.
        plan: as `DepthwisePlan.numbers` has it.
        of_volumes: whether tokens and results, and their gradients, lie in memory as contiguous volumes
            (B, C, Z, Y, X) do; else channels come last there, too.
    """
    return convolved(x, filters.contiguous(), bias, plan[:5], flip=False, of_volumes=of_volumes)


@torch.library.custom_op("adnext::depthwise3d_backward", mutates_args=())
def depthwise3d_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    filters: torch.Tensor,
    plan: list[int],
    for_input: bool,
    for_weight: bool,
    of_volumes: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of tokens, and of filters and bias, (K³ + 1, C); empty ones that nobody asked for."""
    if not of_volumes or (_takes_channels_last(plan[5:10]) and _takes_channels_last(plan[10:])):
        grad = grad.contiguous()  # once, for both
    grad_x = x.new_empty(0)
    if for_input:
        grad_x = convolved(grad, filters.contiguous(), None, plan[5:10], flip=True, of_volumes=of_volumes)
    if not for_weight:
        return grad_x, filters.new_empty(0)
    return grad_x, summed_weight_gradient(x, grad, filters.shape[0], plan[10:])


@depthwise3d.register_fake
def _(x, filters, bias, plan, of_volumes=False):
    return _placed(torch.empty_like(x, memory_format=torch.contiguous_format), of_volumes)


@depthwise3d_backward.register_fake
def _(grad, x, filters, plan, for_input, for_weight, of_volumes=False):
    like_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    grad_x = _placed(like_x, of_volumes) if for_input else x.new_empty(0)
    if not for_weight:
        return grad_x, filters.new_empty(0)
    return grad_x, filters.new_empty(filters.shape[0] ** 3 + 1, filters.shape[-1])


def _keep(ctx, inputs, output) -> None:
    x, filters, bias, plan, of_volumes = inputs
    ctx.save_for_backward(x, filters)
    ctx.has_bias, ctx.plan, ctx.of_volumes = bias is not None, plan, of_volumes


def _differentiate(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    x, filters = ctx.saved_tensors
    for_input, for_weight = ctx.needs_input_grad[0], ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
    grad_x, grad_weight = depthwise3d_backward(grad, x, filters, ctx.plan, for_input, for_weight, ctx.of_volumes)
    return (
        grad_x if for_input else None,
        grad_weight[:-1].view(filters.shape) if for_weight else None,
        grad_weight[-1] if for_weight and ctx.has_bias else None,
        None,
        None,
    )


depthwise3d.register_autograd(_differentiate, setup_context=_keep)


def filters_of(weight: torch.Tensor) -> torch.Tensor:
    """The weight of a depthwise `Conv3d`, (C, 1, K, K, K), as filters (K, K, K, C)."""
    return weight.flatten(1).t().reshape(*weight.shape[2:], weight.shape[0])


# ---------------------------------------------------------------------- what the operators do


def convolved(
    x: torch.Tensor,
    filters: torch.Tensor,
    bias: torch.Tensor | None,
    tile: list[int],
    *,
    flip: bool,
    of_volumes: bool = False,
) -> torch.Tensor:
    """The convolution, or with the filters reversed its gradient, as the five numbers of a tile say."""

    def stock() -> torch.Tensor:
        volume, weight = _volume(x, tile), filters.permute(3, 0, 1, 2)[:, None].to(x.dtype).contiguous()
        padding, channels = weight.shape[-1] // 2, len(weight)
        if flip:
            found = conv3d_input(volume.shape, weight, volume, padding=padding, groups=channels)
        else:
            found = F.conv3d(
                volume, weight, None if bias is None else bias.to(x.dtype), padding=padding, groups=channels
            )
        return _placed(found.permute(0, 2, 3, 4, 1), of_volumes)

    def ours() -> torch.Tensor:
        from adnext_plugin.networks.kernels.depthwise_triton import convolve

        tokens, planes, rows, width, schedule = tile
        (batch, z, y, along, channels), kernel_size = x.shape, filters.shape[0]
        given = x.contiguous()
        out = torch.empty_like(given)
        programs = batch * ceil_div(z, planes) * ceil_div(y, rows) * ceil_div(along, tokens)
        with on_device_of(x):
            convolve[(programs, ceil_div(channels, width))](
                given, filters, filters if bias is None else bias, out, z, y, along, channels, kernel_size,
                planes, tokens, rows, width, schedule, flip, bias is not None, num_warps=rows,
            )  # fmt: skip
        return _placed(out, of_volumes)

    return or_stock(ours, stock) if tile[0] else stock()


def summed_weight_gradient(x: torch.Tensor, grad: torch.Tensor, kernel_size: int, tile: list[int]) -> torch.Tensor:
    """(K³ + 1, C): the gradients of the filters' taps, then the bias's."""
    channels = x.shape[-1]

    def stock() -> torch.Tensor:
        shape = (channels, 1, *[kernel_size] * 3)
        volumes = _volume(x, tile), _volume(grad, tile)
        found = conv3d_weight(volumes[0], shape, volumes[1], padding=kernel_size // 2, groups=channels)
        bias = grad.sum(dim=(0, 1, 2, 3), dtype=torch.float32)
        return torch.cat([found.flatten(1).t().float(), bias[None]])

    def ours() -> torch.Tensor:
        tokens, rows, width, filter_rows, chunks, merge, by_planes = tile
        given = x.contiguous(), grad.contiguous()
        if by_planes:
            return weight_gradient_by_planes(*given, kernel_size, width, chunks)

        from adnext_plugin.networks.kernels.depthwise_triton import weight_gradient

        filter_rows = min(filter_rows, kernel_size)
        batch, z, y, along, _ = x.shape
        parts = chunks if merge else chunks * rows
        partial = torch.empty(parts, kernel_size**3 + 1, channels, dtype=torch.float32, device=x.device)
        with on_device_of(x):
            weight_gradient[(chunks, kernel_size * ceil_div(kernel_size, filter_rows), ceil_div(channels, width))](
                *given, partial, batch, chunks, z, y, along, channels, kernel_size, filter_rows,
                tokens, rows, width, bool(merge), num_warps=rows,
            )  # fmt: skip
        return partial.sum(dim=0)

    return or_stock(ours, stock) if tile[0] else stock()


def weight_gradient_by_planes(
    x: torch.Tensor,
    grad: torch.Tensor,
    kernel_size: int,
    width: int,
    chunks: int,
    around: torch.Tensor | None = None,
    edge: int = PLANES,
) -> torch.Tensor:
    """`summed_weight_gradient`, with the products of a plane of a cell and one of those around it at a time.

    Args:
        x, grad: tokens (B, Z, Y, X, C); without `around`, all axes are multiples of the edge.
        kernel_size: K; its half is not larger than the edge, as a cell sees no further than the next.
        width: channels of a program.
        chunks: programs that share the cells.
        around: of patches, where the visible cells around each are, see `depthwise_visible.tables_of`.
        edge: tokens along a cell.
    """
    from adnext_plugin.networks.kernels.depthwise_cells_triton import weight_gradient_of_planes

    (batch, *size), channels = x.shape[:4], x.shape[4]
    grid = [length // edge for length in size] if around is None else [0, 0, 0]
    cells = batch * math.prod(grid) if around is None else len(around)
    partial = torch.empty(chunks, kernel_size**3 + 1, channels, dtype=torch.float32, device=x.device)
    with on_device_of(x):
        weight_gradient_of_planes[(chunks, kernel_size, ceil_div(channels, width))](
            x, grad, partial, x if around is None else around, cells, chunks, size[1] * size[2], size[2], *grid,
            channels, kernel_size, edge, width, num_warps=1,
        )  # fmt: skip
    return partial.sum(dim=0)


def _takes_channels_last(tile: list[int]) -> bool:
    return bool(tile[0] or tile[1])


def _volume(tokens: torch.Tensor, tile: list[int]) -> torch.Tensor:
    """What PyTorch is given, in the layout that it is to compute in; nothing is copied that lies so already."""
    if _takes_channels_last(tile):
        return tokens.contiguous().permute(0, 4, 1, 2, 3)
    return tokens.permute(0, 4, 1, 2, 3).contiguous()


def _placed(tokens: torch.Tensor, of_volumes: bool) -> torch.Tensor:
    """The tokens with channels last in memory, or as those of a contiguous volume lie."""
    if of_volumes:
        return tokens.permute(0, 4, 1, 2, 3).contiguous().permute(0, 2, 3, 4, 1)
    return tokens.contiguous()


def numbers_of(part: ConvolutionTile | WeightTile | str, length: int) -> list[int]:
    """A tile, or a layout for PyTorch's, as numbers."""
    if isinstance(part, str):
        return [0, int(part == CHANNELS_LAST), *[0] * (length - 2)]
    return [int(number) for number in astuple(part)]
