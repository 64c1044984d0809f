"""nnU-Net's own augmentation, from the library that it takes it from, under seeds of this package.

Source: nnU-Net 2.8, `nnUNetTrainer.get_training_transforms`. Departures: only left and right are exchanged, as brains
do not stand on their heads; and the way to blur is not chosen by what a stopwatch says, which would change last bits.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform
from batchgeneratorsv2.transforms.intensity.brightness import MultiplicativeBrightnessTransform
from batchgeneratorsv2.transforms.intensity.contrast import BGContrast, ContrastTransform
from batchgeneratorsv2.transforms.intensity.gamma import GammaTransform
from batchgeneratorsv2.transforms.intensity.gaussian_noise import GaussianNoiseTransform
from batchgeneratorsv2.transforms.noise.gaussian_blur import GaussianBlurTransform
from batchgeneratorsv2.transforms.spatial.low_resolution import SimulateLowResolutionTransform
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from monai.transforms import Randomizable, Transform

from adnext_plugin.data.augmentations import nnunet_on_device
from adnext_plugin.data.augmentations.changes import X
from adnext_plugin.on_device.fields import Fields

ROTATION = np.pi / 6  # radians, to either side of each axis
OUTSIDE = -1  # nnU-Net's label of what is outside the brain


def nnunet() -> list[Transform]:
    """nnU-Net's: turns, size, noise, blur, brightness, contrast, resolution, gamma, flips; the background stays 0."""
    return [FromBatchgenerators(nnunet_transforms)]


def nnunet_transforms(channels: int, size_voxels: tuple[int, int, int]) -> list[BasicTransform]:
    """The transforms for images of some channels and a size, in nnU-Net's order and with its numbers."""
    return [
        SpatialTransform(
            size_voxels,
            patch_center_dist_from_border=0,
            random_crop=False,
            p_rotation=0.2,
            rotation=(-ROTATION, ROTATION),
            p_scaling=0.2,
            scaling=(0.7, 1.4),
            p_synchronize_scaling_across_axes=1,
            border_mode_seg="constant",
            padding_value_seg=OUTSIDE,
        ),
        *_intensity(),
        MirrorTransform(allowed_axes=(X,)),
        MaskImageTransform(apply_to_channels=list(range(channels)), channel_idx_in_seg=0, set_outside_to=0),
    ]


class FromBatchgenerators(Randomizable, Transform):
    """Transforms of batchgeneratorsv2, drawn from a random state of their own instead of the process's generators.

    Args:
        build: from the number of channels and the size in voxels to transforms. What they are given as segmentation is
            0 where an image is not 0 in any channel, and -1 around it.
    """

    def __init__(self, build: Callable[[int, tuple[int, int, int]], list[BasicTransform]]) -> None:
        self._build = build

    def __call__(self, image_czyx: torch.Tensor) -> torch.Tensor:
        channels, z, y, x = image_czyx.shape
        outside = OUTSIDE * (image_czyx == 0).all(dim=0, keepdim=True).to(torch.int16)
        chain = ComposeTransforms(self._build(channels, (z, y, x)))
        with _process_seeded(int(self.R.randint(2**32, dtype=np.uint32))):
            # some of them write into what they are given
            return chain(image=image_czyx.clone(), segmentation=outside)["image"]

    @property
    def runs_on_device(self) -> bool:
        """Whether all transforms are known there."""
        return nnunet_on_device.all_known(self._build(1, (1, 1, 1)))

    def on_device(self, image_czyx: torch.Tensor, fields: Fields) -> torch.Tensor:
        """The same where the image is."""
        transforms = self._build(len(image_czyx), (1, 1, 1))
        with _process_seeded(int(self.R.randint(2**32, dtype=np.uint32))):
            return nnunet_on_device.done(transforms, image_czyx, fields)


def _intensity() -> list[BasicTransform]:
    strength = BGContrast((0.75, 1.25))
    noise = GaussianNoiseTransform(noise_variance=(0, 0.1), p_per_channel=1, synchronize_channels=True)
    blur = GaussianBlurTransform(
        blur_sigma=(0.5, 1.0), synchronize_channels=False, synchronize_axes=False, p_per_channel=0.5
    )
    brightness = MultiplicativeBrightnessTransform(
        multiplier_range=strength, synchronize_channels=False, p_per_channel=1
    )
    contrast = ContrastTransform(
        contrast_range=strength, preserve_range=True, synchronize_channels=False, p_per_channel=1
    )
    resolution = SimulateLowResolutionTransform(
        scale=(0.5, 1), synchronize_channels=False, synchronize_axes=True, ignore_axes=None, p_per_channel=0.5
    )
    gamma, inverted_gamma = (
        GammaTransform(
            gamma=BGContrast((0.7, 1.5)),
            p_invert_image=inverted,
            synchronize_channels=False,
            p_per_channel=1,
            p_retain_stats=1,
        )
        for inverted in (0, 1)
    )
    shares = ((noise, 0.1), (blur, 0.2), (brightness, 0.15), (contrast, 0.15), (resolution, 0.25))
    gammas = ((inverted_gamma, 0.1), (gamma, 0.3))
    return [RandomTransform(change, apply_probability=share) for change, share in (*shares, *gammas)]


@contextmanager
def _process_seeded(seed: int) -> Iterator[None]:
    """The process's generators of NumPy and torch, which the library draws from, seeded and afterwards as before."""
    state = np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)  # of the CPU alone
        try:
            yield
        finally:
            np.random.set_state(state)
