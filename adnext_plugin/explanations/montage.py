"""A picture of a map over the brain: three planes, each where the map says most."""

import io

import matplotlib
import numpy as np
from PIL import Image

from adnext_plugin.explanations.thresholds import PLANES

SLICES = 3  # of each plane
TILE_PIXELS = 192
OPACITY = 0.6


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
    low, high = np.percentile(image_zyx, (0.5, 99.5))
    grey_zyx = np.clip((image_zyx - low) / max(high - low, 1e-6), 0, 1)
    largest = float(np.abs(map_zyx).max()) or 1.0
    colours = matplotlib.colormaps["bwr"](0.5 + map_zyx / (2 * largest))[..., :3]
    # pale in the middle, where a value is close to 0 and the brain is to be seen
    strength = (np.abs(map_zyx) / largest * OPACITY * mask_zyx)[..., None]
    shown_zyxc = (grey_zyx[..., None] * (1 - strength) + colours * strength) * 255
    sheet = Image.new("RGB", (TILE_PIXELS * SLICES, TILE_PIXELS * len(PLANES)))
    for row, axis in enumerate(PLANES.values()):
        for column, index in enumerate(strongest_slices(map_zyx, mask_zyx, axis)):
            pixels = np.take(shown_zyxc, index, axis=axis)[::-1].astype(np.uint8)
            tile = Image.fromarray(pixels)
            scale = TILE_PIXELS / max(tile.size)
            tile = tile.resize((round(tile.width * scale), round(tile.height * scale)))
            left, top = (TILE_PIXELS - tile.width) // 2, (TILE_PIXELS - tile.height) // 2
            sheet.paste(tile, (TILE_PIXELS * column + left, TILE_PIXELS * row + top))
    stream = io.BytesIO()
    sheet.save(stream, "PNG")
    return stream.getvalue()


def strongest_slices(map_zyx: np.ndarray, mask_zyx: np.ndarray, axis: int) -> list[int]:
    """The slices along an axis in which the values within the mask add up to most, in their order in space."""
    sums = np.where(mask_zyx, np.abs(map_zyx), 0).sum(axis=tuple(other for other in range(3) if other != axis))
    return sorted(np.argsort(-sums, kind="stable")[:SLICES].tolist())
