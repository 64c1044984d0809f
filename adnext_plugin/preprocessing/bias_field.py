"""Removing the slow change of brightness across a scan that the coils leave: N4, by SimpleITK."""

from collections.abc import Sequence

import numpy as np
import SimpleITK as sitk  # noqa: N813  (the name everybody knows it by)

from adnext_plugin.images import Volume


def correct_bias_field(volume: Volume, shrink_factor: int, iterations: Sequence[int]) -> Volume:
    """Divide a brain by its bias field, estimated on a coarser grid and evaluated on the scan's own.

    Args:
        volume: a brain; what is not above 0 takes no part and stays as it is.
        shrink_factor: how many times coarser the grid of the estimate is, along each axis.
        iterations: at most, per level of the field's control points.

    Returns:
        The corrected scan; voxels and affine are those of the given one.

    Source: Tustison et al. 2010, N4ITK.
    """
    mask_zyx = volume.volume_zyx > 0
    image, mask = _image(volume.volume_zyx, volume), _image(mask_zyx.astype(np.uint8), volume)
    shrink = [min(shrink_factor, size) for size in image.GetSize()]
    corrector = sitk.N4BiasFieldCorrectionImageFilter()
    # the order in which threads add up would show in the last digits, and a repeated run must give the same file
    corrector.SetNumberOfThreads(1)
    corrector.SetMaximumNumberOfIterations(list(iterations))
    corrector.Execute(sitk.Shrink(image, shrink), sitk.Shrink(mask, shrink))
    log_field_zyx = sitk.GetArrayFromImage(corrector.GetLogBiasFieldAsImage(image))
    corrected_zyx = np.where(mask_zyx, volume.volume_zyx / np.exp(log_field_zyx), volume.volume_zyx)
    return Volume(volume_zyx=corrected_zyx.astype(np.float32), affine=volume.affine)


def _image(array_zyx: np.ndarray, volume: Volume) -> sitk.Image:
    image = sitk.GetImageFromArray(array_zyx)
    image.SetSpacing(volume.spacing_mm[::-1])
    return image
