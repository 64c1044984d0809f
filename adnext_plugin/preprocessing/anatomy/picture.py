"""A picture of one case, by which alignment and tissues are judged at a glance."""

from collections.abc import Mapping

import numpy as np
from PIL import Image
from scipy.ndimage import binary_erosion

from adnext_plugin.pictures import jpeg
from adnext_plugin.preprocessing.anatomy.template import GRID, SPACING_MM, mni152
from adnext_plugin.preprocessing.anatomy.tissues import Tissues

PLANES_MM = ((0, -14.0), (1, -20.0), (2, 28.0))  # axis of z, y, x, and where: through the hippocampi
ZOOM = 2
TEMPLATE_RGB, WHITE_RGB, REGION_RGB = (255, 176, 0), (80, 160, 255), (255, 60, 60)
OUTLINED = ("hippocampus_left", "hippocampus_right")


def picture(volume_zyx: np.ndarray, tissues: Tissues, regions: Mapping[str, np.ndarray]) -> bytes:
    """A JPEG file: axial, coronal and sagittal plane, patient's left on the left.

    Outlines: the template's brain orange, white matter as it was found blue, hippocampi (or all regions) red.

    Args:
        volume_zyx: a brain on the template's grid.
        tissues: of it.
        regions: by name.
    """
    shown = [regions[name] for name in OUTLINED if name in regions] or list(regions.values())
    outlined = (
        (mni152().mask, TEMPLATE_RGB),
        (tissues.white > 0.5, WHITE_RGB),
        (np.max(shown, axis=0) > 0.5, REGION_RGB),
    )
    brightest = max(tissues.white_intensity * 1.2, 1e-6)
    planes = []
    for axis, place_mm in PLANES_MM:
        index = int(np.rint((place_mm - GRID[2 - axis, 3]) / SPACING_MM))
        rows = np.take(volume_zyx, index, axis=axis)[::-1]
        drawn = np.stack([np.clip(rows / brightest, 0, 1) * 255] * 3, axis=-1).astype(np.uint8)
        drawn = drawn.repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
        for mask_zyx, colour in outlined:
            inside = np.take(mask_zyx, index, axis=axis)[::-1].repeat(ZOOM, axis=0).repeat(ZOOM, axis=1)
            drawn[inside & ~binary_erosion(inside)] = colour
        planes.append(drawn)
    height = max(len(plane) for plane in planes)
    padded = [np.pad(plane, ((0, height - len(plane)), (0, 0), (0, 0))) for plane in planes]
    return jpeg(Image.fromarray(np.concatenate(padded, axis=1)))
