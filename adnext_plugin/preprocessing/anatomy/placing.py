"""Where a brain lies in MNI152 space, whether it is there already, and whether what was found can be believed."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import gaussian_filter

from adnext_plugin.errors import ImageError
from adnext_plugin.images import Volume
from adnext_plugin.preprocessing.alignment import align_to_mni152
from adnext_plugin.preprocessing.anatomy.evenness import evened
from adnext_plugin.preprocessing.anatomy.template import GRID, SHAPE_ZYX, SPACING_MM, mni152
from adnext_plugin.preprocessing.anatomy.tissues import Tissues, tissues_of
from adnext_plugin.preprocessing.grid.geometry import fit_aligned
from adnext_plugin.preprocessing.steps.fit import FitSettings

GRID_SETTINGS = FitSettings(spacing_mm=(SPACING_MM,) * 3, input_size_voxels=SHAPE_ZYX)
CENTRE_MM = (GRID @ [*(np.array(SHAPE_ZYX[::-1]) - 1) / 2, 1])[:3]
# Of 97 scans of OASIS-1, which are in MNI space, and 62 of IXI, which are not, by their headers alone: overlap 0.90 to
# 0.95 against 0.48 to 0.86, likeness 0.79 to 0.96 against 0.28 to 0.70.
THERE_OVERLAP, THERE_LIKENESS = 0.87, 0.75
LEAST_OVERLAP, LEAST_LIKENESS, LEAST_COVER = 0.80, 0.55, 0.75
MOST_STRETCH = 1.4  # of one axis against another: half a brain is stretched to fill the template's
BLUR_VOXELS, BLUR_STEP = 2.0, 3
BRIGHTEST_PERCENTILE = 99
HALVES = (("lower", "upper"), ("back", "front"), ("left", "right"))  # along z, y, x


@dataclass(frozen=True, kw_only=True, eq=False)
class Placed:
    """A brain on the template's grid of 2 mm, (Z, Y, X), by one interpolation, background 0.

    `scan_from_mni_mm` is a 4×4 matrix from template millimetres to scan millimetres, both RAS+ world (x, y, z).
    `overlap` is Dice's coefficient of the brain and the template's, `likeness` the correlation of both images, blurred,
    and `was_there` says that the scan's header told its place already.
    """

    volume_zyx: np.ndarray
    scan_from_mni_mm: np.ndarray
    overlap: float
    likeness: float
    was_there: bool

    @property
    def head_size(self) -> float:
        """Cubic millimetres of the scan in one of the template."""
        return abs(float(np.linalg.det(self.scan_from_mni_mm[:3, :3])))

    @cached_property
    def even_zyx(self) -> np.ndarray:
        """The brain without the slow change of brightness across it (`evenness.py`)."""
        return evened(self.volume_zyx)

    @cached_property
    def tissues(self) -> Tissues:
        """Of the even brain.

        Raises:
            ImageError: it is no T1-weighted brain.
        """
        template = mni152()
        return tissues_of(self.even_zyx, template.mask, template.wide_mask, template.white)


def place_in_mni152(brain: Volume) -> Placed:
    """Take a brain to MNI152 space; one whose header says that it is there, and rightly so, is not registered.

    Args:
        brain: in RAS order, background 0.

    Raises:
        ImageError: the registration failed, or what it found is not like the template, or a part of the brain is
            missing.
    """
    placed = _placed(brain, np.eye(4), was_there=True)
    if placed.overlap < THERE_OVERLAP or placed.likeness < THERE_LIKENESS:
        placed = _placed(brain, align_to_mni152(brain, "affine", quick=True), was_there=False)
    if placed.overlap < LEAST_OVERLAP or placed.likeness < LEAST_LIKENESS:
        raise ImageError(
            f"in MNI152 space it is unlike the template (overlap {placed.overlap:.2f}, of {LEAST_OVERLAP:g} at least; "
            f"correlation {placed.likeness:.2f}, of {LEAST_LIKENESS:g}): the alignment has failed, or it is no "
            "T1-weighted brain without a skull; look at it, and exclude it"
        )
    stretches = np.linalg.svd(placed.scan_from_mni_mm[:3, :3], compute_uv=False)
    if stretches.max() > MOST_STRETCH * stretches.min():
        raise ImageError(
            f"to look like the template it would have to be stretched {stretches.max() / stretches.min():.2f} times as "
            f"much along one axis as along another, of {MOST_STRETCH:g} at most: a part of the brain is missing, or "
            "the alignment has failed; look at it, and exclude it"
        )
    name, cover = least_covered_half(placed.volume_zyx)
    if cover < LEAST_COVER:
        raise ImageError(
            f"its {name} half fills {cover:.0%} of the template's, of {LEAST_COVER:.0%} at least: a part of the brain "
            "is missing; look at it, and exclude it"
        )
    return placed


def least_covered_half(volume_zyx: np.ndarray) -> tuple[str, float]:
    """Which half of the template's brain is filled least by a brain on its grid, and to which share."""
    template = mni152().mask
    both = (volume_zyx > 0) & template
    found = []
    for axis, names in enumerate(HALVES):
        middle = int(np.rint(-GRID[2 - axis, 3] / SPACING_MM)) if axis == 2 else _middle(template, axis)
        for name, part in zip(names, (slice(None, middle), slice(middle, None)), strict=True):
            half = tuple(part if one == axis else slice(None) for one in range(3))
            found.append((float(both[half].sum() / template[half].sum()), name))
    cover, name = min(found)
    return name, cover


def _placed(brain: Volume, scan_from_mni_mm: np.ndarray, *, was_there: bool) -> Placed:
    voxel_from_mni_mm = np.linalg.inv(brain.affine) @ scan_from_mni_mm
    (volume_zyx,) = fit_aligned(brain.volume_zyx[None], voxel_from_mni_mm, CENTRE_MM, GRID_SETTINGS).image_czyx
    template, inside = mni152(), volume_zyx > 0
    both = np.count_nonzero(inside & template.mask)
    return Placed(
        volume_zyx=volume_zyx,
        scan_from_mni_mm=scan_from_mni_mm,
        overlap=2 * both / (np.count_nonzero(inside) + np.count_nonzero(template.mask)),
        likeness=_likeness(volume_zyx),
        was_there=was_there,
    )


def _likeness(volume_zyx: np.ndarray) -> float:
    template = mni152()
    if not (volume_zyx > 0).any():
        return 0.0
    brightest = np.percentile(volume_zyx[volume_zyx > 0], BRIGHTEST_PERCENTILE)
    near = _blurred(template.mask.astype(np.float32)) > 0.1
    one, other = _blurred(np.minimum(volume_zyx, brightest))[near], _blurred(template.image)[near]
    return float(np.corrcoef(one, other)[0, 1]) if one.std() > 0 else 0.0


def _blurred(volume_zyx: np.ndarray) -> np.ndarray:
    return gaussian_filter(volume_zyx, BLUR_VOXELS)[::BLUR_STEP, ::BLUR_STEP, ::BLUR_STEP]


def _middle(mask: np.ndarray, axis: int) -> int:
    inside = np.flatnonzero(mask.any(axis=tuple(one for one in range(3) if one != axis)))
    return int(inside[0] + inside[-1]) // 2
