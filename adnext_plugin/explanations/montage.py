"""A picture of a map over the brain: three planes, each where the map says most."""

import io

import numpy as np
from PIL import Image

from adnext_plugin.explanations.slices import Overlay, paste_middle, tile
from adnext_plugin.explanations.thresholds import PLANES

SLICES = 3  # of each plane
TILE_PIXELS = 192


def montage(image_zyx: np.ndarray, map_zyx: np.ndarray, mask_zyx: np.ndarray) -> bytes:
    """Draw axial, coronal and sagittal slices, a row each: those where the map's values that stand out add up to most.

    What speaks for the target is red, what speaks against it blue. Colours are as strong as the map's values, relative
    to the largest of this map. The patient's left is on the left.

    Args:
        image_zyx: the network's input, in RAS orientation.
        map_zyx: importance.
        mask_zyx: voxels to colour.

    Returns:
        A PNG file.
    """
    overlay = Overlay(image_zyx, map_zyx, mask_zyx)
    sheet = Image.new("RGB", (TILE_PIXELS * SLICES, TILE_PIXELS * len(PLANES)))
    for row, axis in enumerate(PLANES.values()):
        for column, index in enumerate(strongest_slices(map_zyx, mask_zyx, axis)):
            picture = tile(overlay.slice(axis, index), TILE_PIXELS)
            paste_middle(sheet, picture, TILE_PIXELS * column, TILE_PIXELS * row, TILE_PIXELS)
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()


def strongest_slices(map_zyx: np.ndarray, mask_zyx: np.ndarray, axis: int) -> list[int]:
    """The slices along an axis in which the values within the mask add up to most, in their order in space."""
    sums = np.where(mask_zyx, np.abs(map_zyx), 0).sum(axis=tuple(other for other in range(3) if other != axis))
    return sorted(np.argsort(-sums, kind="stable")[:SLICES].tolist())
