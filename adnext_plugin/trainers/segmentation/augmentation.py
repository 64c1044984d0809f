"""Random changes to patches inside nnU-Net's own pipeline: AMAES' in space, and its faults of a scanner.

    spatial    turns (chance 0.2, up to 30° about each axis, each with chance 0.66), changes of size (0.2; 0.9 to 1.1)
    all        elastic deformation (0.33) besides, and intensities as in `data.augmentations.amaes`, of the scan alone

Nothing is mirrored. nnU-Net's transform in space turns about the axes in another order than AMAES' code, and
interpolates linearly. AMAES deforms by noise from -1 to 1, smoothed over 20 to 30 voxels of a patch of 128³ and
multiplied by 200 to 600; its largest offsets are about 0.2 to 1.2 voxels, which is what nnU-Net's transform is told.

Source: Munk et al. 2024 (AMAES), fine-tuning.
"""

from collections.abc import Sequence

import numpy as np
import torch
from batchgeneratorsv2.transforms.base.basic_transform import BasicTransform, ImageOnlyTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.deep_supervision_downsampling import DownsampleSegForDSTransform
from batchgeneratorsv2.transforms.utils.nnunet_masking import MaskImageTransform
from batchgeneratorsv2.transforms.utils.remove_label import RemoveLabelTansform

from adnext_plugin.named_transforms import named_transforms
from adnext_plugin.on_device.change import SeededChange

LARGEST_ANGLE = np.pi / 6
SIZES = (0.9, 1.1)
SMOOTHED_OVER = (20 / 128, 30 / 128)  # of a patch's edge
LARGEST_OFFSET_VOXELS = (0.2, 1.2)
OUTSIDE = -1  # nnU-Net's label of what is outside a scan


class ChangeOfImage(ImageOnlyTransform):
    """A named augmentation of the package, under seeds drawn from the generator that nnU-Net seeds in each worker.

    Args:
        name: in the entry-point group `adnext.augmentations`.
        patch_voxels: (Z, Y, X) of what it changes.
    """

    def __init__(self, name: str, patch_voxels: Sequence[int]) -> None:
        super().__init__()
        self._change = SeededChange(named_transforms(name, patch_voxels))

    def get_parameters(self, **data_dict: torch.Tensor) -> dict[str, int]:
        """Draw the seed."""
        return {"seed": int(np.random.randint(2**31))}

    def _apply_to_image(self, img: torch.Tensor, **params: int) -> torch.Tensor:
        return self._change(img, params["seed"])


def amaes_transforms(
    patch_voxels: Sequence[int],
    deep_supervision_scales: Sequence[Sequence[float]] | None,
    use_mask_for_norm: Sequence[bool] | None,
    *,
    with_intensities: bool,
) -> BasicTransform:
    """What is done to a patch that is trained on, image and labels.

    Args:
        patch_voxels: (Z, Y, X) that come out of what nnU-Net cuts, which is larger.
        deep_supervision_scales: of the labels that coarser outputs are compared with; None: of one output.
        use_mask_for_norm: of each channel, whether it is 0 outside of a mask.
        with_intensities: `all`, or else `spatial`.
    """
    transforms: list[BasicTransform] = [
        SpatialTransform(
            tuple(patch_voxels),
            patch_center_dist_from_border=0,
            random_crop=False,
            p_elastic_deform=0.33 if with_intensities else 0,
            elastic_deform_scale=SMOOTHED_OVER,
            elastic_deform_magnitude=LARGEST_OFFSET_VOXELS,
            p_rotation=0.2,
            rotation=(-LARGEST_ANGLE, LARGEST_ANGLE),
            p_rot_per_axis=0.66,
            p_scaling=0.2,
            scaling=SIZES,
            p_synchronize_scaling_across_axes=1,
            bg_style_seg_sampling=False,
            border_mode_seg="constant",
            padding_value_seg=OUTSIDE,
        )
    ]
    if with_intensities:
        transforms.append(ChangeOfImage("amaes_intensity", patch_voxels))
    if use_mask_for_norm is not None and any(use_mask_for_norm):
        masked = [channel for channel, is_masked in enumerate(use_mask_for_norm) if is_masked]
        transforms.append(MaskImageTransform(apply_to_channels=masked, channel_idx_in_seg=0, set_outside_to=0))
    transforms.append(RemoveLabelTansform(OUTSIDE, 0))
    if deep_supervision_scales is not None:
        transforms.append(DownsampleSegForDSTransform(ds_scales=deep_supervision_scales))
    return ComposeTransforms(transforms)
