"""Turning a brain to where all brains look the same way, so that a turned or mirrored copy can be told from its voxels.

A coarse copy is registered rigidly to a template that is its own mirror image: the mean of the MNI152 brain (nilearn's,
which lies inside its wheel) and its reflection. Whatever a scan's pose was, its copies end in the same pose, and a
mirrored copy ends in the mirror image of it.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813  (the name everybody knows it by)
from scipy import ndimage

COARSE_MM = 4.0
GRID_MM = 6.0
GRID_VOXELS = (24, 32, 26)  # z, y, x; even along x, so that a mirror image lies on the same grid
TEMPLATE_MM = 2
SMOOTHING_MM = 2.0
ADULT_LITRES = 1.4
AIR_VOXELS = 12
# below the surface of the template, which is larger than most brains: nearer to it, masks of one brain differ
LEAST_DEPTH_MM = 16.0


class Coarse(NamedTuple):
    """Averages over blocks of a brain: `tissue_zyx` of ranks less one half, 0 outside, `inside_zyx` of its mask."""

    tissue_zyx: np.ndarray
    inside_zyx: np.ndarray
    edges_mm: tuple[float, ...]


def coarse(volume_zyx: np.ndarray, spacing_mm: Sequence[float]) -> Coarse:
    """Ranks of intensities, which no change of contrast moves, averaged over blocks of about 4 mm.

    Args:
        volume_zyx: a brain, background 0.
        spacing_mm: its voxel size, z, y, x.
    """
    inside = volume_zyx != 0
    tissue = np.zeros(volume_zyx.shape, dtype=np.float32)
    tissue[inside] = _ranks(volume_zyx[inside].astype(np.float32)) - 0.5
    steps = [max(1, round(COARSE_MM / edge)) for edge in spacing_mm]
    edges_mm = tuple(float(edge * step) for edge, step in zip(spacing_mm, steps, strict=True))
    return Coarse(_means(tissue, steps), _means(inside.astype(np.float32), steps), edges_mm)


def as_adult(brain: Coarse) -> Coarse:
    """The brain at the size of an adult's, in a few steps: what is half as large to twice as large stays as it is.

    Steps are wide so that another mask of the same brain leads to the same one.
    """
    litres = float(brain.inside_zyx.sum() * np.prod(brain.edges_mm)) / 1e6
    times = 4.0 ** np.round(np.log(ADULT_LITRES / litres) / np.log(4))
    return brain._replace(edges_mm=tuple(edge * float(np.cbrt(times)) for edge in brain.edges_mm))


def in_standard_pose(brain: Coarse) -> tuple[np.ndarray, np.ndarray]:
    """Tissue and mask where the template has them, on a grid of 6 mm; (24, 32, 26) each.

    A brain that cannot be registered is only centred.
    """
    brain = as_adult(brain)
    # air all around, so that no part of the brain can be moved out of what is compared
    found = _register(_image(np.pad(brain.tissue_zyx + brain.inside_zyx, AIR_VOXELS), brain.edges_mm))
    tissue_zyx, inside_zyx = (
        _on_grid(sitk.SmoothingRecursiveGaussian(_image(volume_zyx, brain.edges_mm), SMOOTHING_MM), found)
        for volume_zyx in (brain.tissue_zyx, brain.inside_zyx)
    )
    return tissue_zyx, inside_zyx


@functools.cache
def interior() -> np.ndarray:
    """Mask of the grid's voxels that lie well inside the template's brain, the same on both sides."""
    _, inside = _brain_of_template()
    depth_mm = ndimage.distance_transform_edt(inside & inside[:, :, ::-1], sampling=float(TEMPLATE_MM))
    image = _image(depth_mm.astype(np.float32), [float(TEMPLATE_MM)] * 3)
    return _on_grid(image, sitk.Transform(3, sitk.sitkIdentity)) > LEAST_DEPTH_MM


def _on_grid(image: sitk.Image, from_template: sitk.Transform) -> np.ndarray:
    size_xyz = GRID_VOXELS[::-1]
    origin_xyz = [-(size - 1) / 2 * GRID_MM for size in size_xyz]
    axes = [float(value) for value in np.eye(3).ravel()]
    there = sitk.Resample(image, size_xyz, from_template, sitk.sitkLinear, origin_xyz, [GRID_MM] * 3, axes, 0.0)
    return sitk.GetArrayFromImage(there)


def _register(moving: sitk.Image) -> sitk.Transform:
    """From the template to the brain, rigid, by correlation on a grid of 8 mm."""
    method = sitk.ImageRegistrationMethod()
    method.SetMetricAsCorrelation()
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=2.0, minStep=0.02, numberOfIterations=60, gradientMagnitudeTolerance=1e-7
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([2])
    method.SetSmoothingSigmasPerLevel([4.0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    start = sitk.Euler3DTransform(
        sitk.CenteredTransformInitializer(
            _template(), moving, sitk.Euler3DTransform(), sitk.CenteredTransformInitializerFilter.MOMENTS
        )
    )
    method.SetInitialTransform(start, inPlace=False)
    try:
        return method.Execute(_template(), moving)
    except RuntimeError:  # next to nothing of it overlaps with the template
        return start


@functools.cache
def _template() -> sitk.Image:
    tissue, inside = _brain_of_template()
    brain = coarse(np.where(inside, tissue, 0), [float(TEMPLATE_MM)] * 3)
    volume_zyx = brain.tissue_zyx + brain.inside_zyx
    return _image((volume_zyx + volume_zyx[:, :, ::-1]) / 2, brain.edges_mm)


@functools.cache
def _brain_of_template() -> tuple[np.ndarray, np.ndarray]:
    """Intensities and mask in a box of some air, a whole number of coarse voxels; the box is centred on the brain."""
    from nilearn.datasets import load_mni152_brain_mask, load_mni152_template

    template, mask = (
        np.asarray(nibabel.as_closest_canonical(load(resolution=TEMPLATE_MM)).dataobj).T
        for load in (load_mni152_template, load_mni152_brain_mask)
    )
    box = ndimage.find_objects((mask > 0).astype(np.uint8))[0]
    step = int(COARSE_MM / TEMPLATE_MM)
    room = [(2 * step, 2 * step + -(part.stop - part.start) % step) for part in box]
    tissue = np.pad(template[box].astype(np.float32), room)
    return tissue, np.pad(mask[box] > 0, room)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Place of each value among all, 0 to 1, to a part in 256."""
    sample = values[:: max(1, len(values) // 50_000)]
    places = np.linspace(0, 1, 257)
    limits, tied = np.unique(np.quantile(sample, places), return_inverse=True)
    return np.interp(values, limits, np.bincount(tied, places) / np.bincount(tied)).astype(np.float32)


def _means(volume_zyx: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    padded = np.pad(volume_zyx, [(0, -size % step) for size, step in zip(volume_zyx.shape, steps, strict=True)])
    split = [part for size, step in zip(padded.shape, steps, strict=True) for part in (size // step, step)]
    return padded.reshape(split).mean(axis=(1, 3, 5))


def _image(volume_zyx: np.ndarray, edges_mm: Sequence[float]) -> sitk.Image:
    """An image whose middle is the origin."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(volume_zyx, dtype=np.float32))
    image.SetSpacing([float(edge) for edge in edges_mm[::-1]])
    image.SetOrigin([-(size - 1) / 2 * edge for size, edge in zip(volume_zyx.shape[::-1], edges_mm[::-1], strict=True)])
    return image
