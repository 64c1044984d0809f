"""Transforms as one change of an image, which is done where the image is if that can be."""

from collections.abc import Sequence

import torch
from monai.transforms import Compose, Transform

from adnext_plugin.on_device.fields import FieldsOfDevice
from adnext_plugin.on_device.forms import done, has_form
from adnext_plugin.on_device.seeding import seed_all


class SeededChange:
    """A function of an image (C, Z, Y, X) and a seed alone: on the CPU the transforms, elsewhere their forms.

    Args:
        transforms: in their order.

    Attributes:
        runs_on_device: whether images may be on another device than the CPU.
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self._chain = Compose(transforms)
        self._chain.set_random_state(seed=0)
        self.runs_on_device = all(has_form(transform) for transform in transforms)

    def __call__(self, image_czyx: torch.Tensor, seed: int) -> torch.Tensor:
        """Return a changed image; equal seeds give equal changes, on two devices up to rounding and noise."""
        seed_all(self._chain, seed)
        if image_czyx.device.type != "cpu":
            return done(self._chain.transforms, image_czyx, FieldsOfDevice(image_czyx.device, seed))
        changed = self._chain(image_czyx)
        return changed.as_tensor() if hasattr(changed, "as_tensor") else changed
