"""Compiling AD-NeXt's kernels for a GPU, before many processes at once compile each its own.

A kernel is compiled once for a stage's tokens and channels, for float32 or bfloat16, and its gradient of filters once
more for batches of a multiple of 16. Compiled kernels lie in Triton's cache on disk.
"""

import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Any

import torch

from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.families.adnext import ADNeXt, ADNeXtEncoder
from adnext_plugin.plan import NetworkSettings

STAGES = range(4)


@contextmanager
def compiled_beside(
    network: dict[str, Any], size_voxels: tuple[int, int, int], batches: Sequence[tuple[str, int]], device: str
) -> Iterator[None]:
    """Take a step through a block of every stage, all at once, in processes of their own; end with the last of them.

    Args:
        network: name and options.
        size_voxels: of its input.
        batches: data types, and sizes of batches.
        device: nothing is done for the CPU.
    """
    if device == "cpu":
        yield
        return
    begun = time.monotonic()
    steps = itertools.product(batches, STAGES)
    with at_once(
        [partial(step_through_block, network, size_voxels, *one, stage, device) for one, stage in steps], "fork"
    ):
        yield
    print(f"kernels are compiled after {time.monotonic() - begun:.1f} s", flush=True)


@contextmanager
def at_once(calls: Sequence[Callable[[], object]], start: str) -> Iterator[list[BaseProcess]]:
    """Make calls all at once, each in a process of its own, beside what is done meanwhile; end with the last of them.

    Args:
        calls: one that fails prints why, and stops no other: whoever needs its kernels compiles them later.
        start: of processes: "fork", where nothing has touched the GPU yet, or "spawn".
    """
    context = multiprocessing.get_context(start)
    processes: list[BaseProcess] = [context.Process(target=call) for call in calls]
    for process in processes:
        process.start()
    yield processes
    for process in processes:
        process.join()


def step_through_block(
    network: dict[str, Any],
    size_voxels: tuple[int, int, int],
    dtype: str,
    batch: int,
    stage: int,
    device: str,
) -> None:
    """Forward and back through a block of a stage."""
    built = build_network(NetworkSettings(**network), 1, 2, size_voxels)
    assert isinstance(built, ADNeXt)
    encoder: ADNeXtEncoder = built.encoder.to(device).train()
    size = [-(-length // encoder.level_strides[stage]) for length in size_voxels]
    tokens = torch.randn(batch, *size, encoder.level_widths[stage], device=device, requires_grad=True)
    with torch.autocast(device, dtype=torch.bfloat16, enabled=dtype == "bfloat16"):
        encoder.blocks()[stage][0](tokens).float().square().mean().backward()
