"""What AMAES does to a scan, on the scan's device: the transforms of `amaes` and the formulas of `artefacts` in torch.

Numbers come from the random state of the transform, as on the CPU; whole fields of noise from a generator of the
device, so that they are others than the CPU draws, of the same distribution.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from adnext_plugin.data.augmentations import artefacts
from adnext_plugin.on_device import linear
from adnext_plugin.on_device.fields import Fields
from adnext_plugin.on_device.sampling import Positions, centred_grid, cubic, nearest, transformed

if TYPE_CHECKING:
    from adnext_plugin.data.augmentations.amaes import Deformation, Degradation, Degradations

Drawn = dict[str, Any]


class UnitRange:
    """`amaes.UnitRange` of an image (C, Z, Y, X) on a device, without waiting for it."""

    def __init__(self, image_czyx: torch.Tensor) -> None:
        self.inside = (image_czyx != 0).any(dim=0)
        self.is_whole = self.inside.all()
        is_any = self.inside.any()
        infinite = torch.full((), float("inf"), device=image_czyx.device)
        low = torch.where(self.inside, image_czyx, infinite).amin(dim=(1, 2, 3), keepdim=True)
        high = torch.where(self.inside, image_czyx, -infinite).amax(dim=(1, 2, 3), keepdim=True)
        self._low = torch.where(is_any, low, 0.0)
        spread = torch.where(is_any, high - low, 1.0)
        self._spread = torch.where(spread > 0, spread, 1.0)
        self.image_czyx = torch.where(self.inside, (image_czyx - self._low) / self._spread, 0.0)

    def back(self, image_czyx: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
        """An image of the unit range as one of the first kind, 0 where it is not `inside`."""
        return torch.where(inside, image_czyx * self._spread + self._low, 0.0)


def degraded(transform: "Degradations", image_czyx: torch.Tensor, fields: Fields) -> torch.Tensor:
    """What `Degradations` makes of an image."""
    unit = UnitRange(image_czyx)
    volumes = unit.image_czyx.clone()
    for one in transform.degradations:
        if transform.R.uniform() >= one.probability:
            continue
        for channel in range(len(volumes)):
            if transform.R.uniform() < one.per_channel:
                volume_zyx = volumes[channel]
                drawn = _drawn(one, transform.R, volume_zyx, fields)
                worse = FORMULAS[one.formula](volume_zyx, **drawn)
                volumes[channel] = torch.clamp(worse, volume_zyx.amin(), volume_zyx.amax())
    return unit.back(volumes, unit.inside)


def deformed(transform: "Deformation", image_czyx: torch.Tensor, fields: Fields) -> torch.Tensor:
    """What `Deformation` makes of an image."""
    offsets = None
    if transform.has_offsets():
        sigma, strength = transform.sigma_and_strength()
        noise = [fields.uniform(image_czyx.shape[1:], transform.R) for _ in range(3)]
        offsets = [strength * _smoothed(noise_zyx, sigma) for noise_zyx in noise]
    turn, scale = transform.turn_and_scale()
    if offsets is None and turn is None and scale == 1:
        return image_czyx
    return moved(image_czyx, looked_up_at(image_czyx, offsets=offsets, turn=turn, scale=scale))


def moved(image_czyx: torch.Tensor, positions: Positions) -> torch.Tensor:
    """Cubic splines for the brain, the nearest voxel for where it is; what comes in is as dark as the darkest voxel."""
    unit = UnitRange(image_czyx)
    found = []
    for volume_zyx in unit.image_czyx:
        low, high = volume_zyx.amin(), volume_zyx.amax()
        found.append(torch.clamp(cubic(volume_zyx, positions, low), low, high))
    return unit.back(torch.stack(found), nearest(unit.inside, positions, unit.is_whole))


def looked_up_at(
    image_czyx: torch.Tensor, *, offsets: Sequence[torch.Tensor] | None, turn: np.ndarray | None, scale: float
) -> Positions:
    """`deformation.looked_up_at` on the image's device."""
    size = image_czyx.shape[1:]
    z, y, x = centred_grid(size, image_czyx.device)
    if offsets is not None:
        z, y, x = (place + offset for place, offset in zip((z, y, x), offsets, strict=True))
    if turn is not None:
        z, y, x = transformed((z, y, x), turn.tolist())
    z, y, x = (place * scale + (length - 1) / 2 for place, length in zip((z, y, x), size, strict=True))
    return z, y, x


