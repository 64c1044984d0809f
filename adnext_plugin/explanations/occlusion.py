"""Occlusion: how much the answer changes when a box of the image is covered."""

from collections.abc import Sequence
from itertools import product
from typing import ClassVar

import numpy as np
import torch

from adnext_plugin.errors import SettingsError
from adnext_plugin.explanations.fill import Fill, brain_of, filled_with
from adnext_plugin.explanations.method import ExplainedNetwork, Explanation, Progress
from adnext_plugin.records import record

Box = tuple[slice, slice, slice]


@record
class OcclusionSettings:
    """Lengths are voxels, z, y, x."""

    box_voxels: tuple[int, int, int] = (16, 16, 16)
    stride_voxels: tuple[int, int, int] = (8, 8, 8)
    # what a box is filled with: the image's background, 0, the mean over the brain, or this number
    fill: Fill = "background"
    batch_size: int = 8  # covered copies of the image that go through the network at once

    def __post_init__(self) -> None:
        for name in ("box_voxels", "stride_voxels"):
            if min(getattr(self, name)) < 1:
                raise SettingsError(f"{name} must be at least 1, got {list(getattr(self, name))}")
        if any(step > edge for step, edge in zip(self.stride_voxels, self.box_voxels, strict=True)):
            raise SettingsError(
                f"stride_voxels {list(self.stride_voxels)} is larger than box_voxels {list(self.box_voxels)}, so that "
                "voxels between boxes would never be covered"
            )
        if self.batch_size < 1:
            raise SettingsError(f"batch_size must be at least 1, got {self.batch_size}")
        if isinstance(self.fill, float) and not np.isfinite(self.fill):
            raise SettingsError(f"fill must be finite, got {self.fill}")


class Occlusion(Explanation):
    """Covers one box after the other and sees by how much the score falls.

    A voxel's value is the mean fall over the boxes that cover it: positive where the image speaks for the target. Boxes
    that touch no brain are left out, and voxels outside of the brain are 0.

    Source: Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks, section 4.2. They show the
    score that is left; the fall from the uncovered score is the same map upside down, with 0 for what does not matter.
    """

    name: ClassVar[str] = "occlusion"
    settings_type: ClassVar[type] = OcclusionSettings

    def cost_in_words(self, image_czyx: np.ndarray) -> str:
        """How many images go through the network."""
        return f"{len(self.boxes(brain_of(image_czyx))):,} covered images a map"

    @torch.inference_mode()
    def compute(self, network: ExplainedNetwork, image_czyx: np.ndarray, target: int, progress: Progress) -> np.ndarray:
        """Mean fall of the score, (Z, Y, X).

        Raises:
            SettingsError: a box is larger than the image.
        """
        brain_zyx = brain_of(image_czyx)
        boxes = self.boxes(brain_zyx)
        fill = torch.from_numpy(filled_with(self.settings.fill, image_czyx)).to(network.device)
        image = network.tensor(image_czyx)
        before = float(network.scores(image, target)[0])
        fall_zyx, times_zyx = np.zeros(brain_zyx.shape), np.zeros(brain_zyx.shape, dtype=np.int64)
        for start in range(0, len(boxes), self.settings.batch_size):
            some = boxes[start : start + self.settings.batch_size]
            covered = image.repeat(len(some), 1, 1, 1, 1)
            for copy, box in zip(covered, some, strict=True):
                copy[(slice(None), *box)] = fill
            for box, score in zip(some, network.scores(covered, target).cpu().tolist(), strict=True):
                fall_zyx[box] += before - score
                times_zyx[box] += 1
            progress(start + len(some), len(boxes))
        return np.where(brain_zyx, fall_zyx / np.maximum(times_zyx, 1), 0.0)

    def boxes(self, brain_zyx: np.ndarray) -> list[Box]:
        """The boxes that touch the brain; as many images go through the network, and one more.

        Args:
            brain_zyx: true in the brain.

        Raises:
            SettingsError: a box is larger than the image.
        """
        settings = self.settings
        if any(edge > size for edge, size in zip(settings.box_voxels, brain_zyx.shape, strict=True)):
            raise SettingsError(
                f"box_voxels {list(settings.box_voxels)} is larger than the image, {list(brain_zyx.shape)}; take less"
            )
        z, y, x = (
            _places(*axis) for axis in zip(brain_zyx.shape, settings.box_voxels, settings.stride_voxels, strict=True)
        )
        return [box for box in product(z, y, x) if brain_zyx[box].any()]


def _places(size: int, edge: int, stride: int) -> Sequence[slice]:
    """Boxes along an axis; the last one ends where the axis does."""
    starts = sorted({*range(0, size - edge + 1, stride), size - edge})
    return [slice(start, start + edge) for start in starts]
