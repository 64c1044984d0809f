"""Augmentations by name, for objectives that need one beside the run's own."""

import numpy as np
import torch
from monai.transforms import Compose

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
        self._chain = Compose(load(AUGMENTATIONS, name)())
        self._stream = stream

    def __call__(self, image_czyx: torch.Tensor, seed: int) -> torch.Tensor:
        """Return a changed copy of an image (C, Z, Y, X); equal seeds give equal changes."""
        self._chain.set_random_state(seed=int(np.random.SeedSequence((seed, self._stream)).generate_state(1)[0]))
        changed = self._chain(image_czyx)
        return changed.as_tensor() if hasattr(changed, "as_tensor") else changed
