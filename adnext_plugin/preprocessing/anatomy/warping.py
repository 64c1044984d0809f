"""Non-linear alignment to MNI152, after an affine one: SimpleITK's demons on maps of grey and white matter.

Shares of tissues stand in for intensities on both sides, with the means that the scan has itself. So what brain
extraction left of fluid, the coil and the scanner's contrast are no matter, and both images are of one kind, as demons
need it. With the scan's own image, antspyx's SyN took three times as long and came less close to the template.

Source: Vercauteren et al. 2009, NeuroImage 45:S61 (symmetric forces); Thirion 1998, Med Image Anal 2:243 (demons).
"""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import SimpleITK as sitk  # noqa: N813  (the name everybody knows it by)
from scipy.ndimage import gaussian_filter, map_coordinates

from adnext_plugin.errors import ImageError
from adnext_plugin.itk_threads import one_itk_thread
from adnext_plugin.preprocessing.anatomy.placing import Placed
from adnext_plugin.preprocessing.anatomy.template import GRID, SHAPE_ZYX, SPACING_MM, mni152
from adnext_plugin.preprocessing.anatomy.tissues import Tissues
from adnext_plugin.preprocessing.grid.warp import Warp

WARP_VERSION = 1  # to be raised whenever a scan gets another warp than before
SHRINK_FACTORS = (4, 2, 1)  # 8, 4 and 2 mm
ITERATIONS = (60, 60, 10)
# Gaussians that keep each step, and all of it, smooth: with 0 and 1.2, as is usual, a deformation of 5 mm was found to
# 1.1 mm on average, with these to 0.8 mm
STEP_SIGMA_VOXELS, FIELD_SIGMA_VOXELS = 2.0, 0.7
MOST_FOLDED = 1e-3  # of the template's brain: shifts that cross each other
PERCENTILES = (1, 99)  # of the volume change that are told


@dataclass(frozen=True, kw_only=True, eq=False)
class Warped:
    """The warp, the tissues of the affinely aligned scan that it was found by, and figures of how well.

    `likeness` is the correlation of tissues with the template's within its brain, `likeness_before` that without the
    warp. `change_low` and `change_high` are the first and the last percentile of the volume change there.
    """

    warp: Warp
    tissues: Tissues
    likeness: float
    likeness_before: float
    change_low: float
    change_high: float

    @property
    def tissues_in_template(self) -> Tissues:
        """Shares in the template's shape, times the volume change: their sums over places are those of the scan."""
        change = self.warp.volume_change
        fluid, grey, white = (
            warped(one, self.warp) * change for one in (self.tissues.fluid, self.tissues.grey, self.tissues.white)
        )
        return replace(self.tissues, fluid=fluid, grey=grey, white=white)

    @property
    def figures(self) -> dict[str, float]:
        """As they are noted beside a case."""
        return {
            "likeness_before_warp": self.likeness_before,
            "likeness_after_warp": self.likeness,
            "volume_change_low": self.change_low,
            "volume_change_high": self.change_high,
        }


def warp_to_mni152(placed: Placed) -> Warped:
    """Find how the template's shape becomes that of a brain.

    Args:
        placed: the brain in MNI152 space by an affine alignment.

    Raises:
        ImageError: it is no T1-weighted brain, or the warp cannot be believed.
    """
    template, tissues = mni152(), placed.tissues
    fixed_zyx = _contrast(template.grey, template.white, tissues.means)
    moving_zyx = _contrast(tissues.grey, tissues.white, tissues.means)
    warp = Warp(shifts_mm=_demons(fixed_zyx, moving_zyx), affine=GRID)
    moved_zyx = warped(moving_zyx, warp)
    change = warp.volume_change[template.mask]
    low, high = np.percentile(change, PERCENTILES)
    found = Warped(
        warp=warp,
        tissues=tissues,
        likeness=_correlation(fixed_zyx, moved_zyx),
        likeness_before=_correlation(fixed_zyx, moving_zyx),
        change_low=float(low),
        change_high=float(high),
    )
    folded = float(np.mean(change <= 0))
    if folded > MOST_FOLDED or found.likeness < found.likeness_before:
        raise ImageError(
            f"the non-linear alignment has failed: it folds {folded:.2%} of the brain (of {MOST_FOLDED:.1%} at most), "
            f"and likeness to the template went from {found.likeness_before:.2f} to {found.likeness:.2f}; look at the "
            "scan, or use --alignment affine"
        )
    return found


def warped(volume_zyx: np.ndarray, warp: Warp) -> np.ndarray:
    """A volume on the template's grid in the template's shape, (Z, Y, X), by linear interpolation."""
    voxels_zyx = np.indices(SHAPE_ZYX, dtype=np.float32) + np.moveaxis(warp.shifts_mm, -1, 0)[::-1] / SPACING_MM
    found: np.ndarray = map_coordinates(volume_zyx, voxels_zyx, order=1, mode="grid-constant")
    return found


def _contrast(grey: np.ndarray, white: np.ndarray, means: tuple[float, float, float]) -> np.ndarray:
    """Grey and white matter as bright as in a T1-weighted image, fluid and background 0."""
    return (means[1] * grey + means[2] * white).astype(np.float32)


def _correlation(one_zyx: np.ndarray, other_zyx: np.ndarray) -> float:
    inside = mni152().mask
    return float(np.corrcoef(one_zyx[inside], other_zyx[inside])[0, 1])


def _demons(fixed_zyx: np.ndarray, moving_zyx: np.ndarray) -> np.ndarray:
    """Shifts (Z, Y, X, 3) in millimetres along x, y, z that bring the moving image to the fixed one."""
    field: sitk.Image | None = None
    with one_itk_thread():
        for shrink, iterations in zip(SHRINK_FACTORS, ITERATIONS, strict=True):
            fixed, moving = _coarse(fixed_zyx, shrink), _coarse(moving_zyx, shrink)
            demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
            demons.SetNumberOfThreads(1)  # the order in which threads add up would show in the last digits
            demons.SetNumberOfIterations(iterations)
            demons.SetSmoothUpdateField(True)
            demons.SetUpdateFieldStandardDeviations(STEP_SIGMA_VOXELS)
            demons.SetSmoothDisplacementField(True)
            demons.SetStandardDeviations(FIELD_SIGMA_VOXELS)
            if field is None:
                field = demons.Execute(fixed, moving)
            else:
                begin = sitk.Resample(field, fixed, sitk.Transform(), sitk.sitkLinear, 0.0, sitk.sitkVectorFloat64)
                field = demons.Execute(fixed, moving, begin)
    assert field is not None  # there is a level
    shifts_mm: np.ndarray = sitk.GetArrayFromImage(field).astype(np.float32)
    return shifts_mm * _fading()


def _coarse(volume_zyx: np.ndarray, shrink: int) -> sitk.Image:
    """Every n-th voxel of a smoothed volume; ITK's millimetres are counted from the first voxel on along x, y, z."""
    smooth = gaussian_filter(volume_zyx, (shrink - 1) / 2) if shrink > 1 else volume_zyx
    image = sitk.GetImageFromArray(np.ascontiguousarray(smooth[::shrink, ::shrink, ::shrink]))
    image.SetSpacing([SPACING_MM * shrink] * 3)
    return image


@cache
def _fading() -> np.ndarray:
    """1 within the brain and around it, falling to 0 at the grid's border, beyond which shifts are 0."""
    near = gaussian_filter(mni152().wide_mask.astype(np.float32), 4)
    return np.clip(near / 0.02, 0, 1)[..., None]
