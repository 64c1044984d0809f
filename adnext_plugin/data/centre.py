"""The cut of images that are predicted. Without MONAI, which takes seconds to load where nothing is trained."""

from collections.abc import Sequence

import torch

from adnext_plugin.images import centre


class CentreCrop:
    """Cuts the middle out of an image (C, Z, Y, X), whatever the seed."""

    runs_on_device = True

    def __init__(self, crop_voxels: Sequence[int]) -> None:
        self._crop_voxels = crop_voxels

    def __call__(self, image_czyx: torch.Tensor, seed: int) -> torch.Tensor:
        """Return the cut."""
        return image_czyx[:, *centre(image_czyx.shape[1:], self._crop_voxels)]
