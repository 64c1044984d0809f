"""A batch as loaders serve it and objectives take it, and the shape of what changes an image on the way."""

from collections.abc import Callable
from typing import NamedTuple

import torch

Change = Callable[[torch.Tensor, int], torch.Tensor]  # an image (C, Z, Y, X) and a seed to what the loader serves of it


class Batch(NamedTuple):
    """Images (B, C, Z, Y, X) float32, targets (B,), covariates (B, K), and the indices of their cases in the store.

    Where the loader's change makes several views of an image, (V, C, Z, Y, X), images are (B, V, C, Z, Y, X). Indices
    stay on the CPU: they are names, which seeds are made of and scores are filed under.
    """

    images: torch.Tensor
    targets: torch.Tensor
    covariates: torch.Tensor
    indices: torch.Tensor

    def parts(self, count: int) -> "list[Batch]":
        """The batch cut into as many parts, as even as can be; fewer where there are fewer cases."""
        if count == 1:
            return [self]
        cut = [torch.tensor_split(tensor, min(count, len(self.indices))) for tensor in self]
        return [Batch(*part) for part in zip(*cut, strict=True)]

    def to(self, device: torch.device) -> "Batch":
        """The same on a device, indices apart; from pinned memory without waiting."""
        images, targets, covariates = (tensor.to(device, non_blocking=True) for tensor in self[:3])
        return Batch(images, targets, covariates, self.indices)


def runs_on_device(change: Change | None) -> bool:
    """Whether a change takes images on another device than the CPU, as its attribute `runs_on_device` says."""
    return change is None or getattr(change, "runs_on_device", False)