def _smoothed(noise_zyx: torch.Tensor, sigma_voxels: float) -> torch.Tensor:
    image_czyx = noise_zyx[None]
    for axis, length in enumerate(noise_zyx.shape):
        image_czyx = linear.along(image_czyx, linear.blur_of_noise(length, sigma_voxels, noise_zyx.device), axis)
    return image_czyx[0]


def _drawn(one: "Degradation", random: np.random.RandomState, volume_zyx: torch.Tensor, fields: Fields) -> Drawn:
    if one.noise is None:
        return one.draw(random, tuple(volume_zyx.shape))
    sigma = one.noise(random)
    return {"noise_zyx": fields.normal(volume_zyx.shape, random) * sigma}


def _blurred(volume_zyx: torch.Tensor, sigma: float) -> torch.Tensor:
    image_czyx = volume_zyx[None]
    for axis, length in enumerate(volume_zyx.shape):
        image_czyx = linear.along(image_czyx, linear.blur_of_scipy(length, sigma, volume_zyx.device), axis)
    return image_czyx[0]


def _ghosted(volume_zyx: torch.Tensor, axis: int, every: int, factor: float) -> torch.Tensor:
    spectrum = torch.fft.fft(volume_zyx, dim=axis)
    planes: list[slice] = [slice(None)] * 3
    planes[axis] = slice(None, None, every)
    spectrum[tuple(planes)] *= factor
    return torch.fft.ifft(spectrum, dim=axis).abs()


def _ringing(volume_zyx: torch.Tensor, axis: int, kept: int) -> torch.Tensor:
    length = volume_zyx.shape[axis]
    start = length // 2 - kept // 2
    place = torch.arange(length, device=volume_zyx.device)
    is_kept = torch.fft.ifftshift((place >= start) & (place < start + kept))
    along = is_kept.reshape([-1 if one == axis else 1 for one in range(3)])
    return torch.fft.ifft(torch.fft.fft(volume_zyx, dim=axis) * along, dim=axis).abs()


def _low_resolution(volume_zyx: torch.Tensor, zoom: Sequence[float]) -> torch.Tensor:
    image_czyx = volume_zyx[None]
    for axis, (length, share) in enumerate(zip(volume_zyx.shape, zoom, strict=True)):
        small = max(1, round(length * share))
        if small != length:
            image_czyx = linear.along(image_czyx, linear.low_resolution(length, small, volume_zyx.device), axis)
    return image_czyx[0]


def _biased(volume_zyx: torch.Tensor, centre_zyx: Sequence[int]) -> torch.Tensor:
    field = torch.ones((), device=volume_zyx.device)
    for axis, (length, centre) in enumerate(zip(volume_zyx.shape, centre_zyx, strict=True)):
        distance = (torch.arange(length, device=volume_zyx.device) - centre) / length
        field = field - (distance**2).reshape([-1 if one == axis else 1 for one in range(3)])
    return volume_zyx * field


def _gamma(volume_zyx: torch.Tensor, exponent: float, inverted: bool) -> torch.Tensor:
    sign = -1 if inverted else 1
    flipped = sign * volume_zyx
    low = flipped.amin()
    spread = (flipped.amax() - low).clamp(min=artefacts.NORM_FLOOR)
    return sign * (((flipped - low) / spread) ** exponent * spread + low)


FORMULAS: dict[Callable[..., np.ndarray], Callable[..., torch.Tensor]] = {
    artefacts.additive_noise: lambda volume_zyx, noise_zyx: volume_zyx + noise_zyx,
    artefacts.multiplicative_noise: lambda volume_zyx, noise_zyx: volume_zyx + volume_zyx * noise_zyx,
    gaussian_filter: _blurred,
    artefacts.motion_ghosting: _ghosted,
    artefacts.gibbs_ringing: _ringing,
    artefacts.low_resolution: _low_resolution,
    artefacts.bias_field: _biased,
    artefacts.gamma: _gamma,
}
