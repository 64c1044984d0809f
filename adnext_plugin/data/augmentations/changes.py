"""What augmentations are made of: transforms of an image (C, Z, Y, X), each drawing from a random state of its own."""

import numpy as np
import torch
from monai.transforms import (
    Compose,
    RandFlip,
    RandGaussianNoise,
    RandGaussianSmooth,
    Randomizable,
    RandRotate90,
    RandScaleIntensity,
    RandShiftIntensity,
    Transform,
)

from adnext_plugin.on_device.fields import Fields
from adnext_plugin.on_device.forms import done, has_form
from adnext_plugin.on_device.seeding import seed_all

Z, Y, X = 0, 1, 2  # spatial axes of (C, Z, Y, X) in RAS orientation: to superior, to anterior, to right


class InsideBrain(Randomizable, Transform):
    """Changes that leave the background, which is exactly 0, alone.

    A shift or noise all around the brain is something that no prepared scan shows. Networks with batch norm, whose
    means then are those of scans unlike the ones they are to judge, are thrown off by it.
    """

    def __init__(self, changes: list[Transform]) -> None:
        self._changes = changes
        self._chain = Compose(changes)

    def set_random_state(self, seed: int | None = None, state: np.random.RandomState | None = None) -> "InsideBrain":
        if seed is None or "R" not in self._chain.__dict__:
            self._chain.set_random_state(seed, state)
        else:
            seed_all(self._chain, seed)
        return self

    def __call__(self, image_czyx: torch.Tensor) -> torch.Tensor:
        return self._chain(image_czyx) * (image_czyx != 0)

    @property
    def runs_on_device(self) -> bool:
        """Whether all changes do."""
        return all(has_form(change) for change in self._changes)

    def on_device(self, image_czyx: torch.Tensor, fields: Fields) -> torch.Tensor:
        """The same where the image is."""
        return done(self._changes, image_czyx, fields) * (image_czyx != 0)


def mirroring() -> list[Transform]:
    """Left and right exchanged, half of the time."""
    return [RandFlip(prob=0.5, spatial_axis=X)]


def intensity_changes() -> list[Transform]:
    """Scale, shift and noise, each a fifth of the time."""
    return [
        RandScaleIntensity(factors=0.1, prob=0.2),
        RandShiftIntensity(offsets=0.1, prob=0.2),
        RandGaussianNoise(std=0.1, prob=0.2),
    ]


def flips_and_turns(probability: float) -> list[Transform]:
    """Flips along every axis and quarter turns in the axial plane, which must be square."""
    flips = [RandFlip(prob=probability, spatial_axis=axis) for axis in (X, Y, Z)]
    # MONAI's default plane of its x, y, z order is the axial one
    return [*flips, RandRotate90(prob=probability, max_k=3, spatial_axes=(Y, X))]


def blur(largest_voxels: float, probability: float) -> list[Transform]:
    """A Gaussian of random width; MONAI draws it for each axis by itself."""
    width = (0.0, largest_voxels)
    return [RandGaussianSmooth(width, width, width, prob=probability)]
