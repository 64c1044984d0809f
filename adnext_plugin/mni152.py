"""MNI152 as it lies in nilearn's wheel, at 2 mm: what brains are aligned to, and maps of several people laid over."""

import functools
from dataclasses import dataclass

import nibabel
import numpy as np

SPACING_MM = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class Template:
    """Intensities and brain of MNI152, (Z, Y, X) in RAS order; `affine` leads from voxels (x, y, z) to millimetres."""

    volume_zyx: np.ndarray
    brain_zyx: np.ndarray
    affine: np.ndarray


@functools.cache
def mni152() -> Template:
    """The template (ICBM 2009a, symmetric). Its left is at x below 0."""
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    image = nibabel.as_closest_canonical(load_mni152_template(resolution=SPACING_MM))
    mask = nibabel.as_closest_canonical(load_mni152_brain_mask(resolution=SPACING_MM))
    brain_zyx = np.asarray(mask.dataobj).T > 0
    # nilearn's resampling leaves traces of 1e-17 outside of the brain
    volume_zyx = np.where(brain_zyx, image.get_fdata(dtype=np.float32).T, 0)
    return Template(volume_zyx=np.ascontiguousarray(volume_zyx), brain_zyx=brain_zyx, affine=image.affine)
