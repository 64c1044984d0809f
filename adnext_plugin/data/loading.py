"""Batches in an order that depends on the seed and the epoch alone.

Nothing random is carried from one epoch or process to the next: the order of an epoch is drawn from (seed, epoch), an
image's augmentation from (seed, epoch, case). A run that was interrupted, or that uses another number of worker
processes, therefore sees exactly the batches of one that was not.
"""

import sys
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler, default_collate

from adnext_plugin.batch import Batch, Change
from adnext_plugin.data.store import CaseStore
from adnext_plugin.errors import AdnextError


class Loader(Protocol):
    """What serves batches with `next`, one epoch at a time."""

    def __len__(self) -> int:
        """Batches of an epoch."""
        ...

    def start(self, epoch: int) -> None:
        """Begin an epoch."""
        ...

    def batches(self, epoch: int) -> Iterator[Batch]:
        """All batches of an epoch."""
        ...

    def __next__(self) -> Batch: ...


class CaseDataset(Dataset):
    """Images and targets of a store, addressed by (epoch, index).

    Args:
        store: the images.
        targets: (N,), of the store's cases: class indices, or numbers.
        covariates: (N, K) float32.
        change: applied to each image (C, Z, Y, X) with a seed of its own; None to leave images as they are.
        seed: of the run.

    Attributes:
        targets, covariates: as tensors.
    """

    def __init__(
        self, store: CaseStore, targets: np.ndarray, covariates: np.ndarray, change: Change | None, seed: int
    ) -> None:
        self._store = store
        self.targets = torch.tensor(targets, dtype=torch.int64 if targets.dtype.kind == "i" else torch.float32)
        self.covariates = torch.from_numpy(covariates)
        self._change = change
        self._seed = seed

    def __len__(self) -> int:
        return len(self._store)

    def bytes_of_case(self) -> int:
        """What a case takes as it is served, with all its views."""
        return self[0, 0].images.nbytes

    def __getitem__(self, address: tuple[int, int]) -> Batch:
        epoch, index = address
        image_czyx = self.changed(torch.from_numpy(self._store[index].astype(np.float32)), epoch, index)
        return Batch(image_czyx, self.targets[index], self.covariates[index], torch.tensor(index))

    def __getitems__(self, addresses: list[tuple[int, int]]) -> Batch | AdnextError:
        """A batch, as torch's loaders ask for it, or the error that a case of it raised.

        Of an error that leaves a worker process, torch would make a traceback of many lines the message.
        """
        try:
            return default_collate([self[address] for address in addresses])
        except AdnextError as error:
            return error

    def changed(self, image_czyx: torch.Tensor, epoch: int, index: int) -> torch.Tensor:
        """A case's image as it is served in an epoch."""
        if self._change is None:
            return image_czyx
        seeds = np.random.SeedSequence((self._seed, epoch, index)).generate_state(1)
        return self._change(image_czyx, int(seeds[0]))

    def volumes_on(self, device: torch.device) -> torch.Tensor:
        """All volumes on a device, (N, C, Z, Y, X) float16."""
        return self._store.on_device(device)


class EpochSampler(Sampler):
    """Batches of (epoch, index) addresses; one process of several takes its share of every batch.

    Args:
        cases: number of cases.
        batch_size: over all processes.
        shuffle: draw a new order each epoch; an incomplete last batch is then dropped, unless it is the only one.
        seed: of the run.
        rank, processes: which share this process takes.
        order: indices of all cases, as they are served where the order is not drawn; None: 0, 1, 2, ...
    """

    def __init__(
        self,
        cases: int,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        rank: int = 0,
        processes: int = 1,
        order: np.ndarray | None = None,
    ) -> None:
        self.epoch = 0
        self._cases = cases
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._seed = seed
        self._rank = rank
        self._processes = processes
        self._order = np.arange(cases) if order is None else order

    def __len__(self) -> int:
        full, rest = divmod(self._cases, self._batch_size)
        # of a batch with fewer cases than processes, the last of these have none
        return full + (rest > self._rank and (not self._shuffle or full == 0))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = self._order
        if self._shuffle:
            order = np.random.default_rng((self._seed, self.epoch)).permutation(self._cases)
        for batch in range(len(self)):
            indices = order[batch * self._batch_size : (batch + 1) * self._batch_size]
            yield [(self.epoch, int(index)) for index in indices[self._rank :: self._processes]]


class EpochLoader:
    """Serves batches with `next`, as nnU-Net's training loop asks for them, one epoch at a time.

    Args:
        dataset: the cases.
        sampler: their order.
        workers: processes that load and augment; 0 does it in this one.
        pin_memory: for faster copies to a GPU.
    """

    def __init__(self, dataset: CaseDataset, sampler: EpochSampler, *, workers: int = 0, pin_memory: bool = False):
        self._sampler = sampler
        self._loader = DataLoader(
            dataset,
            batch_sampler=sampler,
            collate_fn=_as_it_is,
            num_workers=workers,
            multiprocessing_context=_context() if workers else None,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
        )
        self._batches: Iterator[Batch | AdnextError] = iter(())

    def __len__(self) -> int:
        return len(self._sampler)

    def start(self, epoch: int) -> None:
        """Begin an epoch; `next` then yields its batches, `len(self)` of them."""
        self._sampler.epoch = epoch
        self._batches = iter(self._loader)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """All batches of an epoch."""
        self.start(epoch)
        for _ in range(len(self)):
            yield next(self)

    def __next__(self) -> Batch:
        batch = next(self._batches)
        if isinstance(batch, AdnextError):
            raise batch
        return batch


def _as_it_is(batch: Any) -> Any:
    """In the place of what torch would make a batch with; the dataset has."""
    return batch


def _context() -> str | None:
    """Linux's way to start processes that share what is in memory already, whatever Python's default is.

    Elsewhere they are given a copy of the dataset, without the volumes, which they read from disk.
    """
    return "fork" if sys.platform == "linux" else None
