"""The brain that maps of several people are laid over: MNI152 as it lies in nilearn's wheel, at 2 mm."""

import functools
from dataclasses import dataclass

import nibabel
import numpy as np

from adnext_plugin.explanations.placement import looked_up
from adnext_plugin.images import Volume

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


def over_template(map_zyx: np.ndarray, affine: np.ndarray, scan_from_mni_mm: np.ndarray) -> Volume:
    """A map over the voxels of the template; linear in between, 0 outside of the map.

    Args:
        map_zyx: on the network's grid.
        affine: of that grid, from voxels (x, y, z) to millimetres of the scan.
        scan_from_mni_mm: 4×4, from millimetres of MNI152 to those of the scan, as an alignment gives it.
    """
    template = mni152()
    map_from_template_xyz = np.linalg.inv(affine) @ scan_from_mni_mm @ template.affine
    values_zyx = looked_up(map_zyx, map_from_template_xyz, template.volume_zyx.shape)
    return Volume(volume_zyx=values_zyx, affine=template.affine)
