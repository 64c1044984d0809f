"""Pairs of what a network sees of a scan and what it is to make of that.

window     a random part of the scan, large enough for turns; without patches, the whole scan
target     the window after the run's augmentation, in space; its middle is the patch
input      the target after the augmentation that is to be undone
"""

import math
from collections.abc import Sequence

import numpy as np
import torch

from adnext_plugin.batch import Change, runs_on_device
from adnext_plugin.pretraining.named_changes import NamedChange

Size = tuple[int, int, int]
WINDOW, REVERSED = 1, 2  # streams of what is drawn under one seed


class RestorationViews:
    """Input and target of a training image, stacked (2, C, Z, Y, X).

    Args:
        augmentation: what is done to both.
        reversed_: what is done to the input alone.
        patch_voxels: how much of a scan is taken; None: all of it.
    """

    def __init__(self, augmentation: Change, reversed_: str, patch_voxels: Size | None) -> None:
        self._augmentation = augmentation
        self._reversed = NamedChange(reversed_, stream=REVERSED)
        self._patch = patch_voxels
        self.runs_on_device = runs_on_device(augmentation) and self._reversed.runs_on_device

    def __call__(self, image_czyx: torch.Tensor, seed: int) -> torch.Tensor:
        if self._patch is None:
            target = self._augmentation(image_czyx, seed)
        else:
            window = random_cut(image_czyx, pre_augmentation_size(self._patch), seed)
            target = central_cut(self._augmentation(window, seed), self._patch)
        return torch.stack([self._reversed(target, seed), target])


class UnchangedViews:
    """The middle of an image as input and as target, whatever the seed."""

    runs_on_device = True

    def __init__(self, patch_voxels: Size | None) -> None:
        self._patch = patch_voxels

    def __call__(self, image_czyx: torch.Tensor, seed: int) -> torch.Tensor:
        patch = image_czyx if self._patch is None else central_cut(image_czyx, self._patch)
        return torch.stack([patch, patch])


def pre_augmentation_size(patch_voxels: Sequence[int]) -> Size:
    """What a patch is cut from, so that a turn brings nothing in from outside: 181³ for a patch of 128³.

    Source: their code, ⌊√(a² + b²)⌋ of equal edges; of others, each edge with the longest of the other two.
    """
    edges = list(patch_voxels)
    others = [max(edges[:axis] + edges[axis + 1 :]) for axis in range(3)]
    z, y, x = (math.isqrt(edge**2 + other**2) for edge, other in zip(edges, others, strict=True))
    return z, y, x


def random_cut(image_czyx: torch.Tensor, size_voxels: Size, seed: int) -> torch.Tensor:
    """A part of an image from a random place; what is too small is padded first, evenly."""
    padded = _padded(image_czyx, size_voxels)
    random = np.random.default_rng((seed, WINDOW))
    starts = [
        int(random.integers(0, has - wants + 1)) for has, wants in zip(padded.shape[1:], size_voxels, strict=True)
    ]
    return _cut(padded, starts, size_voxels)


def central_cut(image_czyx: torch.Tensor, size_voxels: Size) -> torch.Tensor:
    """The middle of an image; what is too small is padded first, evenly."""
    padded = _padded(image_czyx, size_voxels)
    starts = [(has - wants) // 2 for has, wants in zip(padded.shape[1:], size_voxels, strict=True)]
    return _cut(padded, starts, size_voxels)


def _cut(image_czyx: torch.Tensor, starts: Sequence[int], size_voxels: Size) -> torch.Tensor:
    z, y, x = (slice(start, start + wants) for start, wants in zip(starts, size_voxels, strict=True))
    return image_czyx[:, z, y, x].clone()


def _padded(image_czyx: torch.Tensor, size_voxels: Size) -> torch.Tensor:
    """With background, 0, or where an image has none, its smallest value."""
    missing = [max(0, wants - has) for has, wants in zip(image_czyx.shape[1:], size_voxels, strict=True)]
    if not any(missing):
        return image_czyx
    # no value is read, for which everything before it would have to be done on a GPU
    value = torch.where((image_czyx == 0).any(), image_czyx.new_zeros(()), image_czyx.min())
    sizes = [has + lacks for has, lacks in zip(image_czyx.shape[1:], missing, strict=True)]
    padded = value.expand(len(image_czyx), *sizes).clone()
    z, y, x = (slice(lacks // 2, lacks // 2 + has) for has, lacks in zip(image_czyx.shape[1:], missing, strict=True))
    padded[:, z, y, x] = image_czyx
    return padded
