"""Depthwise 3D convolution among visible patches, (N, p, p, p, C), as an operator of torch in Triton.

Patches are cut into cells, see `depthwise_cells_triton`. Where the cells lie is said by tables, which are made once
for a mask and serve all convolutions of a stage.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch.nn.grad import conv3d_weight

from adnext_plugin.networks.kernels.depthwise import PLANES, program_width, weight_gradient_by_planes
from adnext_plugin.networks.kernels.triton_here import ceil_div, on_device_of, or_stock

PROGRAMS = 1056  # warps that keep a GPU busy with the filter's gradient, at 8 to each processor of an H100
PAIRS = 8  # of small cells that a program of the filter's gradient takes at a time
PAIRS_OF_CHUNK, CHUNKS = 256, 4
VALUES_AT_A_TIME = 1 << 24  # that PyTorch is given of cells with what is around them


def cell_edge(side: int, kernel_size: int) -> int:
    """Tokens along the edge of a cell, for patches of so many along theirs."""
    if side % PLANES == 0 and kernel_size // 2 <= PLANES:
        return PLANES
    return 2 if side % 2 == 0 else 1


def reach(edge: int, kernel_size: int) -> int:
    """Cells that a convolution looks at to each side."""
    return ceil_div(kernel_size // 2, edge)


def tables_of(around: torch.Tensor, edge: int) -> list[torch.Tensor]:
    """What the operator needs to know of a mask; computed on the device, without waiting for it.

    Args:
        around: (cells, W, W, W) in int32, the first token of each cell around one, -1 where none is visible; W is
            twice the reach, and one for the cell itself.
        edge: of the cells.
    """
    if edge == PLANES:
        return [around]
    cells, places = len(around), around[0].numel()
    near = around.view(cells, places)
    own, known = near[:, places // 2], near >= 0
    every_place = torch.arange(places, dtype=torch.int32, device=near.device).expand_as(near)
    pairs = own[None].expand(places, cells), near.t()
    return [own.contiguous(), *_kept(known, near, every_place), *_kept(known.t(), *pairs)]


def _kept(known: torch.Tensor, *values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """In each row what is `known`, one after the other, of each of the values (rows, n), and how many that is."""
    rows, length = known.shape
    place = torch.where(known, known.cumsum(1) - 1, length)
    kept = [value.new_zeros(rows, length + 1).scatter_(1, place, value)[:, :length] for value in values]
    return torch.stack(kept), known.sum(1, dtype=torch.int32)


@torch.library.custom_op("adnext::depthwise3d_visible", mutates_args=())
def depthwise3d_visible(
    x: torch.Tensor, filters: torch.Tensor, bias: torch.Tensor | None, edge: int, tables: Sequence[torch.Tensor]
) -> torch.Tensor:
    """Convolve the tokens of visible patches; masked ones count as zero.

    Args:
        x: (N, p, p, p, C).
        filters: (K, K, K, C).
        bias: (C,).
        edge: as `cell_edge` says.
        tables: as `tables_of` makes them.
    """
    return _convolved(x.contiguous(), filters.contiguous(), bias, edge, tables, flip=False)


@torch.library.custom_op("adnext::depthwise3d_visible_backward", mutates_args=())
def depthwise3d_visible_backward(
    grad: torch.Tensor, x: torch.Tensor, filters: torch.Tensor, edge: int, tables: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of tokens, and of filters and bias, (K³ + 1, C)."""
    grad, x, filters = grad.contiguous(), x.contiguous(), filters.contiguous()

    def ours() -> tuple[torch.Tensor, torch.Tensor]:
        grad_x = _convolved(grad, filters, None, edge, tables, flip=True)
        of_filters = _by_planes if edge == PLANES else _by_cells
        return grad_x, of_filters(x, grad, filters.shape[0], edge, tables)

    return or_stock(ours, lambda: _stock_gradients(grad, x, filters, edge, tables))


@depthwise3d_visible.register_fake
def _(x, filters, bias, edge, tables):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@depthwise3d_visible_backward.register_fake
def _(grad, x, filters, edge, tables):
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    return grad_x, filters.new_empty(filters.shape[0] ** 3 + 1, filters.shape[-1])


def _keep(ctx, inputs, output) -> None:
    x, filters, bias, edge, tables = inputs
    ctx.save_for_backward(x, filters, *tables)
    ctx.has_bias, ctx.edge = bias is not None, edge


def _differentiate(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | list[None] | None, ...]:
    x, filters, *tables = ctx.saved_tensors
    grad_x, grad_weight = depthwise3d_visible_backward(grad, x, filters, ctx.edge, tables)
    bias = grad_weight[-1] if ctx.has_bias else None
    return grad_x, grad_weight[:-1].view(filters.shape), bias, None, [None] * len(tables)


depthwise3d_visible.register_autograd(_differentiate, setup_context=_keep)


