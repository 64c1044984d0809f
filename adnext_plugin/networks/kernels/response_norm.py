"""GELU followed by global response norm, as an operator of torch in Triton with its gradient.

Tokens are (N, ..., C) in any precision; weights, sums and the norm that is kept are float32.
"""

import torch
import torch.nn.functional as F

from adnext_plugin.networks.kernels.triton_here import ceil_div, on_device_of, or_stock, power_of_two
from adnext_plugin.networks.layers.relative_response import gradient_through_norm, relative_response

ROWS, WIDTH = 16, 64  # tokens and channels that a program takes at a time
WARPS = 4
PROGRAMS = 512  # that keep a GPU busy


@torch.library.custom_op("adnext::gelu_response_norm", mutates_args=())
def gelu_response_norm(
    x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, offsets: torch.Tensor | None, samples: int, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """`beta + a (1 + gamma N)` with a = gelu(x) and N as in `GlobalResponseNorm`.

    Args:
        x: tokens (N, ..., C), sample after sample.
        gamma, beta: (C,).
        offsets: where the first axis counts patches, the first one of each sample and at the end their number,
            (samples + 1,) in int32; None where it counts samples.
        samples: how many there are.
        eps: added to the mean norm.

    Returns:
        The result, and the norms (samples, C) in float32.
    """
    x = x.contiguous()
    return or_stock(
        lambda: _forward(x, gamma, beta, offsets, samples, eps), lambda: _stock(x, gamma, beta, offsets, samples, eps)
    )


def _forward(
    x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, offsets: torch.Tensor | None, samples: int, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    from adnext_plugin.networks.kernels import response_norm_triton as kernels

    channels, tokens, grid = _work(x, samples, offsets)
    partial = _sums(x, samples, grid[1], channels)
    norm, scale = (_sums(x, samples, channels) for _ in range(2))
    out, ragged = torch.empty_like(x), offsets is not None
    places = offsets if offsets is not None else gamma
    with on_device_of(x):
        kernels.squares[grid](x, places, partial, tokens, channels, ROWS, WIDTH, ragged, num_warps=WARPS)
        whole = power_of_two(channels)
        kernels.scale[(samples,)](partial, gamma, norm, scale, eps, grid[1], channels, whole, num_warps=WARPS)
        kernels.apply[grid](x, scale, beta, out, places, tokens, channels, ROWS, WIDTH, ragged, num_warps=WARPS)
    return out, norm


@torch.library.custom_op("adnext::gelu_response_norm_backward", mutates_args=())
def gelu_response_norm_backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    gamma: torch.Tensor,
    norm: torch.Tensor,
    offsets: torch.Tensor | None,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of tokens, and of gamma and beta, (2, C)."""
    x, grad = x.contiguous(), grad.contiguous()
    return or_stock(
        lambda: _backward(grad, x, gamma, norm, offsets, eps),
        lambda: _stock_gradients(grad, x, gamma, norm, offsets, eps),
    )


def _backward(
    grad: torch.Tensor,
    x: torch.Tensor,
    gamma: torch.Tensor,
    norm: torch.Tensor,
    offsets: torch.Tensor | None,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    from adnext_plugin.networks.kernels import response_norm_triton as kernels

    samples = len(norm)
    channels, tokens, grid = _work(x, samples, offsets)
    partial = _sums(x, 2, samples, grid[1], channels)
    scale, through = (_sums(x, samples, channels) for _ in range(2))
    of_weights = _sums(x, 2, samples, channels)
    grad_x, ragged = torch.empty_like(x), offsets is not None
    places = offsets if offsets is not None else gamma
    with on_device_of(x):
        kernels.grad_sums[grid](x, grad, places, partial, tokens, channels, ROWS, WIDTH, ragged, num_warps=WARPS)
        kernels.grad_scale[(samples,)](
            partial, gamma, norm, scale, through, of_weights, eps, grid[1], channels, power_of_two(channels),
            num_warps=WARPS,
        )  # fmt: skip
        kernels.grad_apply[grid](
            x, grad, scale, through, grad_x, places, tokens, channels, ROWS, WIDTH, ragged, num_warps=WARPS
        )
    return grad_x, of_weights.sum(dim=1)


@gelu_response_norm.register_fake
def _(x, gamma, beta, offsets, samples, eps):
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    return out, x.new_empty(samples, x.shape[-1], dtype=torch.float32)


@gelu_response_norm_backward.register_fake
def _(grad, x, gamma, norm, offsets, eps):
    return torch.empty_like(x, memory_format=torch.contiguous_format), norm.new_empty(2, x.shape[-1])


def _keep(ctx, inputs, output) -> None:
    x, gamma, _, offsets, _, eps = inputs
    ctx.save_for_backward(x, gamma, output[1], offsets)
    ctx.eps = eps
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _differentiate(ctx, grad: torch.Tensor | None, _: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    if grad is None:
        return (None,) * 6
    x, gamma, norm, offsets = ctx.saved_tensors
    grad_x, grad_weights = gelu_response_norm_backward(grad, x, gamma, norm, offsets, ctx.eps)
    return grad_x, *grad_weights.unbind(), None, None, None


gelu_response_norm.register_autograd(_differentiate, setup_context=_keep)


def _stock(
    x: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, offsets: torch.Tensor | None, samples: int, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by PyTorch's operators."""
    activated = F.gelu(x.float())
    owner = _owner(x, offsets)
    norm = _summed(activated.square(), owner, samples).sqrt()
    scale = 1 + gamma * relative_response(norm, eps)
    return (beta + activated * _spread(scale, owner, x)).to(x.dtype), norm


def _stock_gradients(
    grad: torch.Tensor,
    x: torch.Tensor,
    gamma: torch.Tensor,
    norm: torch.Tensor,
    offsets: torch.Tensor | None,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    owner, wide, grad = _owner(x, offsets), x.float(), grad.float()
    activated = F.gelu(wide)
    of_scale = _summed(grad * activated, owner, len(norm))
    relative, through = relative_response(norm, eps), gradient_through_norm(norm, gamma * of_scale, eps)
    of_activated = grad * _spread(1 + gamma * relative, owner, x) + activated * _spread(through, owner, x)
    grad_x = torch.ops.aten.gelu_backward(of_activated, wide).to(x.dtype)
    return grad_x, torch.stack([(of_scale * relative).sum(dim=0), grad.flatten(0, -2).sum(dim=0)])


def _owner(x: torch.Tensor, offsets: torch.Tensor | None) -> torch.Tensor:
    """Which sample each entry of the first axis belongs to."""
    entries = torch.arange(len(x), device=x.device)
    return entries if offsets is None else torch.bucketize(entries, offsets[1:].long(), right=True)


def _summed(tokens: torch.Tensor, owner: torch.Tensor, samples: int) -> torch.Tensor:
    of_entries = tokens.flatten(1, -2).sum(dim=1)
    return of_entries.new_zeros(samples, tokens.shape[-1]).index_add(0, owner, of_entries)


def _spread(of_samples: torch.Tensor, owner: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return of_samples.index_select(0, owner).view(len(x), *[1] * (x.dim() - 2), -1)


def _work(x: torch.Tensor, samples: int, offsets: torch.Tensor | None) -> tuple[int, int, tuple[int, int, int]]:
    """Channels, tokens of a sample (or of a patch), and the grid: samples, pieces of each, blocks of channels."""
    channels = x.shape[-1]
    tokens = x[0].numel() // channels if offsets is not None else x.numel() // channels // samples
    blocks = ceil_div(channels, WIDTH)
    longest = ceil_div(x.numel() // channels, samples)
    chunks = max(1, min(ceil_div(longest, ROWS), ceil_div(PROGRAMS, samples * blocks)))
    return channels, tokens, (samples, chunks, blocks)


def _sums(x: torch.Tensor, *shape: int) -> torch.Tensor:
    return torch.empty(shape, dtype=torch.float32, device=x.device)
