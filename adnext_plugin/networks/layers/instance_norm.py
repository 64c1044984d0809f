"""Normalisation of each channel of each sample over space, for channels-last tokens, in training on a CPU.

PyTorch's GroupNorm sums float32 tokens that lie so in memory in one go: of a million voxels it finds a variance that is
off by a thousandth, and its gradient takes as long as that of the convolutions beside it. Here sums are of deviations
from the mean, a piece at a time that stays in the processor's cache.
"""

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from adnext_plugin.networks.layers.pieces import pieces_of


def instance_norm(tokens_bzyxc: torch.Tensor, norm: nn.GroupNorm) -> torch.Tensor:
    """What a GroupNorm with a group for each channel makes of tokens (B, Z, Y, X, C); contiguous."""
    return _InstanceNormFunction.apply(tokens_bzyxc, norm.weight, norm.bias, norm.eps)


class _InstanceNormFunction(torch.autograd.Function):
    """With m the mean of a channel, r = 1 / sqrt(its variance + eps): out = bias + (x - m) r weight."""

    @staticmethod
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, eps: float) -> torch.Tensor:
        x = x.contiguous()
        out = torch.empty_like(x)
        mean, inverse = x.new_empty(2, len(x), len(weight)).unbind()
        for sample, (source, target) in enumerate(zip(x.flatten(1, 3), out.flatten(1, 3), strict=True)):
            pieces = pieces_of(source)
            mean[sample] = torch.stack([source[part].sum(dim=0) for part in pieces]).sum(dim=0) / len(source)
            squares = torch.stack([(source[part] - mean[sample]).square().sum(dim=0) for part in pieces]).sum(dim=0)
            inverse[sample] = torch.rsqrt(squares / len(source) + eps)
            for part in pieces:
                centred = torch.sub(source[part], mean[sample], out=target[part])
                torch.addcmul(bias, centred, inverse[sample] * weight, out=target[part])
        ctx.save_for_backward(x, weight, mean, inverse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight, mean, inverse = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x = torch.empty_like(x)
        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        samples = zip(*[tensor.flatten(1, 3) for tensor in (x, grad, grad_x)], strict=True)
        for sample, (source, given, result) in enumerate(samples):
            of_weight, of_bias = torch.zeros_like(weight), torch.zeros_like(weight)
            for part in (pieces := pieces_of(source)):
                centred = torch.sub(source[part], mean[sample], out=result[part])  # kept there for the second pass
                of_weight += (given[part] * centred).sum(dim=0)
                of_bias += given[part].sum(dim=0)
            of_weight *= inverse[sample]
            grad_weight += of_weight
            grad_bias += of_bias
            scale = weight * inverse[sample]
            through_variance = -scale * inverse[sample] * of_weight / len(source)
            through_mean = -scale * of_bias / len(source)
            for part in pieces:
                rest = torch.addcmul(through_mean, result[part], through_variance, out=result[part])
                torch.addcmul(rest, given[part], scale, out=rest)
        return grad_x, grad_weight, grad_bias, None
