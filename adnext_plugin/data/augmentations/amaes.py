"""The augmentation of AMAES: in space, and as the faults of a scanner, which a network learns to undo.

Theirs is for intensities from 0, the background, to 1. Prepared scans are not like that: their brains have mean 0 and
their background is exactly 0, in the middle. So brains are brought to [0, 1] by their own range before, and back after,
and the background stays 0. A scan without background is brought to [0, 1] as a whole.

Source: Munk et al. 2024 (AMAES), Table 1; order, ranges and chances from its code, in which the upper ends of ranges of
integers are left out (a table of the paper prints them as if they were in).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.transforms import Randomizable, Transform
from scipy.ndimage import gaussian_filter, map_coordinates

from adnext_plugin.data.augmentations import amaes_on_device, artefacts
from adnext_plugin.data.augmentations.deformation import looked_up_at, rotation, smoothed
from adnext_plugin.on_device.fields import Fields

GIBBS_SIZE = 128  # voxels of the patch that their numbers of kept frequencies are for
LARGEST_ANGLE = np.pi / 6
Shape = tuple[int, ...]
Draw = Callable[[np.random.RandomState, Shape], dict[str, Any]]


def amaes_spatial() -> list[Transform]:
    """Elastic deformation (0.33), turns (0.2) and changes of size (0.2)."""
    return [Deformation()]


def amaes_intensity() -> list[Transform]:
    """Noise, blur, ghosts of motion, Gibbs ringing, low resolution, a bias field, gamma; each by chance."""
    return [Degradations(DEGRADATIONS)]


def amaes() -> list[Transform]:
    """Both, in this order."""
    return [*amaes_spatial(), *amaes_intensity()]


@dataclass(frozen=True, kw_only=True)
class Degradation:
    """A fault: how often a scan has it, how often a channel of such a scan, what is drawn, and the formula.

    `noise`: draws the standard deviation where what is drawn is a field of noise, which another device draws itself.
    """

    probability: float
    per_channel: float = 1.0
    draw: Draw
    formula: Callable[..., np.ndarray]
    noise: Callable[[np.random.RandomState], float] | None = None


def _sigma(random: np.random.RandomState) -> float:
    return random.uniform(1e-4, 1e-3)


def _noise(random: np.random.RandomState, shape: Shape) -> dict[str, Any]:
    return {"noise_zyx": random.normal(0, _sigma(random), shape).astype(np.float32)}


def _width(random: np.random.RandomState, shape: Shape) -> dict[str, Any]:
    return {"sigma": random.uniform(0, 1)}


def _centre(random: np.random.RandomState, shape: Shape) -> dict[str, Any]:
    return {"centre_zyx": [random.randint(length) for length in shape]}


def _zoom(random: np.random.RandomState, shape: Shape) -> dict[str, Any]:
    return {"zoom": [random.uniform(0.5, 1) if random.uniform() < 0.33 else 1.0 for _ in shape]}


def _ghost(random: np.random.RandomState, shape: Shape) -> dict[str, Any]:
    return {"axis": random.randint(3), "every": random.randint(2, 11), "factor": random.uniform(0.85, 0.95)}


def _ringing(random: np.random.RandomState, shape: Shape) -> dict[str, Any]:
    axis, kept = random.randint(3), random.randint(96, 129)
    return {"axis": axis, "kept": max(1, round(shape[axis] * kept / GIBBS_SIZE))}


def _gamma(random: np.random.RandomState, shape: Shape) -> dict[str, Any]:
    exponent = random.uniform(0.5, 1) if random.uniform() < 0.5 else random.uniform(1, 2)
    return {"exponent": exponent, "inverted": random.uniform() < 0.05}


DEGRADATIONS: tuple[Degradation, ...] = (
    Degradation(probability=0.2, draw=_noise, formula=artefacts.additive_noise, noise=_sigma),
    Degradation(
        probability=0.2,
        per_channel=0.5,
        draw=_width,
        formula=gaussian_filter,
    ),
    Degradation(probability=0.2, draw=_noise, formula=artefacts.multiplicative_noise, noise=_sigma),
    Degradation(probability=0.2, draw=_ghost, formula=artefacts.motion_ghosting),
    Degradation(probability=0.2, draw=_ringing, formula=artefacts.gibbs_ringing),
    Degradation(probability=0.2, per_channel=0.5, draw=_zoom, formula=artefacts.low_resolution),
    Degradation(
        probability=0.33,
        draw=_centre,
        formula=artefacts.bias_field,
    ),
    Degradation(probability=0.2, draw=_gamma, formula=artefacts.gamma),
)


class Degradations(Randomizable, Transform):
    """Faults in their order, each decided for itself and each kept within the range of what it is given.

    Args:
        degradations: the faults.
    """

    def __init__(self, degradations: Sequence[Degradation]) -> None:
        self.degradations = degradations

    def __call__(self, image_czyx: torch.Tensor) -> torch.Tensor:
        unit = UnitRange(image_czyx.numpy())
        volumes = unit.image_czyx
        for one in self.degradations:
            if self.R.uniform() >= one.probability:
                continue
            for channel, volume_zyx in enumerate(volumes):
                if self.R.uniform() < one.per_channel:
                    worse = one.formula(volume_zyx, **one.draw(self.R, volume_zyx.shape))
                    volumes[channel] = np.clip(worse, volume_zyx.min(), volume_zyx.max())
        return torch.from_numpy(unit.back(volumes, unit.inside))

    @property
    def runs_on_device(self) -> bool:
        """Whether all formulas are known in torch."""
        return all(one.formula in amaes_on_device.FORMULAS for one in self.degradations)

    def on_device(self, image_czyx: torch.Tensor, fields: Fields) -> torch.Tensor:
        """The same where the image is."""
        return amaes_on_device.degraded(self, image_czyx, fields)


class Deformation(Randomizable, Transform):
    """Elastic deformation, turns and changes of size in one interpolation by cubic splines, the same for all channels.

    What comes in from outside is background, or where there is none, as dark as the darkest voxel.
    """

    def __call__(self, image_czyx: torch.Tensor) -> torch.Tensor:
        size = tuple(image_czyx.shape[1:])
        offsets = self._offsets(size) if self.has_offsets() else None
        turn, scale = self.turn_and_scale()
        if offsets is None and turn is None and scale == 1:
            return image_czyx.clone()
        unit = UnitRange(image_czyx.numpy())
        at = looked_up_at(size, offsets=offsets, turn=turn, scale=scale)
        moved = np.empty_like(unit.image_czyx)
        for channel, volume_zyx in enumerate(unit.image_czyx):
            found = map_coordinates(volume_zyx, at, order=3, mode="constant", cval=float(volume_zyx.min()))
            moved[channel] = np.clip(found, volume_zyx.min(), volume_zyx.max())
        inside = map_coordinates(unit.inside, at, order=0, mode="constant", cval=bool(unit.inside.all()))
        return torch.from_numpy(unit.back(moved, inside))

    def on_device(self, image_czyx: torch.Tensor, fields: Fields) -> torch.Tensor:
        """The same where the image is."""
        return amaes_on_device.deformed(self, image_czyx, fields)

    def has_offsets(self) -> bool:
        """Draw whether there is an elastic deformation."""
        return self.R.uniform() < 0.33

    def sigma_and_strength(self) -> tuple[float, float]:
        """Draw the width of what smooths the noise, in voxels, and what it is multiplied by."""
        return self.R.uniform(20, 30), self.R.uniform(200, 600)

    def turn_and_scale(self) -> tuple[np.ndarray | None, float]:
        """Draw a rotation of positions, if there is one, and their scale."""
        turn = self._turn() if self.R.uniform() < 0.2 else None
        return turn, self.R.uniform(0.9, 1.1) if self.R.uniform() < 0.2 else 1.0

    def _offsets(self, size: Sequence[int]) -> np.ndarray:
        sigma, strength = self.sigma_and_strength()
        return np.stack([strength * smoothed(self.R.uniform(-1, 1, size), sigma) for _ in range(3)])

    def _turn(self) -> np.ndarray:
        angles = [self.R.uniform(-LARGEST_ANGLE, LARGEST_ANGLE) if self.R.uniform() < 0.66 else 0.0 for _ in range(3)]
        return rotation(angles)


class UnitRange:
    """An image (C, Z, Y, X) with each channel's brain brought to [0, 1] and a background of 0, and the way back.

    `inside` (Z, Y, X) is where any channel is not exactly 0.
    """

    def __init__(self, image_czyx: np.ndarray) -> None:
        self.inside = (image_czyx != 0).any(axis=0)
        brains = image_czyx[:, self.inside] if self.inside.any() else np.zeros((len(image_czyx), 1), np.float32)
        self._low = brains.min(axis=1)[:, None, None, None]
        spread = brains.max(axis=1)[:, None, None, None] - self._low
        self._spread = np.where(spread > 0, spread, 1).astype(np.float32)
        self.image_czyx = np.where(self.inside, (image_czyx - self._low) / self._spread, 0).astype(np.float32)

    def back(self, image_czyx: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """An image of the unit range as one of the first kind, 0 where it is not `inside`."""
        return np.where(inside, image_czyx * self._spread + self._low, 0).astype(np.float32)
