"""Compiling AD-NeXt's kernels for a GPU, before many processes at once compile each its own.

A kernel is compiled once for a stage's tokens and channels, for float32 or bfloat16, and its gradient of filters once
more for batches of a multiple of 16. Compiled kernels lie in Triton's cache on disk.
"""

import itertools
import multiprocessing
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    context = multiprocessing.get_context("fork")
    steps = [
        context.Process(target=step_through_block, args=(network, size_voxels, *one, stage, device))
        for one, stage in itertools.product(batches, STAGES)
    ]
    for process in steps:
        process.start()
    yield
    for process in steps:
        process.join()
    print(f"kernels are compiled after {time.monotonic() - begun:.1f} s", flush=True)


def step_through_block(
    network: dict[str, Any],
    size_voxels: tuple[int, int, int],
    dtype: str,
    batch: int,
    stage: int,
    device: str,
) -> torch.Tensor | None:
    """Forward and back through a block of a stage; the gradient of its input."""
    try:
        built = build_network(NetworkSettings(**network), 1, 2, size_voxels)
        assert isinstance(built, ADNeXt)
        encoder: ADNeXtEncoder = built.encoder.to(device).train()
        size = [-(-length // encoder.level_strides[stage]) for length in size_voxels]
        tokens = torch.randn(batch, *size, encoder.level_widths[stage], device=device, requires_grad=True)
        is_half = dtype == "bfloat16"
        with torch.autocast(device, dtype=torch.bfloat16, enabled=is_half):
            encoder.blocks()[stage][0](tokens).float().square().mean().backward()
    except Exception:  # whoever needs it compiles it later, or does without
        traceback.print_exc()
        return None
    return tokens.grad
