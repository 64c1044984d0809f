"""Maps over the brain of MNI152, where those of several people meet."""

import numpy as np

from adnext_plugin.images import Volume, looked_up
from adnext_plugin.mni152 import mni152


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
