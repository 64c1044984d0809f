"""Statistics of batch norms that fit the weights they are used with."""

from collections.abc import Callable, Iterable
from typing import TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

Batch = TypeVar("Batch")


@torch.no_grad()
def settle_batch_norms(network: nn.Module, forward: Callable[[Batch], object], batches: Iterable[Batch]) -> None:
    """Replace the running statistics of all batch norms by averages over `batches`, and leave the network in eval mode.

    A running average trails behind the weights. Where what people differ in is small beside what they share, as it is
    in features of brain scans, a small lag is many standard deviations, and every score is off by it.

    Args:
        network: changed in place.
        forward: runs the network on a batch.
        batches: of training cases without augmentation, two or more each, mixed at random: the spread is that within
            batches, so batches of one cohort each would leave out what cohorts differ in.

    Source: Wu and Johnson 2021, "Rethinking Batch in BatchNorm", section 3 (precise batch norm).
    """
    norms = [module for module in network.modules() if isinstance(module, _BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the average of all batches
        norm.train()
    for batch in batches:
        forward(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()
