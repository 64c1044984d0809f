"""Transforms as they are done on a device, by the class of the transform.

A form draws its numbers from the transform's own random state, in the transform's own order: under one seed it makes
the change that the transform makes on the CPU, up to rounding. Only fields of noise come from a generator of the
device. Nothing is read from the device and nothing copied to it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from monai.transforms import (
    RandAffine,
    RandAxisFlip,
    RandFlip,
    RandGaussianNoise,
    RandGaussianSmooth,
    RandomizableTransform,
    RandRotate90,
    RandScaleIntensity,
    RandShiftIntensity,
    RandSpatialCrop,
    Transform,
)
from monai.transforms.spatial.array import AffineGrid

from adnext_plugin.on_device.fields import Fields
from adnext_plugin.on_device.linear import along, blur_of_monai
from adnext_plugin.on_device.sampling import centred_grid, linear, transformed

Form = Callable[[Any, torch.Tensor, Fields], torch.Tensor]


def has_form(transform: Transform) -> bool:
    """Whether a transform can be done on a device: one of MONAI's that are known here, or one that says so itself.

    A transform says so by a method `on_device` of an image and `Fields`, and where it depends, `runs_on_device`.
    """
    if hasattr(transform, "on_device"):
        return getattr(transform, "runs_on_device", True)
    # a subclass may do something else
    if type(transform) is RandAffine:
        return transform.padding_mode == "zeros" and transform.mode == "bilinear" and transform.spatial_size is None
    if isinstance(transform, RandScaleIntensity | RandShiftIntensity) and type(transform) in FORMS:
        return not transform.channel_wise
    return type(transform) in FORMS


def done(transforms: Sequence[Transform], image_czyx: torch.Tensor, fields: Fields) -> torch.Tensor:
    """An image (C, Z, Y, X) after transforms that have a form and a random state; the given one is not changed."""
    for transform in transforms:
        if hasattr(transform, "on_device"):
            image_czyx = transform.on_device(image_czyx, fields)
        else:
            image_czyx = FORMS[type(transform)](transform, image_czyx, fields)
    return image_czyx


def _is_done(transform: RandomizableTransform) -> bool:
    return transform._do_transform


def _flip(transform: RandFlip, image_czyx: torch.Tensor, _: Fields) -> torch.Tensor:
    transform.randomize(None)
    axes = transform.flipper.spatial_axis
    if not _is_done(transform):
        return image_czyx
    chosen = range(image_czyx.ndim - 1) if axes is None else np.atleast_1d(axes).tolist()
    return image_czyx.flip([axis + 1 for axis in chosen])


def _axis_flip(transform: RandAxisFlip, image_czyx: torch.Tensor, _: Fields) -> torch.Tensor:
    transform.randomize(image_czyx)
    axis = transform._axis
    return image_czyx.flip([axis + 1]) if _is_done(transform) and axis is not None else image_czyx


def _rotate90(transform: RandRotate90, image_czyx: torch.Tensor, _: Fields) -> torch.Tensor:
    transform.randomize()
    if not _is_done(transform):
        return image_czyx
    first, second = (axis + 1 for axis in transform.spatial_axes)
    return image_czyx.rot90(transform._rand_k, (first, second))


def _scale(transform: RandScaleIntensity, image_czyx: torch.Tensor, _: Fields) -> torch.Tensor:
    transform.randomize()
    return image_czyx * (1 + transform.factor) if _is_done(transform) else image_czyx


def _shift(transform: RandShiftIntensity, image_czyx: torch.Tensor, _: Fields) -> torch.Tensor:
    transform.randomize()
    return image_czyx + transform._offset if _is_done(transform) else image_czyx


def _noise(transform: RandGaussianNoise, image_czyx: torch.Tensor, fields: Fields) -> torch.Tensor:
    RandomizableTransform.randomize(transform, None)
    if not _is_done(transform):
        return image_czyx
    deviation = transform.R.uniform(0, transform.std) if transform.sample_std else transform.std
    return image_czyx + (fields.normal(image_czyx.shape, transform.R) * deviation + transform.mean)


def _smooth(transform: RandGaussianSmooth, image_czyx: torch.Tensor, _: Fields) -> torch.Tensor:
    transform.randomize()
    return blurred(image_czyx, (transform.x, transform.y, transform.z)) if _is_done(transform) else image_czyx


def _affine(transform: RandAffine, image_czyx: torch.Tensor, _: Fields) -> torch.Tensor:
    transform.randomize()
    if not _is_done(transform):
        return image_czyx
    drawn = transform.rand_affine_grid
    drawn.randomize()  # once more, as MONAI does when it makes the grid
    size = tuple(image_czyx.shape[1:])
    grid = AffineGrid(
        rotate_params=drawn.rotate_params,
        shear_params=drawn.shear_params,
        translate_params=drawn.translate_params,
        scale_params=drawn.scale_params,
        lazy=True,
    )
    matrix = grid(size)[1].tolist()  # made on the CPU, of numbers
    return linear(image_czyx, transformed(centred_grid(size, image_czyx.device), matrix[:3]))


def _crop(transform: RandSpatialCrop, image_czyx: torch.Tensor, _: Fields) -> torch.Tensor:
    transform.randomize(tuple(image_czyx.shape[1:]))
    return image_czyx[(slice(None), *transform._slices)]


def blurred(image_czyx: torch.Tensor, sigmas_voxels: Sequence[float]) -> torch.Tensor:
    """An image under a Gaussian whose width, in voxels, each spatial axis has its own of."""
    for axis, (length, sigma) in enumerate(zip(image_czyx.shape[1:], sigmas_voxels, strict=True)):
        image_czyx = along(image_czyx, blur_of_monai(length, sigma, image_czyx.device), axis)
    return image_czyx


FORMS: dict[type, Form] = {
    RandFlip: _flip,
    RandAxisFlip: _axis_flip,
    RandRotate90: _rotate90,
    RandScaleIntensity: _scale,
    RandShiftIntensity: _shift,
    RandGaussianNoise: _noise,
    RandGaussianSmooth: _smooth,
    RandAffine: _affine,
    RandSpatialCrop: _crop,
}
