"""LayerNorm over the channels of tokens, as an operator of torch in Triton with its gradient."""

import torch

from adnext_plugin.networks.kernels.triton_here import ceil_div, on_device_of, or_stock, power_of_two

VALUES = 2048  # that a program holds at a time
PROGRAMS = 264  # that keep a GPU busy
WARPS = 4


@torch.library.custom_op("adnext::layer_norm", mutates_args=())
def layer_norm(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `torch.nn.functional.layer_norm` over the last axis, computed in float32.

    Args:
        x: tokens (..., C).
        weight, bias: (C,).
        eps: added to the variance.
        dtype: of the result.

    Returns:
        The result, and each token's mean and reciprocal standard deviation in float32.
    """
    x = x.contiguous()
    return or_stock(lambda: _forward(x, weight, bias, eps, dtype), lambda: _stock(x, weight, bias, eps, dtype))


def _forward(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    from adnext_plugin.networks.kernels.layer_norm_triton import normalise

    channels, count, rows = _work(x)
    out = torch.empty_like(x, dtype=dtype)
    mean, inverse = (torch.empty(count, dtype=torch.float32, device=x.device) for _ in range(2))
    with on_device_of(x):
        normalise[(ceil_div(count, rows),)](
            x, weight, bias, out, mean, inverse, count, eps, channels, rows, power_of_two(channels), num_warps=WARPS
        )
    return out, mean, inverse


@torch.library.custom_op("adnext::layer_norm_backward", mutates_args=())
def layer_norm_backward(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, mean: torch.Tensor, inverse: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of tokens, and of weight and bias, (2, C)."""
    x, grad = x.contiguous(), grad.contiguous()
    return or_stock(
        lambda: _backward(grad, x, weight, mean, inverse), lambda: _stock_gradients(grad, x, weight, mean, inverse)
    )


def _backward(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, mean: torch.Tensor, inverse: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    from adnext_plugin.networks.kernels.layer_norm_triton import gradients

    channels, count, rows = _work(x)
    programs = min(PROGRAMS, ceil_div(count, rows))
    partial = torch.empty(2, programs, channels, dtype=torch.float32, device=x.device)
    grad_x = torch.empty_like(x)
    with on_device_of(x):
        gradients[(programs,)](
            x, grad, weight, mean, inverse, grad_x, partial, count, channels, rows, power_of_two(channels),
            num_warps=WARPS,
        )  # fmt: skip
    return grad_x, partial.sum(dim=1)


@layer_norm.register_fake
def _(x, weight, bias, eps, dtype):
    count = x.numel() // x.shape[-1]
    out = torch.empty_like(x, dtype=dtype, memory_format=torch.contiguous_format)
    return out, x.new_empty(count, dtype=torch.float32), x.new_empty(count, dtype=torch.float32)


@layer_norm_backward.register_fake
def _(grad, x, weight, mean, inverse):
    return torch.empty_like(x, memory_format=torch.contiguous_format), mean.new_empty(2, x.shape[-1])


def _keep(ctx, inputs, output) -> None:
    x, weight, _, _, _ = inputs
    ctx.save_for_backward(x, weight, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _differentiate(ctx, grad: torch.Tensor | None, *_: torch.Tensor | None) -> tuple[torch.Tensor | None, ...]:
    if grad is None:
        return (None,) * 5
    x, weight, mean, inverse = ctx.saved_tensors
    grad_x, grad_weights = layer_norm_backward(grad, x, weight, mean, inverse)
    return grad_x, *grad_weights.unbind(), None, None


layer_norm.register_autograd(_differentiate, setup_context=_keep)


def _stock(
    x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The same by PyTorch's operators."""
    out, mean, inverse = torch.native_layer_norm(x.float(), x.shape[-1:], weight.float(), bias.float(), eps)
    return out.to(dtype), mean.flatten(), inverse.flatten()


def _stock_gradients(
    grad: torch.Tensor, x: torch.Tensor, weight: torch.Tensor, mean: torch.Tensor, inverse: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    of_token = (*x.shape[:-1], 1)
    grad_x, grad_weight, grad_bias = torch.ops.aten.native_layer_norm_backward(
        grad.float(), x.float(), x.shape[-1:], mean.view(of_token), inverse.view(of_token), weight.float(),
        torch.zeros_like(weight, dtype=torch.float32), [True] * 3,
    )  # fmt: skip
    return grad_x.to(x.dtype), torch.stack([grad_weight, grad_bias])


def _work(x: torch.Tensor) -> tuple[int, int, int]:
    """Channels, tokens, and tokens that a program takes at a time."""
    channels = x.shape[-1]
    return channels, x.numel() // channels, max(1, min(32, VALUES // power_of_two(channels)))
