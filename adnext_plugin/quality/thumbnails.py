"""Small pictures of a case: three planes through the middle of the brain, with the outline of its mask."""

from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from adnext_plugin.errors import ImageError
from adnext_plugin.images import Volume, read_volume, reorient_to_ras
from adnext_plugin.pictures import fitted_size, in_squares, jpeg

EDGE_PIXELS = 112
OUTLINE_RGB = (255, 176, 0)


def thumbnails(volume_zyx: np.ndarray, scan: Path, mask: Path | None) -> tuple[bytes, bytes, bytes]:
    """Draw a case.

    Args:
        volume_zyx: the network's input, drawn where there is no mask.
        scan: drawn with the mask's outline where there is one and both files can be read.
        mask: the mask's file.

    Returns:
        JPEG files, squares: axial, coronal and sagittal plane, patient's left on the left, the front on the right.
    """
    outline_zyx = volume_zyx != 0
    # z-scored, so that 0 would be grey
    shown = Volume(volume_zyx=np.where(outline_zyx, volume_zyx, volume_zyx.min()), affine=np.eye(4))
    if mask is not None:
        try:
            shown = reorient_to_ras(read_volume(scan))
            outline_zyx = reorient_to_ras(read_volume(mask)).volume_zyx > 0
        except ImageError:  # moved since: what was made of them is still there
            mask = None
    centre = [int(middle) for middle in ndimage.center_of_mass(outline_zyx)]
    planes = [_plane(shown, outline_zyx if mask is not None else None, axis, centre[axis]) for axis in range(3)]
    axial, coronal, sagittal = (jpeg(in_squares([plane], EDGE_PIXELS)) for plane in planes)
    return axial, coronal, sagittal


def _plane(shown: Volume, mask_zyx: np.ndarray | None, axis: int, index: int) -> Image.Image:
    """One plane, as large as the thumbnail, each pixel as high as it is wide in the brain."""
    slice_rows = np.take(shown.volume_zyx, index, axis=axis)[::-1]
    low, high = np.percentile(slice_rows, (0.5, 99.5))
    grey = np.clip((slice_rows - low) / max(high - low, 1e-6), 0, 1) * 255
    rows_mm, columns_mm = np.multiply(slice_rows.shape, np.delete(shown.spacing_mm, axis))
    size = fitted_size(rows_mm, columns_mm, EDGE_PIXELS)
    picture = np.asarray(Image.fromarray(grey.astype(np.uint8)).resize(size).convert("RGB")).copy()
    if mask_zyx is not None:
        mask_rows = np.take(mask_zyx, index, axis=axis)[::-1].astype(np.uint8) * 255
        inside = np.asarray(Image.fromarray(mask_rows).resize(size)) > 127
        picture[inside & ~ndimage.binary_erosion(inside)] = OUTLINE_RGB
    return Image.fromarray(picture)
