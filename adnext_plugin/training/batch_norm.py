"""Statistics of batch norms: those of the batch of all processes, and such as fit the weights they are used with."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

Batch = TypeVar("Batch")


def batch_norms(network: nn.Module) -> list[_BatchNorm]:
    """All of a network."""
    return [module for module in network.modules() if isinstance(module, _BatchNorm)]


@torch.no_grad()
def settle_batch_norms(network: nn.Module, forward: Callable[[Batch], object], batches: Iterable[Batch]) -> None:
    """Replace the running statistics of all batch norms by averages over `batches`, and leave the network in eval mode.

    A running average trails behind the weights. Where what people differ in is small beside what they share, as it is
    in features of brain scans, a small lag is many standard deviations, and every score is off by it.

    Args:
        network: changed in place.
        forward: runs the network on a batch.
        batches: of training cases without augmentation, two or more each, mixed at random; those of this process if
            there are several. The spread is that within batches, so batches of one cohort each would leave out what
            cohorts differ in.

    Source: Wu and Johnson 2021, "Rethinking Batch in BatchNorm", section 3 (precise batch norm).
    """
    norms = batch_norms(network)
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        # the batch's own: to average them itself, torch reads the count of batches, for which a GPU is waited for
        norm.momentum = 1.0
        norm.train()
        if isinstance(norm, SharedBatchNorm):
            norm.is_shared = False
    statistics = [one for norm in norms for one in (norm.running_mean, norm.running_var) if one is not None]
    averages = [one.clone() for one in statistics]
    for number, batch in enumerate(batches, start=1):
        forward(batch)
        for average, found in zip(averages, statistics, strict=True):
            average.lerp_(found, 1 / number)
    for kept, average in zip(statistics, averages, strict=True):
        kept.copy_(average)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
        if isinstance(norm, SharedBatchNorm):
            norm.is_shared = True
            _average_over_processes(norm)


class SharedBatchNorm(_BatchNorm):
    """A batch norm that several processes have together: its statistics in training are those of all their cases.

    torch's own `SyncBatchNorm` refuses processors, so that nothing of it could be tested without several GPUs.
    """

    is_shared = True

    @classmethod
    def of(cls, norm: _BatchNorm) -> "SharedBatchNorm":
        """One with the parameters and statistics of another batch norm."""
        shared = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        shared.weight, shared.bias = norm.weight, norm.bias
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            setattr(shared, name, getattr(norm, name))
        return shared.train(norm.training)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not (self.training and self.is_shared):
            return super().forward(x)
        # sums that give their gradients back, in float64 as sums of so many values need
        others = [axis for axis in range(x.ndim) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(x.ndim)]
        count = torch.full((1,), float(x.numel() // x.shape[1]), dtype=torch.float64, device=x.device)
        sums = _SumOverProcesses.apply(torch.cat([x.sum(others, dtype=torch.float64), count]))
        values = sums[-1].detach()
        mean = sums[:-1] / values
        centred = x - mean.to(torch.float32).view(shape)
        variance = _SumOverProcesses.apply(centred.square().sum(others, dtype=torch.float64)) / values
        self._keep_running(mean.detach(), variance.detach() * values / (values - 1))
        scale = (variance + self.eps).rsqrt().to(torch.float32) * self.weight
        return (centred * scale.view(shape) + self.bias.view(shape)).to(x.dtype)

    def _check_input_dim(self, x: torch.Tensor) -> None:
        """Any number of axes will do."""

    @torch.no_grad()
    def _keep_running(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        seen, running_mean, running_variance = self.num_batches_tracked, self.running_mean, self.running_var
        assert seen is not None and running_mean is not None and running_variance is not None
        seen += 1
        share = self.momentum
        assert share is not None  # networks of ours have one
        running_mean.lerp_(mean.to(running_mean.dtype), share)
        running_variance.lerp_(variance.to(running_variance.dtype), share)


def share_batch_norms(network: nn.Module) -> None:
    """Put in the place of every batch norm of a network one that all processes have together."""
    for module in list(network.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, _BatchNorm) and not isinstance(child, SharedBatchNorm):
                setattr(module, name, SharedBatchNorm.of(child))


def _average_over_processes(norm: SharedBatchNorm) -> None:
    """Statistics over the batches of all processes, each batch counting alike."""
    seen, mean, variance = norm.num_batches_tracked, norm.running_mean, norm.running_var
    assert seen is not None and mean is not None and variance is not None
    sums = torch.cat([mean.double() * seen, variance.double() * seen, seen[None].double()])
    dist.all_reduce(sums)
    found = sums[:-1] / sums[-1].clamp(min=1)
    mean.copy_(found[: len(mean)])
    variance.copy_(found[len(mean) :])
    seen.copy_(sums[-1])


class _SumOverProcesses(torch.autograd.Function):
    """The sum of every process's values, which hands gradients back to all of them."""

    @staticmethod
    def forward(ctx, values: torch.Tensor) -> torch.Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: torch.Tensor) -> torch.Tensor:
        total = grad.clone()
        dist.all_reduce(total)
        return total
