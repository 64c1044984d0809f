"""All cases on the GPU at once, in float16, and batches of them that are made there.

500 scans of 128³ take 2 GB. No process loads, nothing is copied in a step, and augmentation costs the GPU little beside
a training step.
"""

import math
from collections.abc import Iterator, Sequence

import torch

from adnext_plugin.batch import Batch
from adnext_plugin.data.loading import CaseDataset, EpochSampler

LARGEST_SHARE = 0.25  # of the GPU's free memory; a network takes the rest


class ResidentLoader:
    """Serves the batches that `EpochLoader` serves, in the same order, on the device.

    Args:
        dataset: the cases; its change must run on the device.
        sampler: their order.
        device: where volumes are kept.
    """

    def __init__(self, dataset: CaseDataset, sampler: EpochSampler, device: torch.device) -> None:
        self._sampler = sampler
        self._dataset = dataset
        self._volumes = dataset.volumes_on(device)
        self._targets = dataset.targets.to(device)
        self._covariates = dataset.covariates.to(device)
        self._order: Iterator[list[tuple[int, int]]] = iter(())

    def __len__(self) -> int:
        return len(self._sampler)

    def start(self, epoch: int) -> None:
        """Begin an epoch; `next` then yields its batches, `len(self)` of them."""
        self._sampler.epoch = epoch
        self._order = iter(self._sampler)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """All batches of an epoch."""
        self.start(epoch)
        for _ in range(len(self)):
            yield next(self)

    def __next__(self) -> Batch:
        addresses = next(self._order)
        indices = [index for _, index in addresses]
        images = [self._dataset.changed(self._volumes[index].float(), epoch, index) for epoch, index in addresses]
        # places by number: a tensor of indices would have to be copied to the device first
        return Batch(
            torch.stack(images),
            torch.stack([self._targets[index] for index in indices]),
            torch.stack([self._covariates[index] for index in indices]),
            torch.tensor(indices),
        )


def fits(cases: int, shape_czyx: Sequence[int], free_bytes: int) -> bool:
    """Whether volumes in float16 take a small part of what is free on a GPU."""
    return 2 * cases * math.prod(shape_czyx) <= LARGEST_SHARE * free_bytes
