"""Augmentations by name, for objectives that need one beside the run's own."""

import numpy as np
import torch

from adnext_plugin.on_device.change import SeededChange
from adnext_plugin.registry import AUGMENTATIONS, load


class NamedChange:
    """An augmentation of the entry-point group `adnext.augmentations` as a function of an image and a seed.

    Args:
        name: in the group.
        stream: what is drawn under one seed differs between streams, so that two augmentations of one image are
            independent of each other.

    Raises:
        UnknownNameError: no augmentation of that name.
        RegistryError: it cannot be imported, or two packages claim the name.
    """

    def __init__(self, name: str, stream: int) -> None:
        self._change = SeededChange(load(AUGMENTATIONS, name)())
        self.runs_on_device = self._change.runs_on_device
        self._stream = stream

    def __call__(self, image_czyx: torch.Tensor, seed: int) -> torch.Tensor:
        """Return a changed copy of an image (C, Z, Y, X); equal seeds give equal changes."""
        return self._change(image_czyx, int(np.random.SeedSequence((seed, self._stream)).generate_state(1)[0]))
