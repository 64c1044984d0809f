"""Slices of volumes as pictures: of even height and width, with the patient's left on the left."""

import matplotlib
import numpy as np
from PIL import Image

OPACITY = 0.6


def grey_levels(image_zyx: np.ndarray) -> np.ndarray:
    """Intensities from 0 to 1, whatever the brightest and darkest half per cent of voxels are."""
    return _between(image_zyx, *_limits(image_zyx))


class Overlay:
    """A brain with a map over it: red where the map is above 0, blue below.

    Args:
        image_zyx: intensities.
        map_zyx: importance; colours are as strong as its values, relative to the largest.
        mask_zyx: voxels to colour.
    """

    def __init__(self, image_zyx: np.ndarray, map_zyx: np.ndarray, mask_zyx: np.ndarray) -> None:
        self._volumes = image_zyx, map_zyx, mask_zyx
        self._limits = _limits(image_zyx)
        self._largest = float(np.abs(map_zyx).max()) or 1.0

    def whole(self) -> np.ndarray:
        """Colours from 0 to 255, (Z, Y, X, 3)."""
        return self._coloured(*self._volumes)

    def slice(self, axis: int, index: int) -> np.ndarray:
        """The same of one slice across an axis, (rows, columns, 3)."""
        return self._coloured(*(volume.take(index, axis=axis) for volume in self._volumes))

    def _coloured(self, image: np.ndarray, map_: np.ndarray, mask: np.ndarray) -> np.ndarray:
        colours = matplotlib.colormaps["bwr"](0.5 + map_ / (2 * self._largest))[..., :3]
        # pale in the middle, where a value is close to 0 and the brain is to be seen
        strength = (np.abs(map_) / self._largest * OPACITY * mask)[..., None]
        return (_between(image, *self._limits)[..., None] * (1 - strength) + colours * strength) * 255


def tile(shown: np.ndarray, edge_pixels: int) -> Image.Image:
    """A slice, its upper end on top, so large that its longer side has so many pixels.

    Args:
        shown: colours from 0 to 255 of a slice in RAS orientation, (rows, columns, 3).
        edge_pixels: of the longer side.
    """
    picture = Image.fromarray(shown[::-1].astype(np.uint8))
    scale = edge_pixels / max(picture.size)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)))


def paste_middle(sheet: Image.Image, picture: Image.Image, left: int, top: int, edge_pixels: int) -> None:
    """Put a slice into the middle of a square."""
    sheet.paste(picture, (left + (edge_pixels - picture.width) // 2, top + (edge_pixels - picture.height) // 2))


def _limits(image: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(image, (0.5, 99.5))
    return float(low), float(high)


def _between(image: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((image - low) / max(high - low, 1e-6), 0, 1)