def _convolved(
    x: torch.Tensor,
    filters: torch.Tensor,
    bias: torch.Tensor | None,
    edge: int,
    tables: Sequence[torch.Tensor],
    *,
    flip: bool,
) -> torch.Tensor:
    from adnext_plugin.networks.kernels import depthwise_cells_triton as kernels

    (side, channels), kernel_size = x.shape[3:], filters.shape[0]
    width, given = program_width(channels), (x, filters, filters if bias is None else bias)
    out, cells, blocks = torch.empty_like(x), len(tables[0]), ceil_div(channels, width)
    constants = {"S": side, "C": channels, "K": kernel_size, "E": edge, "BC": width}
    constants |= {"FLIP": flip, "BIAS": bias is not None, "num_warps": 1}
    with on_device_of(x):
        if edge == PLANES:
            kernels.convolve_planes[(cells * edge, blocks)](*given, out, *tables, **constants)
        else:
            wide = 2 * reach(edge, kernel_size) + 1
            kernels.convolve_cells[(cells, blocks)](*given, out, *tables[:3], cells, W=wide, **constants)
    return out


def _by_planes(
    x: torch.Tensor, grad: torch.Tensor, kernel_size: int, edge: int, tables: Sequence[torch.Tensor]
) -> torch.Tensor:
    width = program_width(x.shape[4])
    chunks = max(1, min(len(tables[0]), ceil_div(PROGRAMS, kernel_size * ceil_div(x.shape[4], width))))
    return weight_gradient_by_planes(x, grad, kernel_size, width, chunks, tables[0], edge)


def _by_cells(
    x: torch.Tensor, grad: torch.Tensor, kernel_size: int, edge: int, tables: Sequence[torch.Tensor]
) -> torch.Tensor:
    from adnext_plugin.networks.kernels import depthwise_cells_triton as kernels

    (side, channels), cells = x.shape[3:], len(tables[0])
    width = program_width(channels)
    blocks = ceil_div(channels, width)
    chunks = max(1, min(CHUNKS, cells // PAIRS_OF_CHUNK))
    wide, shifts = 2 * reach(edge, kernel_size) + 1, 2 * edge - 1
    partial = torch.empty(chunks, wide**3, shifts**3, channels, dtype=torch.float32, device=x.device)
    found = torch.empty(kernel_size**3 + 1, channels, dtype=torch.float32, device=x.device)
    with on_device_of(x):
        kernels.weight_gradient_of_cells[(chunks, wide**3, blocks)](
            x, grad, partial, *tables[3:], cells, side, channels, edge, PAIRS, width, num_warps=PAIRS
        )
        kernels.add_up_cells[(kernel_size**3, blocks)](
            partial, found, chunks, channels, kernel_size, edge, wide, width, num_warps=1
        )
    torch.sum(grad, dim=(0, 1, 2, 3), dtype=torch.float32, out=found[-1])
    return found


def _stock_gradients(
    grad: torch.Tensor, x: torch.Tensor, filters: torch.Tensor, edge: int, tables: Sequence[torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by PyTorch's operators, in float32: some cells at a time, each with what is visible around it."""
    channels, half = x.shape[-1], filters.shape[0] // 2
    weight = filters.permute(3, 0, 1, 2)[:, None].float()
    rows = _rows_around(tables, x.shape[3], edge, half)
    # the last row: where no token is visible
    known_x, known_grad = (torch.cat([t.view(-1, channels), t.new_zeros(1, channels)]).float() for t in (x, grad))
    grad_x, taps = torch.empty_like(x).view(-1, channels), torch.zeros_like(weight)
    inside = slice(half, half + edge)
    for around in rows.split(max(1, VALUES_AT_A_TIME // (rows[0].numel() * channels))):
        cell = around[:, inside, inside, inside]
        of_cell = F.conv3d(_volumes(known_grad, around), weight.flip(2, 3, 4), groups=channels)
        grad_x[cell.flatten()] = of_cell.permute(0, 2, 3, 4, 1).reshape(-1, channels).to(x.dtype)
        seen, given = _volumes(known_x, around), _volumes(known_grad, cell)
        taps += conv3d_weight(seen, weight.shape, given, groups=channels)
    bias = torch.sum(grad, dim=(0, 1, 2, 3), dtype=torch.float32)
    return grad_x.view_as(x), torch.cat([taps.flatten(1).t(), bias[None]])


def _volumes(rows: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return rows[places].permute(0, 4, 1, 2, 3).contiguous()


def _rows_around(tables: Sequence[torch.Tensor], side: int, edge: int, half: int) -> torch.Tensor:
    """(cells, w, w, w): the tokens of each cell and of a margin of so many around it; -1 where none is visible."""
    around = tables[0] if len(tables) == 1 else _around(tables)
    at = torch.arange(-half, edge + half, device=around.device)
    cell, within = at.div(edge, rounding_mode="floor") + around.shape[1] // 2, at % edge
    first = around[:, cell][:, :, cell][..., cell].long()
    place = (within[:, None, None] * side + within[:, None]) * side + within
    return torch.where(first >= 0, first + place, -1)


def _around(tables: Sequence[torch.Tensor]) -> torch.Tensor:
    """What `tables_of` was given, from what it made of that."""
    (first, where), count = tables[1], tables[2]
    cells, places = first.shape
    is_kept = torch.arange(places, device=first.device) < count[:, None]
    around = first.new_full((cells, places + 1), -1)
    around.scatter_(1, torch.where(is_kept, where, places).long(), first)
    width = round(places ** (1 / 3))
    return around[:, :places].view(cells, width, width, width)
