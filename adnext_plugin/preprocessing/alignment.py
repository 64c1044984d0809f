"""Finding where a brain lies in MNI152 space: rigid or affine registration by SimpleITK. Nothing is interpolated here.

The template is nilearn's, ICBM 2009a without skull, which lies inside its wheel.
"""

import functools
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import SimpleITK as sitk  # noqa: N813  (the name everybody knows it by)
from scipy.linalg import polar

from adnext_plugin.errors import ImageError
from adnext_plugin.images import Volume
from adnext_plugin.itk_threads import one_itk_thread
from adnext_plugin.mni152 import mni152

TransformType = TypeVar("TransformType", bound=sitk.Transform)


@dataclass(frozen=True, kw_only=True)
class Levels:
    """From coarse to fine: how much coarser than the template, smoothed by what; and how closely one looks and ends."""

    shrink_factors: tuple[int, ...] = (4, 2, 1)
    smoothing_mm: tuple[float, ...] = (4.0, 2.0, 1.0)
    sampled_share: float = 0.2
    least_step_mm: float = 1e-3


LEVELS = Levels()
QUICK_RIGID = Levels(shrink_factors=(4,), smoothing_mm=(4.0,), sampled_share=0.5, least_step_mm=1e-2)
QUICK_AFFINE = Levels(shrink_factors=(4, 2), smoothing_mm=(4.0, 2.0), sampled_share=0.5, least_step_mm=1e-2)
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])  # NIfTI's world has x to the right and y to the front, ITK's has not


def align_to_mni152(brain: Volume, kind: str, *, quick: bool = False) -> np.ndarray:
    """Register a brain to the template by mutual information, from coarse to fine.

    Args:
        brain: background 0, in RAS order.
        kind: "rigid", 6 parameters; or "affine", 12, found from the rigid ones.
        quick: stop at voxels of 4 mm, in a fifth of the time; the places found differ by 0.6 mm on average.

    Returns:
        4×4 matrix from template millimetres to scan millimetres, both RAS+ world (x, y, z).

    Raises:
        ImageError: the registration failed.
    """
    with one_itk_thread():
        template, moving = _template(), itk_image(brain)
        start = sitk.CenteredTransformInitializer(
            template, moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
        )
        try:
            rigid = register(template, moving, sitk.Euler3DTransform(start), QUICK_RIGID if quick else LEVELS)
            found: sitk.Transform = rigid
            if kind == "affine":
                affine = sitk.AffineTransform(3)
                affine.SetMatrix(rigid.GetMatrix())
                affine.SetTranslation(rigid.GetTranslation())
                affine.SetCenter(rigid.GetCenter())
                found = register(template, moving, affine, QUICK_AFFINE if quick else LEVELS)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ImageError(
                f"it cannot be aligned to MNI152 ({reason}); exclude it, or use --alignment none"
            ) from error
    return world_matrix(found)


def template_centre_mm() -> np.ndarray:
    """Centre of the box around the template's brain, x, y, z."""
    image = _template()
    inside = np.argwhere(sitk.GetArrayViewFromImage(image) > 0)
    middle_zyx = (inside.min(axis=0) + inside.max(axis=0)) / 2
    return np.array(image.TransformContinuousIndexToPhysicalPoint(middle_zyx[::-1].tolist())) * [-1, -1, 1]


def register(fixed: sitk.Image, moving: sitk.Image, start: TransformType, levels: Levels) -> TransformType:
    """Improve a transform by mutual information of two images; it is changed, and returned.

    Raises:
        RuntimeError: there is no solution, as of ITK.
    """
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=32)
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(levels.sampled_share, 42)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=levels.least_step_mm, numberOfIterations=200, gradientMagnitudeTolerance=1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(levels.shrink_factors)
    method.SetSmoothingSigmasPerLevel(levels.smoothing_mm)
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    method.SetInitialTransform(start, inPlace=True)
    method.Execute(fixed, moving)
    return start


@functools.cache
def _template() -> sitk.Image:
    template = mni152()
    return itk_image(Volume(volume_zyx=template.volume_zyx, affine=template.affine))


def itk_image(volume: Volume) -> sitk.Image:
    """A volume as ITK has it, in its own place."""
    affine = LPS_FROM_RAS @ volume.affine
    spacing_xyz = volume.spacing_mm[::-1]
    image = sitk.GetImageFromArray(volume.volume_zyx)
    image.SetSpacing(spacing_xyz)
    # ITK knows no shear, which rounding in a header can cause: take the nearest rotation
    image.SetDirection(polar(affine[:3, :3] / spacing_xyz)[0].ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    return image


def world_matrix(transform: sitk.Transform) -> np.ndarray:
    """An affine transform of ITK as a 4×4 matrix of RAS+ millimetres, from the fixed image to the moving one."""
    matrix = np.eye(4)
    origin = np.array(transform.TransformPoint((0.0, 0.0, 0.0)))
    for axis, unit in enumerate(np.eye(3)):
        matrix[:3, axis] = np.array(transform.TransformPoint(unit.tolist())) - origin
    matrix[:3, 3] = origin
    return LPS_FROM_RAS @ matrix @ LPS_FROM_RAS
