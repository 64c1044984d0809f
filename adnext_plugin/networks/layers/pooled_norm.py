"""Convolution, batch norm, max pooling and ReLU on a scan, as one step of training that needs little memory on a CPU.

At the full resolution of a scan each of these tensors is larger than the rest of the network's together, and a gradient
keeps three of them. Here planes go through the convolution a few at a time, and what stays is what was pooled. With
y = w ∗ x, its mean m and variance v over the batch, and r = 1/sqrt(v + eps),

    maxpool(gamma (y - m) r + beta) = |gamma| r (maxpool(sign(gamma) y) - sign(gamma) m) + beta,

so that the sign goes into w, and the statistics are needed after pooling only. They are summed up in float64: for eight
scans of 1.75 mm, PyTorch's batch norm gets float32 variances of channels-last tensors wrong by 1 %. The convolution's
bias falls out of y - m.
"""

from collections.abc import Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv3d_weight

PIECE_BYTES = 4 << 20


def pooled_norm(layers: nn.Sequential, x_bczyx: torch.Tensor) -> torch.Tensor:
    """What `layers` make of a scan, with the norm's running statistics kept up.

    Args:
        layers: convolution of 3³ padded by 1, batch norm, max pooling of 2³, ReLU; the modules do the work outside
            training.
        x_bczyx: (B, C, Z, Y, X).

    Returns:
        (B, channels of the convolution, Z/2, Y/2, X/2), channels last.
    """
    convolution, norm = layers[0], cast(nn.BatchNorm3d, layers[1])
    if not _pays(norm, x_bczyx):
        return layers(x_bczyx)
    weight, bias = convolution.weight, convolution.bias
    pooled, mean, variance = _PooledNorm.apply(x_bczyx, weight, bias, norm.weight, norm.bias, norm.eps)
    _keep_running(norm, mean, variance, x_bczyx[:, 0].numel())
    return pooled


def _pays(norm: nn.BatchNorm3d, x: torch.Tensor) -> bool:
    """Only for statistics of the batch itself, and where no gradient of the scan is asked for."""
    is_alone = not getattr(norm, "is_shared", False)  # by processes whose batches make one
    in_training = norm.training and is_alone and not x.requires_grad and not torch.is_autocast_enabled("cpu")
    return in_training and x.device.type == "cpu" and not any(size % 2 for size in x.shape[2:])


@torch.no_grad()
def _keep_running(norm: nn.BatchNorm3d, mean: torch.Tensor, variance: torch.Tensor, values: int) -> None:
    """As `nn.BatchNorm3d` does; without momentum it averages all batches alike."""
    seen, running_mean, running_variance = norm.num_batches_tracked, norm.running_mean, norm.running_var
    assert seen is not None and running_mean is not None and running_variance is not None
    seen += 1
    share = 1 / seen.item() if norm.momentum is None else norm.momentum
    running_mean.lerp_(mean, share)
    running_variance.lerp_(variance * (values / (values - 1)), share)


