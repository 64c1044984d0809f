"""A picture of a co-registration, by which it is judged at a glance: both images in the fields of a chessboard."""

import numpy as np
from PIL import Image
from scipy.ndimage import center_of_mass

from adnext_plugin.images import Volume, reorient_to_ras
from adnext_plugin.pictures import fitted_size, in_squares, jpeg

EDGE_PIXELS = 200
FIELDS = 8  # along the longer side


def chessboard(first: Volume, moved: Volume) -> bytes:
    """A JPEG file: axial, coronal and sagittal plane, patient's left on the left; fields of both images in turn.

    Args:
        first: the first image of a case.
        moved: another one, on its grid.
    """
    pair = [reorient_to_ras(one) for one in (first, moved)]
    volumes = [_grey(one.volume_zyx) for one in pair]
    centre = [int(middle) for middle in center_of_mass(volumes[0])]
    planes = []
    for axis in range(3):
        rows = [np.take(volume, centre[axis], axis=axis)[::-1] for volume in volumes]
        height, width = rows[0].shape
        field = max(1, max(height, width) // FIELDS)
        board = (np.arange(height)[:, None] // field + np.arange(width)[None] // field) % 2
        plane = Image.fromarray(np.where(board == 0, *rows).astype(np.uint8))
        rows_mm, columns_mm = np.multiply((height, width), np.delete(pair[0].spacing_mm, axis))
        planes.append(plane.resize(fitted_size(rows_mm, columns_mm, EDGE_PIXELS)))
    return jpeg(in_squares(planes, EDGE_PIXELS))


def _grey(volume_zyx: np.ndarray) -> np.ndarray:
    low, high = np.percentile(volume_zyx, (1, 99.5))
    return np.clip((volume_zyx - low) / max(high - low, 1e-6), 0, 1) * 255
