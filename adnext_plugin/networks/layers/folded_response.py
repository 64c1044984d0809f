"""GELU, global response norm and the linear layer after them, as one step that scales weights instead of tokens.

With a = gelu(x), G = |a| over space, N = G / (mean G + eps) and s = 1 + gamma N, the linear layer reads beta + a s:

    out = (beta + a s) Wᵀ + b = a (W s)ᵀ + (W beta + b)

so that a sample's tokens, of which there are many more than weights, need not be scaled. Nor does a gradient need them
once more: with g that of out and P = gᵀ a, which the gradient of W is made of anyway,

    dL/dW = P s + (Σ g) betaᵀ,   dL/ds = Σ over outputs of W P,   dL/dbeta = (Σ g) W,   dL/da = g (W s) + a (dL/dG) / G.
"""

import torch
from torch.autograd.function import once_differentiable

from adnext_plugin.networks.layers.pieces import pieces_of, samples_of
from adnext_plugin.networks.layers.relative_response import gradient_through_norm, relative_response


def gelu_into(source_nc: torch.Tensor, into_nc: torch.Tensor) -> torch.Tensor:
    """Write GELU of a sample's tokens into others of the size; its norm over the tokens, (C,)."""
    squares = source_nc.new_zeros(source_nc.shape[1])
    for part in pieces_of(source_nc):
        torch.ops.aten.gelu.out(source_nc[part], out=into_nc[part])
        squares += into_nc[part].square().sum(dim=0)
    return squares.sqrt()


class FoldedResponse(torch.autograd.Function):
    """Of tokens (N, Z, Y, X, C) on a CPU, in pieces that stay in its cache; `sizes` as `samples_of` takes them."""

    @staticmethod
    def forward(
        ctx,
        x: torch.Tensor,
        gamma: torch.Tensor,
        beta: torch.Tensor,
        eps: float,
        sizes: tuple[int, ...],
        weight: torch.Tensor,
        bias: torch.Tensor,
    ) -> torch.Tensor:
        x = x.contiguous()
        activated = torch.empty_like(x)
        out = x.new_empty(*x.shape[:-1], len(weight))
        norm = x.new_empty(len(sizes), x.shape[-1])
        shift = torch.addmv(bias, weight, beta)
        samples = zip(*[samples_of(tensor, sizes) for tensor in (x, activated, out)], strict=True)
        for sample, (source, kept, result) in enumerate(samples):
            norm[sample] = gelu_into(source, kept)
            scale = 1 + gamma * relative_response(norm[sample], eps)
            torch.addmm(shift, kept, (weight * scale).T, out=result)
        ctx.save_for_backward(x, activated, gamma, beta, norm, weight)
        ctx.eps, ctx.sizes = eps, sizes
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, activated, gamma, beta, norm, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x = torch.empty_like(x)
        grad_gamma, grad_weight = torch.zeros_like(gamma), torch.zeros_like(weight)
        samples = zip(*[samples_of(tensor, ctx.sizes) for tensor in (x, activated, grad, grad_x)], strict=True)
        for sample, (source, kept, given, result) in enumerate(samples):
            products = given.T @ kept
            grad_scale = (weight * products).sum(dim=0)
            relative = relative_response(norm[sample], ctx.eps)
            scale = 1 + gamma * relative
            grad_gamma += grad_scale * relative
            grad_weight.addcmul_(products, scale)
            scaled = weight * scale
            through_norm = gradient_through_norm(norm[sample], gamma * grad_scale, ctx.eps)
            for part in pieces_of(source):
                grad_activated = (given[part] @ scaled).addcmul_(kept[part], through_norm)
                torch.ops.aten.gelu_backward.grad_input(grad_activated, source[part], grad_input=result[part])
        grad_bias = grad.flatten(0, -2).sum(dim=0)
        grad_weight.addr_(grad_bias, beta)
        return grad_x, grad_gamma, torch.mv(weight.T, grad_bias), None, None, grad_weight, grad_bias
