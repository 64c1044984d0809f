"""GELU followed by global response norm, as one step that needs little memory in training.

The widest tensors of the network lie between these two. Done one after the other they leave four of that size in
memory, most of them fresh from the system, page by page; together, in pieces that stay in the processor's cache, only
the result is new, and the gradient keeps nothing but the input. With the linear layer after them, where there are more
tokens than channels that it makes of them, it is less still (`networks.layers.folded_response`). On a GPU, kernels of
our own read and write them as rarely (`networks.kernels.response_norm`).
"""

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable

from adnext_plugin.networks.kernels.response_norm import gelu_response_norm
from adnext_plugin.networks.kernels.triton_here import usable, wanted
from adnext_plugin.networks.layers.folded_response import FoldedResponse, gelu_into
from adnext_plugin.networks.layers.norms import GlobalResponseNorm
from adnext_plugin.networks.layers.patch_counts import PatchCounts
from adnext_plugin.networks.layers.pieces import pieces_of, samples_of
from adnext_plugin.networks.layers.relative_response import gradient_through_norm, relative_response


class GeluResponseNorm(nn.Module):
    """`GlobalResponseNorm(GELU(x))` for tokens (B, Z, Y, X, C); the two modules do the work outside training.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gelu = nn.GELU()
        self.norm = GlobalResponseNorm(channels)
        self._kernels_wanted = wanted()

    def forward(self, x_bzyxc: torch.Tensor, patches: PatchCounts | None = None) -> torch.Tensor:
        """Like `GlobalResponseNorm.forward`."""
        norm = self.norm
        if self._kernels_wanted and x_bzyxc.is_cuda and usable(x_bzyxc):
            offsets, samples = (None, len(x_bzyxc)) if patches is None else (patches.offsets, len(patches.per_sample))
            return gelu_response_norm(x_bzyxc, norm.gamma, norm.beta, offsets, samples, norm.eps)[0]
        if self._in_pieces(x_bzyxc):
            return gelu_response_norm_in_pieces(x_bzyxc, norm.gamma, norm.beta, norm.eps, _sizes(x_bzyxc, patches))
        return norm(self.gelu(x_bzyxc), patches)

    def then(self, linear: nn.Linear, x_bzyxc: torch.Tensor, patches: PatchCounts | None = None) -> torch.Tensor:
        """`linear(self(x_bzyxc, patches))`, as one step where that takes less time."""
        if not self._in_pieces(x_bzyxc):
            return linear(self(x_bzyxc, patches))
        norm, sizes = self.norm, _sizes(x_bzyxc, patches)
        return response_then_linear(x_bzyxc, norm.gamma, norm.beta, norm.eps, sizes, linear.weight, linear.bias)

    def _in_pieces(self, x: torch.Tensor) -> bool:
        return self.training and x.device.type == "cpu" and not torch.is_autocast_enabled("cpu")


def gelu_response_norm_in_pieces(
    x_bzyxc: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor, eps: float, sizes: tuple[int, ...]
) -> torch.Tensor:
    """`GlobalResponseNorm(GELU(x))` on a CPU; `sizes`: how many along the first axis each sample has."""
    return _GeluResponseNormFunction.apply(x_bzyxc, gamma, beta, eps, sizes)


def response_then_linear(
    x_bzyxc: torch.Tensor,
    gamma: torch.Tensor,
    beta: torch.Tensor,
    eps: float,
    sizes: tuple[int, ...],
    weight: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    """A linear layer of what `gelu_response_norm_in_pieces` gives, on a CPU."""
    tokens_of_all = x_bzyxc[..., 0].numel()
    if tokens_of_all > len(sizes) * len(weight):
        return FoldedResponse.apply(x_bzyxc, gamma, beta, eps, sizes, weight, bias)
    # weights that are scaled for each sample would cost more than its tokens
    return F.linear(gelu_response_norm_in_pieces(x_bzyxc, gamma, beta, eps, sizes), weight, bias)


class _GeluResponseNormFunction(torch.autograd.Function):
    """With a = gelu(x), G = |a| over space, N = G / (mean G + eps), s = 1 + gamma N: out = beta + a s."""

    @staticmethod
    def forward(
        ctx,
        x: torch.Tensor,
        gamma: torch.Tensor,
        beta: torch.Tensor,
        eps: float,
        sizes: tuple[int, ...],
    ) -> torch.Tensor:
        x = x.contiguous()
        out = torch.empty_like(x)
        norm = torch.empty(len(sizes), x.shape[-1], dtype=x.dtype)
        for sample, (source, target) in enumerate(zip(samples_of(x, sizes), samples_of(out, sizes), strict=True)):
            norm[sample] = gelu_into(source, target)
            scale = 1 + gamma * relative_response(norm[sample], eps)
            for part in pieces_of(source):
                torch.addcmul(beta, target[part], scale, out=target[part])
        ctx.save_for_backward(x, gamma, norm)
        ctx.eps, ctx.sizes = eps, sizes
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, gamma, norm = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x = torch.empty_like(x)
        grad_gamma, grad_beta = torch.zeros_like(gamma), torch.zeros_like(gamma)
        samples = zip(*[samples_of(tensor, ctx.sizes) for tensor in (x, grad, grad_x)], strict=True)
        for sample, (source, given, result) in enumerate(samples):
            grad_scale = torch.zeros_like(gamma)
            for part in pieces_of(source):
                activated = torch.ops.aten.gelu.out(source[part], out=result[part])  # kept there for the second pass
                grad_scale += (given[part] * activated).sum(dim=0)
                grad_beta += given[part].sum(dim=0)
            relative = relative_response(norm[sample], ctx.eps)
            grad_gamma += grad_scale * relative
            scale = 1 + gamma * relative
            through_norm = gradient_through_norm(norm[sample], gamma * grad_scale, ctx.eps)
            for part in pieces_of(source):
                grad_activated = torch.addcmul(given[part] * scale, result[part], through_norm)
                torch.ops.aten.gelu_backward.grad_input(grad_activated, source[part], grad_input=result[part])
        return grad_x, grad_gamma, grad_beta, None, None


def _sizes(x_bzyxc: torch.Tensor, patches: PatchCounts | None) -> tuple[int, ...]:
    return (1,) * len(x_bzyxc) if patches is None else patches.per_sample
