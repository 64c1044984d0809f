"""A smooth change of shape on top of an affine alignment: where each place of a standard space lies, by how much more.

Both are composed, so that voxels are interpolated once. Arrays are z, y, x.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from adnext_plugin.images import looked_up


@dataclass(frozen=True, kw_only=True, eq=False)
class Warp:
    """Shifts of places.

    `shifts_mm` (Z, Y, X, 3), float32, components x, y, z: what belongs at the place p of the space lies, in the scan
    after its affine alignment, at p + shift. `affine` is that of the grid of shifts, 4×4 from voxels x, y, z to
    millimetres of the space; its axes run along those of the space. Beyond the grid shifts are 0.
    """

    shifts_mm: np.ndarray
    affine: np.ndarray

    def shifts_on(self, grid: np.ndarray, shape_voxels: tuple[int, ...]) -> np.ndarray:
        """Shifts (Z, Y, X, 3) of the voxels of another grid: `grid` is 4×4, from voxels x, y, z to the space."""
        voxel_from_voxel = np.linalg.inv(self.affine) @ grid
        found = [looked_up(self.shifts_mm[..., axis], voxel_from_voxel, shape_voxels) for axis in range(3)]
        return np.stack(found, axis=-1)

    def volume_change_on(self, grid: np.ndarray, shape_voxels: tuple[int, ...]) -> np.ndarray:
        """Cubic millimetres of the aligned scan in one of the space, (Z, Y, X), at the voxels of another grid."""
        return looked_up(self.volume_change - 1, np.linalg.inv(self.affine) @ grid, shape_voxels) + 1

    @cached_property
    def volume_change(self) -> np.ndarray:
        """The Jacobian determinant of p + shift on the grid of shifts, (Z, Y, X) float32."""
        edges_mm = np.diag(self.affine)[:3]
        jacobian = np.empty((*self.shifts_mm.shape[:3], 3, 3), dtype=np.float32)
        for component in range(3):
            slopes_zyx = np.gradient(self.shifts_mm[..., component])
            for axis in range(3):
                jacobian[..., component, axis] = slopes_zyx[2 - axis] / edges_mm[axis] + (component == axis)
        return np.linalg.det(jacobian)
