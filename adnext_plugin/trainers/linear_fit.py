"""Voxels of a fold's scans as a kernel, and a model of that kernel as weights of voxels.

What a scan is to the model are its voxels inside a mask, smoothed on a grid that can just show the result, and its
covariates. Products of scans are divided by the number of voxels, so that a strength means the same on every grid, and
a covariate of variance 1 counts as much as an image of variance 1.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from adnext_plugin.cpu_memory import available_memory_bytes
from adnext_plugin.errors import SettingsError
from adnext_plugin.evaluation.studies.kernel_fit import KernelModel
from adnext_plugin.evaluation.studies.smoothing import Smoothing

Read = Callable[[Sequence[str]], Iterator[np.ndarray]]  # images (C, Z, Y, X) of cases, in their order
USUAL_BYTES = 2 << 30  # where the system does not say what is free
CHUNK = 1 << 15  # voxels that are brought to double precision at a time


@dataclass(frozen=True, kw_only=True, eq=False)
class VoxelModel:
    """Weights of voxels (K, C, Z, Y, X), of covariates (K, L), and offsets (K,), for outputs (K,)."""

    mask_czyx: np.ndarray
    weights_kczyx: np.ndarray
    covariate_weights: np.ndarray
    offset: np.ndarray


def mask_of(read: Read, cases: Sequence[str], share: float, channels: Sequence[int]) -> np.ndarray:
    """Which voxels (C, Z, Y, X) are not empty in at least a share of the cases, in some channels; with 0 all of these.

    Args:
        read: gives images.
        cases: to look at.
        share: of the cases.
        channels: those that are used; voxels of others are outside.

    Raises:
        SettingsError: there is no such voxel.
    """
    counts: np.ndarray | None = None
    for image_czyx in read(cases if share > 0 else cases[:1]):
        counts = (image_czyx != 0) + (0 if counts is None else counts)
    assert counts is not None
    mask_czyx = np.zeros(counts.shape, bool)
    used = list(channels)
    mask_czyx[used] = counts[used] >= share * len(cases) if share > 0 else True
    if not mask_czyx.any():
        raise SettingsError(f"no voxel is filled in {share:.0%} of the scans to train on; lower mask_share")
    return mask_czyx


class VoxelKernel:
    """Products between cases of what the model sees of them.

    Args:
        read: gives images.
        cases: to learn from.
        mask_czyx: what of an image counts.
        smoothing: of it.
        covariates: (N, L) of the cases, standardised; L may be 0.
        image_weight: what products of images are multiplied with.
        bytes_at_once: of voxels of cases that are kept in memory; of more cases, images are read several times.
    """

    def __init__(
        self,
        read: Read,
        cases: Sequence[str],
        mask_czyx: np.ndarray,
        smoothing: Smoothing,
        covariates: np.ndarray,
        image_weight: float = 1.0,
        bytes_at_once: int | None = None,
    ) -> None:
        self._read, self._cases, self._mask, self._smoothing = read, cases, mask_czyx, smoothing
        self._covariates, self._image_weight = covariates.astype(np.float64), image_weight
        # of the mask, as the coarse grid shows it
        self._size = max(1, sum(int(mask_zyx[smoothing.kept].sum()) for mask_zyx in mask_czyx))
        # points that anything inside the mask is felt at
        self._points = [smoothing(mask_zyx) > 0 for mask_zyx in mask_czyx]
        points = sum(int(found.sum()) for found in self._points)
        free = (available_memory_bytes() or 2 * USUAL_BYTES) // 2 if bytes_at_once is None else bytes_at_once
        self._rows = max(1, min(len(cases), free // (8 * points)))  # two blocks of them in single precision
        self._kept: np.ndarray | None = None

    def gram(self) -> np.ndarray:
        """Products (N, N), float64."""
        gram = self._covariates @ self._covariates.T
        if self._image_weight == 0:
            return gram
        blocks = [slice(start, start + self._rows) for start in range(0, len(self._cases), self._rows)]
        for number, block in enumerate(blocks):
            first = self._block(block)
            for other in blocks[number:]:
                second = first if other == block else self._block(other)
                products = self._image_weight * _products(first, second) / self._size
                gram[block, other] += products
                if other != block:
                    gram[other, block] += products.T
        return gram

    def weights(self, model: KernelModel) -> VoxelModel:
        """What the model is on voxels and covariates."""
        if self._image_weight == 0:
            return self._model(model, np.zeros((len(model.dual), *self._mask.shape)))
        combined: np.ndarray = np.zeros(())
        for start in range(0, len(self._cases), self._rows):
            block = slice(start, start + self._rows)
            combined = combined + _weighted(model.dual[:, block], self._block(block))
        ends = np.cumsum([points.sum() for points in self._points])[:-1]
        weights = np.zeros((len(model.dual), *self._mask.shape))
        for row, values in zip(weights, self._image_weight * combined / self._size, strict=True):
            for channel, of_channel in enumerate(np.split(values, ends)):
                coarse = np.zeros(self._points[channel].shape)
                coarse[self._points[channel]] = of_channel
                row[channel] = self._smoothing.spread(coarse, self._mask.shape[1:]) * self._mask[channel]
        return self._model(model, weights)

    def _model(self, model: KernelModel, weights_kczyx: np.ndarray) -> VoxelModel:
        return VoxelModel(
            mask_czyx=self._mask,
            weights_kczyx=weights_kczyx,
            covariate_weights=model.dual @ self._covariates,
            offset=model.offset,
        )

    def _block(self, block: slice) -> np.ndarray:
        """What the model sees of some cases, (n, points) float32."""
        is_all = self._rows >= len(self._cases)
        if self._kept is not None:
            return self._kept
        found = np.stack([self._seen(image_czyx) for image_czyx in self._read(self._cases[block])])
        if is_all:
            self._kept = found
        return found

    def _seen(self, image_czyx: np.ndarray) -> np.ndarray:
        looked_at = [(channel, points) for channel, points in enumerate(self._points) if points.any()]
        masked = image_czyx * self._mask
        return np.concatenate([self._smoothing(masked[channel])[points] for channel, points in looked_at])


def _products(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """In double precision, which single-precision copies of all voxels would take too much memory for."""
    total = np.zeros((len(first), len(second)))
    for start in range(0, first.shape[1], CHUNK):
        left = first[:, start : start + CHUNK].astype(np.float64)
        right = left if second is first else second[:, start : start + CHUNK].astype(np.float64)
        total += left @ right.T
    return total


def _weighted(dual: np.ndarray, seen: np.ndarray) -> np.ndarray:
    parts = [dual @ seen[:, start : start + CHUNK].astype(np.float64) for start in range(0, seen.shape[1], CHUNK)]
    return np.concatenate(parts, axis=1)
