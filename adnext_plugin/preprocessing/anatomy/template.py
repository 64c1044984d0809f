"""MNI152 (ICBM 2009a, non-linear symmetric) from nilearn's wheel, on the grid of 2 mm that FSL and SPM users know."""

import functools
from dataclasses import dataclass

import nibabel
import numpy as np
from scipy.ndimage import binary_dilation

from adnext_plugin.images import looked_up

SHAPE_ZYX = (91, 109, 91)
SPACING_MM = 2.0
GRID = np.array([[2.0, 0, 0, -90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])  # voxels x, y, z to millimetres
MARGIN_VOXELS = 2  # beyond the template's brain, where that of an individual may reach


@dataclass(frozen=True, kw_only=True, eq=False)
class Template:
    """Maps on the grid of 2 mm, (Z, Y, X) in RAS order.

    `image` is T1-weighted, 0 outside the brain; `mask` is the brain, `wide_mask` the brain with a margin; `grey` and
    `white` are probabilities.
    """

    image: np.ndarray
    mask: np.ndarray
    wide_mask: np.ndarray
    grey: np.ndarray
    white: np.ndarray


@functools.cache
def mni152() -> Template:
    """The template."""
    from nilearn.datasets import (
        load_mni152_brain_mask,
        load_mni152_gm_template,
        load_mni152_template,
        load_mni152_wm_template,
    )

    loads = (load_mni152_template, load_mni152_brain_mask, load_mni152_gm_template, load_mni152_wm_template)
    image, mask, grey, white = (_on_grid(load(resolution=1)) for load in loads)
    return Template(
        image=np.where(mask > 0.5, image, 0),
        mask=mask > 0.5,
        wide_mask=binary_dilation(mask > 0.5, iterations=MARGIN_VOXELS),
        grey=grey,
        white=white,
    )


def resampled(
    volume_zyx: np.ndarray, affine: np.ndarray, to_affine: np.ndarray, shape_zyx: tuple[int, ...], order: int = 1
) -> np.ndarray:
    """A volume on another grid; 0 beyond its own.

    Args:
        volume_zyx: (Z, Y, X).
        affine: of the volume, from voxels x, y, z to millimetres.
        to_affine: of the other grid, to the same millimetres.
        shape_zyx: of the other grid.
        order: 0 for the nearest voxel, 1 for linear interpolation.
    """
    return looked_up(volume_zyx, np.linalg.inv(affine) @ to_affine, shape_zyx, order)


def _on_grid(image: nibabel.spatialimages.SpatialImage) -> np.ndarray:
    """Every other voxel of a map of 1 mm, whose places are those of the grid."""
    image = nibabel.as_closest_canonical(image)
    return resampled(image.get_fdata(dtype=np.float32).T, np.asarray(image.affine), GRID, SHAPE_ZYX)