class _PooledNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor,
        gamma: torch.Tensor,
        beta: torch.Tensor,
        eps: float,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        sign = torch.where(gamma < 0, -1.0, 1.0).to(gamma.dtype)
        weight = (weight * sign.view(-1, 1, 1, 1, 1)).contiguous(memory_format=torch.channels_last_3d)
        padded = F.pad(x, (0, 0, 0, 0, 1, 1))
        (batch, _, *size), channels = x.shape, len(weight)
        strongest = x.new_empty(batch, *[length // 2 for length in size], channels).permute(0, 4, 1, 2, 3)
        total, squares = torch.zeros(2, channels, dtype=torch.float64)
        winners = []
        for planes in _pieces(x, channels):
            y = _convolve(_with_neighbours(padded, planes), weight)
            rows = _rows(y)
            total += rows.sum(dim=0)
            squares += rows.square().sum(dim=0)
            strongest[:, :, _halved(planes)], winner = F.max_pool3d(y, 2, return_indices=True)
            winners.append(winner.int())  # int64 would take half the memory of y
        values = x[:, 0].numel()
        mean = total / values
        variance = squares / values - mean**2
        inverse = (variance + eps).rsqrt().to(x.dtype)
        mean, variance = mean.to(x.dtype), variance.to(x.dtype)
        scale = gamma.abs() * inverse
        out = torch.addcmul(_over_space(beta - mean * scale), strongest, _over_space(scale)).relu_()
        ctx.save_for_backward(padded, weight, gamma, sign, mean, inverse, strongest, out, *winners)
        mean = mean * sign + bias
        ctx.mark_non_differentiable(mean, variance)
        return out, mean, variance

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: torch.Tensor, *_) -> tuple[torch.Tensor | None, ...]:
        padded, weight, gamma, sign, mean, inverse, strongest, out, *winners = ctx.saved_tensors
        grad = torch.where(out > 0, grad, 0)
        grad_beta = _rows(grad).sum(dim=0)
        grad_gamma = ((_rows(grad) * _rows(strongest)).sum(dim=0) - mean * grad_beta) * inverse
        # dL/dy is scale · (the pooled gradient at the winners - grad_beta/n - grad_gamma/n · (y - m) r)
        x = padded[:, :, 1:-1]
        scale = gamma.abs() * inverse
        slope = -scale * inverse * grad_gamma / x[:, 0].numel()
        offset = -scale * grad_beta / x[:, 0].numel() - slope * mean
        grad = grad * _over_space(scale)
        grad_weight = torch.zeros_like(weight)
        for planes, winner in zip(_pieces(x, len(weight)), winners, strict=True):
            scan = _with_neighbours(padded, planes)
            y = _convolve(scan, weight)
            grad_y = _unpool(grad[:, :, _halved(planes)], y, winner)
            grad_y.addcmul_(y, _over_space(slope)).add_(_over_space(offset))
            grad_weight += conv3d_weight(scan, weight.shape, grad_y, padding=(0, 1, 1))
        grad_weight *= sign.view(-1, 1, 1, 1, 1)
        return None, grad_weight, torch.zeros_like(gamma), grad_gamma * sign, grad_beta, None


def _pieces(x_bczyx: torch.Tensor, channels: int) -> Iterator[slice]:
    """Planes along Z, an even number at a time, whose outputs stay in the processor's cache."""
    two_planes = 2 * x_bczyx[:, 0, 0].numel() * channels * x_bczyx.element_size()
    step = 2 * max(1, PIECE_BYTES // two_planes)
    return (slice(start, min(start + step, x_bczyx.shape[2])) for start in range(0, x_bczyx.shape[2], step))


def _halved(planes: slice) -> slice:
    return slice(planes.start // 2, planes.stop // 2)


def _with_neighbours(padded: torch.Tensor, planes: slice) -> torch.Tensor:
    return padded[:, :, planes.start : planes.stop + 2].contiguous(memory_format=torch.channels_last_3d)


def _convolve(planes_and_neighbours: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return F.conv3d(planes_and_neighbours, weight, padding=(0, 1, 1))


def _unpool(grad: torch.Tensor, y: torch.Tensor, winner: torch.Tensor) -> torch.Tensor:
    grad = grad.contiguous(memory_format=torch.channels_last_3d)
    unpool = torch.ops.aten.max_pool3d_with_indices_backward
    return unpool(grad, y, [2] * 3, [2] * 3, [0] * 3, [1] * 3, False, winner.long())


def _rows(x_bczyx: torch.Tensor) -> torch.Tensor:
    """(B·Z·Y·X, C); a view if channels come last."""
    return x_bczyx.permute(0, 2, 3, 4, 1).reshape(-1, x_bczyx.shape[1])


def _over_space(per_channel: torch.Tensor) -> torch.Tensor:
    return per_channel[None, :, None, None, None]
