"""batchgeneratorsv2's transforms, as nnU-Net uses them, on the image's device: the same draws, formulas without waits.

Draws are the library's own, made on the CPU for an image that has a shape and no content. What it calls segmentation
is where the brain is.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from torch.nn import functional as F

from adnext_plugin.on_device.fields import Fields
from adnext_plugin.on_device.linear import along, blur_of_reflected
from adnext_plugin.on_device.sampling import centred_grid, linear, transformed

BLUR_TRUNCATE = 6.0  # of the library's kernels, in standard deviations, both sides together
FLOOR = 1e-7  # of a range or deviation that is divided by
Image = tuple[torch.Tensor, torch.Tensor]  # (C, Z, Y, X), and (Z, Y, X) where the brain is


def all_known(transforms: Sequence[BasicTransform]) -> bool:
    """Whether each is of a class that is known here, with options that are."""
    return all(_is_known(transform) for transform in transforms)


def done(transforms: Sequence[BasicTransform], image_czyx: torch.Tensor, fields: Fields) -> torch.Tensor:
    """An image after transforms, whose draws come from the process's generators.

    Args:
        transforms: known ones; a `SpatialTransform` among them for patches of one voxel, whose grid costs nothing.
        image_czyx: on any device; not changed.
        fields: noise on that device.
    """
    blank = torch.zeros(()).expand(image_czyx.shape)
    image = image_czyx, (image_czyx != 0).any(dim=0)
    for transform in transforms:
        inner: BasicTransform = transform
        if isinstance(transform, RandomTransform):
            if not transform.get_parameters(image=blank)["apply_transform"]:
                continue
            inner = transform.transform
        image = FORMS[type(inner)](image, inner.get_parameters(image=blank), fields)
    return image[0]


def _is_known(transform: BasicTransform) -> bool:
    if isinstance(transform, RandomTransform):
        return _is_known(transform.transform)
    if isinstance(transform, SpatialTransform):
        return not transform.p_elastic_deform and not transform.random_crop and transform.mode_image == "bilinear"
    if isinstance(transform, GaussianNoiseTransform):
        return transform.synchronize_channels and transform.p_per_channel == 1
    if isinstance(transform, ContrastTransform):
        return transform.preserve_range
    return type(transform) in FORMS


def _moved(image: Image, drawn: dict[str, Any], _: Fields) -> Image:
    if drawn["affine"] is None:
        return image
    image_czyx, inside_zyx = image
    positions = transformed(centred_grid(image_czyx.shape[1:], image_czyx.device), drawn["affine"].tolist())
    # the brain is where more of a voxel comes from it than from around it
    return linear(image_czyx, positions), linear(inside_zyx[None].float(), positions)[0] > 0.5


def _noisy(image: Image, drawn: dict[str, Any], fields: Fields) -> Image:
    return image[0] + fields.normal(image[0].shape, None) * drawn["sigmas"], image[1]


def _blurred(image: Image, drawn: dict[str, Any], _: Fields) -> Image:
    channels = torch.where(drawn["apply_to_channel"])[0].tolist()
    sigmas = dict(zip(channels, drawn["sigmas"], strict=True))

    def change(channel: int, volume_zyx: torch.Tensor) -> torch.Tensor:
        blurred = volume_zyx[None]
        for axis, sigma in enumerate(sigmas[channel]):
            reach = _kernel_voxels(sigma) // 2
            blurred = along(blurred, blur_of_reflected(blurred.shape[axis + 1], sigma, reach, blurred.device), axis)
        return blurred[0]

    return _each(image, channels, change)


def _kernel_voxels(sigma: float) -> int:
    """The library's odd number nearest to a width."""
    width = sigma * BLUR_TRUNCATE + 0.5
    rounded = round(width)
    if rounded % 2 == 1:
        return rounded
    return rounded + 1 if width - rounded >= 0 else rounded - 1


def _brighter(image: Image, drawn: dict[str, Any], _: Fields) -> Image:
    factors = dict(zip(drawn["apply_to_channel"].tolist(), drawn["multipliers"].tolist(), strict=True))
    return _each(image, factors, lambda channel, volume_zyx: volume_zyx * factors[channel])


def _contrasted(image: Image, drawn: dict[str, Any], _: Fields) -> Image:
    channels = drawn["apply_to_channel"].tolist()
    factors = dict(zip(channels, [] if drawn["multipliers"] is None else drawn["multipliers"].tolist(), strict=True))

    def change(channel: int, volume_zyx: torch.Tensor) -> torch.Tensor:
        mean, (low, high) = volume_zyx.mean(), torch.aminmax(volume_zyx)
        return torch.clamp((volume_zyx - mean) * factors[channel] + mean, low, high)

    return _each(image, channels, change)


def _coarse(image: Image, drawn: dict[str, Any], _: Fields) -> Image:
    scales = dict(zip(drawn["apply_to_channel"].tolist(), drawn["scales"].tolist(), strict=True))

    def change(channel: int, volume_zyx: torch.Tensor) -> torch.Tensor:
        size = volume_zyx.shape
        small = [round(length * scale) for length, scale in zip(size, scales[channel], strict=True)]
        found = F.interpolate(volume_zyx[None, None], small, mode="nearest-exact")
        return F.interpolate(found, list(size), mode="trilinear")[0, 0]

    return _each(image, scales, change)


def _gamma(image: Image, drawn: dict[str, Any], _: Fields) -> Image:
    channels = drawn["apply_to_channel"].tolist()
    names = ("gamma", "invert_image", "retain_stats")
    values = zip(*(drawn[name].tolist() for name in names), strict=True) if channels else ()
    of_channel = dict(zip(channels, values, strict=True))

    def change(channel: int, volume_zyx: torch.Tensor) -> torch.Tensor:
        exponent, is_inverted, keeps_statistics = of_channel[channel]
        x = -volume_zyx if is_inverted else volume_zyx
        low, high = torch.aminmax(x)
        changed = ((x - low) / torch.clamp(high - low, min=FLOOR)) ** exponent * (high - low) + low
        if keeps_statistics:
            scale = x.std() / torch.clamp(changed.std(), min=FLOOR)
            changed = (changed - changed.mean()) * scale + x.mean()
        return -changed if is_inverted else changed

    return _each(image, channels, change)


def _mirrored(image: Image, drawn: dict[str, Any], _: Fields) -> Image:
    axes = drawn["axes"]
    return image[0].flip([axis + 1 for axis in axes]), image[1].flip(axes)


def _masked(image: Image, drawn: dict[str, Any], _: Fields) -> Image:
    return torch.where(image[1], image[0], 0.0), image[1]


def _each(image: Image, channels: Any, change: Callable[[int, torch.Tensor], torch.Tensor]) -> Image:
    """The image with some of its channels changed."""
    chosen, volumes = set(channels), image[0].unbind()
    found = [change(number, volume) if number in chosen else volume for number, volume in enumerate(volumes)]
    return torch.stack(found), image[1]


FORMS: dict[type, Callable[[Image, dict[str, Any], Fields], Image]] = {
    SpatialTransform: _moved,
    GaussianNoiseTransform: _noisy,
    GaussianBlurTransform: _blurred,
    MultiplicativeBrightnessTransform: _brighter,
    ContrastTransform: _contrasted,
    SimulateLowResolutionTransform: _coarse,
    GammaTransform: _gamma,
    MirrorTransform: _mirrored,
    MaskImageTransform: _masked,
}
