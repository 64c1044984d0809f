"""Whole fields of random numbers for an image, which are drawn where the image is."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch


class Fields(Protocol):
    """Where fields come from. `state` is that of the transform that asks, which draws them itself on the CPU.

    None: it draws them from the generators of the process.
    """

    def normal(self, shape: Sequence[int], state: np.random.RandomState | None) -> torch.Tensor:
        """Of mean 0 and standard deviation 1."""
        ...

    def uniform(self, shape: Sequence[int], state: np.random.RandomState | None) -> torch.Tensor:
        """From -1 to 1."""
        ...


class FieldsOfDevice:
    """Drawn by a generator of the device, so that the state is not used.

    Args:
        device: of the image.
        seed: of all fields of one image.
    """

    def __init__(self, device: torch.device, seed: int) -> None:
        self._device = device
        self._generator = torch.Generator(device=device).manual_seed(seed)

    def normal(self, shape: Sequence[int], state: np.random.RandomState | None) -> torch.Tensor:
        """Of mean 0 and standard deviation 1."""
        return torch.randn(tuple(shape), generator=self._generator, device=self._device)

    def uniform(self, shape: Sequence[int], state: np.random.RandomState | None) -> torch.Tensor:
        """From -1 to 1."""
        return torch.rand(tuple(shape), generator=self._generator, device=self._device) * 2 - 1
