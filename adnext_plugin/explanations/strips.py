"""Strips of slices side by side, which a page shows one at a time."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from adnext_plugin.explanations.slices import Overlay
from adnext_plugin.explanations.thresholds import PLANES
from adnext_plugin.pictures import jpeg_uri

STEP_VOXELS = 2  # between slices of a strip; of the template 4 mm
QUALITY = 82


@dataclass(frozen=True, kw_only=True)
class Strip:
    """All slices of a plane, from below, behind or left on, as a data URI; `shown` is the one that says most."""

    plane: str
    uri: str
    slices: int
    shown: int
    width: int
    height: int


def strips(image_zyx: np.ndarray, map_zyx: np.ndarray, mask_zyx: np.ndarray) -> tuple[Strip, ...]:
    """Axial, coronal and sagittal slices of a brain with a map over it.

    Args:
        image_zyx: intensities, in RAS orientation.
        map_zyx: importance.
        mask_zyx: voxels to colour.
    """
    shown_zyxc = Overlay(image_zyx, map_zyx, mask_zyx).whole()
    values = np.where(mask_zyx, np.abs(map_zyx), 0)
    return tuple(_strip(name, axis, shown_zyxc, values) for name, axis in PLANES.items())


def _strip(name: str, axis: int, shown_zyxc: np.ndarray, values_zyx: np.ndarray) -> Strip:
    first = (shown_zyxc.shape[axis] - 1) % STEP_VOXELS // 2
    places = range(first, shown_zyxc.shape[axis], STEP_VOXELS)
    slices = [np.take(shown_zyxc, place, axis=axis)[::-1] for place in places]
    sums = values_zyx.sum(axis=tuple(other for other in range(3) if other != axis))
    height, width = slices[0].shape[:2]
    return Strip(
        plane=name,
        uri=jpeg_uri(Image.fromarray(np.concatenate(slices, axis=1).astype(np.uint8)), QUALITY),
        slices=len(slices),
        shown=int(np.argmax(sums[list(places)])),
        width=width,
        height=height,
    )
