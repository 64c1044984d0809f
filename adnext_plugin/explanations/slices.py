"""Slices of volumes as pictures: of even height and width, with the patient's left on the left."""

import matplotlib
import numpy as np
from PIL import Image

OPACITY = 0.6


def grey_levels(image_zyx: np.ndarray) -> np.ndarray:
    """Intensities from 0 to 1, whatever the brightest and darkest half per cent of voxels are."""
    low, high = np.percentile(image_zyx, (0.5, 99.5))
    return np.clip((image_zyx - low) / max(high - low, 1e-6), 0, 1)


def overlaid(image_zyx: np.ndarray, map_zyx: np.ndarray, mask_zyx: np.ndarray) -> np.ndarray:
    """A brain with a map over it, colours from 0 to 255, (Z, Y, X, 3): red where the map is above 0, blue below.

    Args:
        image_zyx: intensities.
        map_zyx: importance; colours are as strong as its values, relative to the largest.
        mask_zyx: voxels to colour.
    """
    grey_zyx = grey_levels(image_zyx)
    largest = float(np.abs(map_zyx).max()) or 1.0
    colours = matplotlib.colormaps["bwr"](0.5 + map_zyx / (2 * largest))[..., :3]
    # pale in the middle, where a value is close to 0 and the brain is to be seen
    strength = (np.abs(map_zyx) / largest * OPACITY * mask_zyx)[..., None]
    return (grey_zyx[..., None] * (1 - strength) + colours * strength) * 255


def tile(shown_zyxc: np.ndarray, axis: int, index: int, edge_pixels: int) -> Image.Image:
    """A slice, its upper end on top, so large that its longer side has so many pixels.

    Args:
        shown_zyxc: colours from 0 to 255, in RAS orientation.
        axis: that the slice is cut across.
        index: of the slice.
        edge_pixels: of the longer side.
    """
    pixels = np.take(shown_zyxc, index, axis=axis)[::-1].astype(np.uint8)
    picture = Image.fromarray(pixels)
    scale = edge_pixels / max(picture.size)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)))


def paste_middle(sheet: Image.Image, picture: Image.Image, left: int, top: int, edge_pixels: int) -> None:
    """Put a slice into the middle of a square."""
    sheet.paste(picture, (left + (edge_pixels - picture.width) // 2, top + (edge_pixels - picture.height) // 2))
