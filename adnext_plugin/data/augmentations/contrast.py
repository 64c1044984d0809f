"""Views for contrast.

Source: Dufumier et al. 2021, MICCAI, code. Each change is made half of the time, alike along all axes. Departures: the
released flip also draws the axis of channels, where it does nothing; scans come standardised.
"""

from abc import abstractmethod
from collections.abc import Sequence
from math import ceil

import numpy as np
import torch
import torch.nn.functional as F
from monai.transforms import GaussianSmooth, RandAxisFlip, RandomizableTransform, Transform

from adnext_plugin.on_device.fields import Fields
from adnext_plugin.on_device.forms import blurred

HALF = 0.5


class Sometimes(RandomizableTransform):
    """A change that is made by chance."""

    def __call__(self, image_czyx: torch.Tensor) -> torch.Tensor:
        self.randomize(None)
        return self.changed(image_czyx) if self._do_transform else image_czyx

    def on_device(self, image_czyx: torch.Tensor, fields: Fields) -> torch.Tensor:
        """The same where the image is."""
        self.randomize(None)
        return self.changed_on_device(image_czyx, fields) if self._do_transform else image_czyx

    def changed_on_device(self, image_czyx: torch.Tensor, fields: Fields) -> torch.Tensor:
        """`changed` without a copy from or to the device; the same, unless overridden."""
        return self.changed(image_czyx)

    @abstractmethod
    def changed(self, image_czyx: torch.Tensor) -> torch.Tensor:
        """The image after the change; the given one is not modified."""


class RandIsotropicBlur(Sometimes):
    """A Gaussian whose width, in voxels, is drawn from a range."""

    def __init__(self, widths: tuple[float, float], prob: float = HALF) -> None:
        super().__init__(prob)
        self._widths = widths

    def changed(self, image_czyx: torch.Tensor) -> torch.Tensor:
        return GaussianSmooth(self.R.uniform(*self._widths))(image_czyx)

    def changed_on_device(self, image_czyx: torch.Tensor, fields: Fields) -> torch.Tensor:
        """The same by products of matrices."""
        return blurred(image_czyx, [self.R.uniform(*self._widths)] * 3)


class RandNoiseOfSomeSize(Sometimes):
    """Gaussian noise whose standard deviation is drawn from a range."""

    def __init__(self, deviations: tuple[float, float], prob: float = HALF) -> None:
        super().__init__(prob)
        self._deviations = deviations

    def changed(self, image_czyx: torch.Tensor) -> torch.Tensor:
        noise = self.R.normal(0, self.R.uniform(*self._deviations), tuple(image_czyx.shape))
        return image_czyx + torch.from_numpy(noise.astype(np.float32))

    def changed_on_device(self, image_czyx: torch.Tensor, fields: Fields) -> torch.Tensor:
        """The same with noise that is drawn there."""
        deviation = self.R.uniform(*self._deviations)
        return image_czyx + fields.normal(image_czyx.shape, self.R) * deviation


class RandCutout(Sometimes):
    """One box, of a share of each axis, rounded up, becomes 0: the mean of a standardised scan."""

    def __init__(self, share: float = 0.25, prob: float = HALF) -> None:
        super().__init__(prob)
        self._share = share

    def changed(self, image_czyx: torch.Tensor) -> torch.Tensor:
        rest = image_czyx.clone()
        rest[(slice(None), *_box(self.R, image_czyx.shape[1:], self._share))].zero_()
        return rest


class RandCropResized(Sometimes):
    """A box, of a share of each axis, rounded up, is brought to the size of the whole."""

    def __init__(self, share: float = 0.75, prob: float = HALF) -> None:
        super().__init__(prob)
        self._share = share

    def changed(self, image_czyx: torch.Tensor) -> torch.Tensor:
        size = image_czyx.shape[1:]
        cut = image_czyx[(slice(None), *_box(self.R, size, self._share))]
        return F.interpolate(cut[None], tuple(size), mode="trilinear", align_corners=False)[0]


def cutout() -> list[Transform]:
    """A box left out, half of the time: the views that the published weights were trained on."""
    return [RandCutout()]


def dufumier() -> list[Transform]:
    """Flip, blur, noise, cutout and a resized crop, each half of the time."""
    return [
        RandAxisFlip(prob=HALF),
        RandIsotropicBlur((0.1, 1.0)),
        RandNoiseOfSomeSize((0.1, 1.0)),
        RandCutout(),
        RandCropResized(),
    ]


def _box(state: np.random.RandomState, size: Sequence[int], share: float) -> tuple[slice, ...]:
    """A box of a share of each axis, rounded up, somewhere inside."""
    edges = [ceil(share * length) for length in size]
    starts = [state.randint(length - edge + 1) for length, edge in zip(size, edges, strict=True)]
    return tuple(slice(start, start + edge) for start, edge in zip(starts, edges, strict=True))
