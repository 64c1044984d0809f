"""Random changes to images that are trained on, by name.

An augmentation is what a function without arguments returns that is registered in the entry-point group
`adnext.augmentations`: a list of MONAI transforms of one image (C, Z, Y, X). It must draw from the random states that
MONAI gives its transforms and from nothing else, so that one seed makes one image. What other libraries offer is
wrapped in a transform that is `Randomizable` and seeds them from its own state `R`.
"""

from collections.abc import Sequence

import torch
from monai.transforms import RandSpatialCrop

from adnext_plugin.named_transforms import named_transforms
from adnext_plugin.on_device.change import SeededChange


class Augmentation:
    """Random changes to one image, a function of the image and a seed alone.

    Args:
        name: in the entry-point group `adnext.augmentations`.
        input_size_voxels: (Z, Y, X) of what comes out, checked against what the augmentation can do.
        crop_voxels: (Z, Y, X) to cut from a random place first; None to take the image whole.

    Raises:
        UnknownNameError: no augmentation of that name.
        RegistryError: it cannot be imported, or two packages claim the name.
        SettingsError: it turns the axial plane, and that is not square.
    """

    def __init__(self, name: str, input_size_voxels: Sequence[int], crop_voxels: Sequence[int] | None = None) -> None:
        transforms = named_transforms(name, input_size_voxels)
        if crop_voxels is not None:
            transforms = [RandSpatialCrop(crop_voxels, random_size=False), *transforms]
        self._change = SeededChange(transforms)
        self.runs_on_device = self._change.runs_on_device

    def __call__(self, image_czyx: torch.Tensor, seed: int) -> torch.Tensor:
        """Return a changed copy of an image (C, Z, Y, X); equal seeds give equal changes."""
        return self._change(image_czyx, seed)
