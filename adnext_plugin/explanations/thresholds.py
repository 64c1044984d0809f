"""Which voxels of a map stand out: three rules, over the whole brain or slice by slice."""

from typing import Literal

import numpy as np
from skimage.filters import threshold_otsu

from adnext_plugin.errors import SettingsError
from adnext_plugin.images import largest_component
from adnext_plugin.records import record

PLANES = {"axial": 0, "coronal": 1, "sagittal": 2}  # axes of a map (Z, Y, X) in RAS orientation


@record
class ThresholdSettings:
    """The rule, and over what it goes.

    Cozzoli, Crippa and Taddei 2025 apply these rules to each slice by itself and keep its largest part. A slice in
    which nothing matters has its brightest voxels, too, so that the whole brain is the default here.
    """

    # the highest share of the voxels of the brain; what is above Otsu's threshold; what is above mean and deviations
    rule: Literal["top_percent", "otsu", "mean_std"] = "top_percent"
    percent: float = 10.0  # of `top_percent`
    deviations: float = 1.0  # of `mean_std`
    per_slice: Literal["axial", "coronal", "sagittal"] | None = None
    largest_component: bool = False  # keep the largest part alone: of the brain, or of each slice

    def __post_init__(self) -> None:
        if not 0 < self.percent <= 100:
            raise SettingsError(f"percent must be above 0 and at most 100, got {self.percent}")
        if not np.isfinite(self.deviations):
            raise SettingsError(f"deviations must be finite, got {self.deviations}")


def stands_out(map_zyx: np.ndarray, brain_zyx: np.ndarray, settings: ThresholdSettings) -> np.ndarray:
    """Mask (Z, Y, X) of the voxels of the brain that stand out.

    Where the map is the same in the whole brain, or slice, nothing does. `top_percent` holds exactly that share of the
    voxels, rounded to a whole number; of equal ones those that come first.

    Args:
        map_zyx: importance.
        brain_zyx: true in the brain.
        settings: the rule.
    """
    if settings.per_slice is None:
        return _stands_out(map_zyx, brain_zyx, settings)
    axis = PLANES[settings.per_slice]
    slices = zip(np.moveaxis(map_zyx, axis, 0), np.moveaxis(brain_zyx, axis, 0), strict=True)
    return np.stack([_stands_out(one, inside, settings) for one, inside in slices], axis=axis)


def _stands_out(map_of: np.ndarray, inside: np.ndarray, settings: ThresholdSettings) -> np.ndarray:
    """Of a volume or of a slice."""
    found = np.zeros(map_of.shape, dtype=bool)
    values = map_of[inside].astype(np.float64)
    if values.size == 0 or np.ptp(values) == 0:
        return found
    if settings.rule == "top_percent":
        wanted = round(settings.percent / 100 * values.size)
        chosen = np.zeros(values.size, dtype=bool)
        chosen[np.argsort(-values, kind="stable")[:wanted]] = True
    elif settings.rule == "otsu":
        chosen = values > threshold_otsu(values)
    else:
        chosen = values > values.mean() + settings.deviations * values.std()
    found[inside] = chosen
    return largest_component(found) if settings.largest_component else found
