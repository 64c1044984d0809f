"""Depthwise 3D convolution among visible patches, (N, p, p, p, C), as an operator of torch in Triton."""

import torch

from adnext_plugin.networks.kernels.triton_here import ceil_div, on_device_of, power_of_two

ROWS = 4
FILTER_ROWS = 4  # along Y, for which a program sums up the filter's gradient
PROGRAMS = 528  # that keep a GPU busy


@torch.library.custom_op("adnext::depthwise3d_visible", mutates_args=())
def depthwise3d_visible(
    x: torch.Tensor, filters: torch.Tensor, bias: torch.Tensor | None, neighbours: torch.Tensor
) -> torch.Tensor:
    """Convolve the tokens of visible patches; masked ones count as zero.

    Args:
        x: (N, p, p, p, C), with p at least K // 2.
        filters: (K, K, K, C).
        bias: (C,).
        neighbours: (N, 3, 3, 3) in int32, which patch lies next to each along z, y, x, or -1.
    """
    return _convolved(x.contiguous(), filters.contiguous(), bias, neighbours, flip=False)


@torch.library.custom_op("adnext::depthwise3d_visible_backward", mutates_args=())
def depthwise3d_visible_backward(
    grad: torch.Tensor, x: torch.Tensor, filters: torch.Tensor, neighbours: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of tokens, and of filters and bias, (K³ + 1, C)."""
    from adnext_plugin.networks.kernels.depthwise_visible_triton import weight_gradient_visible

    grad, x = grad.contiguous(), x.contiguous()
    grad_x = _convolved(grad, filters.contiguous(), None, neighbours, flip=True)
    side, channels, kernel_size = x.shape[1], x.shape[4], filters.shape[0]
    rows, width = x.shape[0] * side * side, _width(channels)
    filter_rows = min(FILTER_ROWS, kernel_size)
    groups = kernel_size * ceil_div(kernel_size, filter_rows)
    blocks = ceil_div(channels, width)
    chunks = max(1, min(ceil_div(rows, ROWS), ceil_div(PROGRAMS, groups * blocks)))
    partial = torch.empty(chunks * ROWS, kernel_size**3 + 1, channels, dtype=torch.float32, device=x.device)
    with on_device_of(x):
        weight_gradient_visible[(chunks, groups, blocks)](
            x, grad, partial, neighbours, rows, chunks, side, channels, kernel_size, filter_rows, ROWS, width,
            num_warps=ROWS,
        )  # fmt: skip
    return grad_x, partial.sum(dim=0)


@depthwise3d_visible.register_fake
def _(x, filters, bias, neighbours):
    return torch.empty_like(x, memory_format=torch.contiguous_format)


@depthwise3d_visible_backward.register_fake
def _(grad, x, filters, neighbours):
    grad_x = torch.empty_like(x, memory_format=torch.contiguous_format)
    return grad_x, filters.new_empty(filters.shape[0] ** 3 + 1, filters.shape[-1])


def _keep(ctx, inputs, output) -> None:
    x, filters, bias, neighbours = inputs
    ctx.save_for_backward(x, filters, neighbours)
    ctx.has_bias = bias is not None


def _differentiate(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    x, filters, neighbours = ctx.saved_tensors
    grad_x, grad_weight = depthwise3d_visible_backward(grad, x, filters, neighbours)
    return grad_x, grad_weight[:-1].view(filters.shape), grad_weight[-1] if ctx.has_bias else None, None


depthwise3d_visible.register_autograd(_differentiate, setup_context=_keep)


def _convolved(
    x: torch.Tensor, filters: torch.Tensor, bias: torch.Tensor | None, neighbours: torch.Tensor, *, flip: bool
) -> torch.Tensor:
    from adnext_plugin.networks.kernels.depthwise_visible_triton import convolve_visible

    side, channels = x.shape[1], x.shape[4]
    rows, width = x.shape[0] * side * side, _width(channels)
    out = torch.empty_like(x)
    with on_device_of(x):
        convolve_visible[(ceil_div(rows, ROWS), ceil_div(channels, width))](
            x, filters, filters if bias is None else bias, out, neighbours, rows, side, channels, filters.shape[0],
            ROWS, width, flip, bias is not None, num_warps=ROWS,
        )  # fmt: skip
    return out


def _width(channels: int) -> int:
    return min(64, max(16, power_of_two(channels)))
