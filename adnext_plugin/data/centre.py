"""The cut of images that are predicted. Without MONAI, which takes seconds to load where nothing is trained."""

from collections.abc import Sequence

import torch


def centre(have: Sequence[int], want: Sequence[int]) -> tuple[slice, ...]:
    """The middle of an image of one size in voxels, of another size, as MONAI's CenterSpatialCrop cuts it."""
    starts = [max(size // 2 - cut // 2, 0) for size, cut in zip(have, want, strict=True)]
    return tuple(slice(start, start + cut) for start, cut in zip(starts, want, strict=True))


class CentreCrop:
    """Cuts the middle out of an image (C, Z, Y, X), whatever the seed."""

    runs_on_device = True

    def __init__(self, crop_voxels: Sequence[int]) -> None:
        self._crop_voxels = crop_voxels

    def __call__(self, image_czyx: torch.Tensor, seed: int) -> torch.Tensor:
        """Return the cut."""
        return image_czyx[:, *centre(image_czyx.shape[1:], self._crop_voxels)]
