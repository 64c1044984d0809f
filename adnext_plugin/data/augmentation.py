"""Augmentation recipes by name. Each is a MONAI chain that draws from a seed of its own for every sample."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.transforms import (
    CenterSpatialCrop,
    Compose,
    RandAffine,
    RandFlip,
    RandGaussianNoise,
    RandGaussianSmooth,
    Randomizable,
    RandRotate90,
    RandScaleIntensity,
    RandShiftIntensity,
    RandSpatialCrop,
    Transform,
)

from adnext_plugin.errors import SettingsError, UnknownNameError, nearest_names

Z, Y, X = 0, 1, 2  # spatial axes of (C, Z, Y, X) in RAS orientation: to superior, to anterior, to right


class InsideBrain(Randomizable, Transform):
    """Changes that leave the background, which is exactly 0, alone.

    A shift or noise all around the brain is something that no prepared scan shows. Networks with batch norm, whose
    means then are those of scans unlike the ones they are to judge, are thrown off by it.
    """

    def __init__(self, changes: list[Transform]) -> None:
        self._chain = Compose(changes)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> "InsideBrain":
        self._chain.set_random_state(seed, state)
        return self

    def __call__(self, image_czyx: torch.Tensor) -> torch.Tensor:
        return self._chain(image_czyx) * (image_czyx != 0)


def _intensity_changes() -> list[Transform]:
    return [
        RandScaleIntensity(factors=0.1, prob=0.2),
        RandShiftIntensity(offsets=0.1, prob=0.2),
        RandGaussianNoise(std=0.1, prob=0.2),
    ]


def _flips_and_turns(probability: float) -> list[Transform]:
    flips = [RandFlip(prob=probability, spatial_axis=axis) for axis in (X, Y, Z)]
    # MONAI's default plane of its x, y, z order is the axial one
    return [*flips, RandRotate90(prob=probability, max_k=3, spatial_axes=(Y, X))]


def _paper() -> list[Transform]:
    # Source: AD-NeXt, Appendix, fine-tuning
    return [*_flips_and_turns(0.2), *_intensity_changes()]


def _pretraining() -> list[Transform]:
    # Source: AD-NeXt, Appendix, pre-training
    return _flips_and_turns(0.1)


def _anatomical() -> list[Transform]:
    return [*_mirror(), *_intensity_changes()]


def _mirror() -> list[Transform]:
    return [RandFlip(prob=0.5, spatial_axis=X)]


def _inside() -> list[Transform]:
    return [*_mirror(), InsideBrain(_intensity_changes())]


def _affine() -> list[Transform]:
    # about as much as heads differ once their boxes are centred; angles in radians, shifts in voxels
    pose = RandAffine(
        prob=0.8,
        rotate_range=(0.1, 0.1, 0.1),
        translate_range=(2, 2, 2),
        scale_range=(0.1, 0.1, 0.1),
        padding_mode="zeros",
    )
    return [*_mirror(), pose, InsideBrain(_intensity_changes())]


def _liu() -> list[Transform]:
    # Source: Liu et al. 2022, code; MONAI draws the width for each axis by itself
    return [RandGaussianSmooth(*_widths(1.0), prob=1.0)]


def _polimi() -> list[Transform]:
    # Source: Cozzoli, Crippa and Taddei 2025, code
    return [RandGaussianSmooth(*_widths(1.5), prob=0.5)]


def _widths(largest_voxels: float) -> list[tuple[float, float]]:
    return [(0.0, largest_voxels)] * 3


RECIPES: dict[str, Callable[[], list[Transform]]] = {
    "none": list,
    "paper": _paper,  # flips along every axis, quarter turns in the axial plane, intensity
    "pretraining": _pretraining,  # the same without intensity, rarer
    "anatomical": _anatomical,  # left-right flips and intensity only: heads stay upright
    "mirror": _mirror,  # left-right flips only
    "inside": _inside,  # the same and intensity, the background staying 0
    "affine": _affine,  # the same and small rotations, shifts and changes of size
    "liu": _liu,  # blur; to be used with a crop
    "polimi": _polimi,  # stronger blur, half of the time
}


class Augmentation:
    """A recipe of random changes to one image, a function of the image and a seed alone.

    Args:
        recipe: a key of `RECIPES`.
        input_size_voxels: (Z, Y, X) of what comes out, checked against what the recipe can do.
        crop_voxels: (Z, Y, X) to cut from a random place first; None to take the image whole.

    Raises:
        UnknownNameError: no recipe of that name.
        SettingsError: the recipe turns the axial plane, and that is not square.
    """

    def __init__(self, recipe: str, input_size_voxels: Sequence[int], crop_voxels: Sequence[int] | None = None) -> None:
        if recipe not in RECIPES:
            raise UnknownNameError(f"no augmentation {recipe!r}{nearest_names(recipe, RECIPES)}")
        transforms = RECIPES[recipe]()
        turns = any(isinstance(transform, RandRotate90) for transform in transforms)
        if turns and input_size_voxels[Y] != input_size_voxels[X]:
            raise SettingsError(
                f"augmentation {recipe!r} turns the axial plane, which must be square; the input size is "
                f"{list(input_size_voxels)}: make Y and X equal, or choose augmentation 'anatomical'"
            )
        if crop_voxels is not None:
            transforms = [RandSpatialCrop(crop_voxels, random_size=False), *transforms]
        self._chain = Compose(transforms)

    def __call__(self, image_czyx: torch.Tensor, seed: int) -> torch.Tensor:
        """Return a changed copy of an image (C, Z, Y, X); equal seeds give equal changes."""
        self._chain.set_random_state(seed=seed)
        return _plain(self._chain(image_czyx))


class CentreCrop:
    """Cuts the middle out of an image (C, Z, Y, X), whatever the seed."""

    def __init__(self, crop_voxels: Sequence[int]) -> None:
        self._crop = CenterSpatialCrop(crop_voxels)

    def __call__(self, image_czyx: torch.Tensor, seed: int) -> torch.Tensor:
        """Return the cut."""
        return _plain(self._crop(image_czyx))


def _plain(image: torch.Tensor) -> torch.Tensor:
    return image.as_tensor() if hasattr(image, "as_tensor") else image
