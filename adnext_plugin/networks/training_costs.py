"""What a step of training costs on this machine: memory and time, measured in a process of its own."""

import multiprocessing
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import torch

from adnext_plugin.cpu_memory import keep_large_buffers
from adnext_plugin.errors import AdnextError
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.segmentation.build import Decoder, build_segmenter
from adnext_plugin.plan import NetworkSettings

STEPS = 3
PEAK_FIELD = "VmHWM:"  # of Linux: the most memory that the process has had, in kB


@dataclass(frozen=True, kw_only=True)
class TrainingCosts:
    """Costs of a training step, and parameters; None where they are not known, and `problem` says why."""

    parameters: int | None = None
    peak_bytes: int | None = None
    step_s: float | None = None
    problem: str = ""


def measure(
    name: str,
    in_channels: int,
    num_outputs: int,
    input_size_voxels: Sequence[int],
    batch_size: int,
    device: str,
    decoder: Decoder | None = None,
) -> TrainingCosts:
    """Train a registered network for a few steps of AdamW, float32, on noise, in a fresh process.

    Args:
        name: of the network, built with its default options.
        in_channels, num_outputs, input_size_voxels: as builders take them.
        batch_size: scans per step.
        device: "cpu" or "cuda".
        decoder: with which its encoder segments; None for whole scans.

    Returns:
        The median time of three steps after a warm-up, and the peak memory of all, weights and optimizer included. On
        a CPU that is what the process grew by, known on Linux only.
    """
    size_zyx = cast(tuple[int, int, int], tuple(input_size_voxels))
    arguments = (name, in_channels, num_outputs, size_zyx, batch_size, device, torch.get_num_threads(), decoder)
    # spawned, since the peak of a forked process begins at its parent's
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_measure_here, *arguments).result()
        except BrokenProcessPool:
            return TrainingCosts(problem=f"{name} was killed, most likely for want of memory; try a smaller batch")
        except (AdnextError, RuntimeError, ValueError) as error:
            return TrainingCosts(problem=str(error).splitlines()[0])


def _measure_here(
    name: str,
    in_channels: int,
    num_outputs: int,
    input_size_voxels: tuple[int, int, int],
    batch_size: int,
    device: str,
    num_threads: int,
    decoder: Decoder | None,
) -> TrainingCosts:
    torch.set_num_threads(num_threads)
    if device == "cpu":
        keep_large_buffers()  # as the trainers do
    images = torch.randn(batch_size, in_channels, *input_size_voxels, device=device)
    targets = torch.arange(batch_size, device=device) % num_outputs
    before = _peak_bytes(device)
    settings = NetworkSettings(name=name)
    if decoder is None:
        network = build_network(settings, in_channels, num_outputs, input_size_voxels)
    else:
        network = build_segmenter(settings, decoder, in_channels, num_outputs, input_size_voxels)
        targets = targets.reshape(-1, 1, 1, 1).expand(-1, *input_size_voxels)
    network = network.to(device).train()
    optimizer = torch.optim.AdamW(network.parameters())
    seconds = []
    for _ in range(1 + STEPS):
        started = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(network(images), targets).backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    after = _peak_bytes(device)
    grown = None if before is None or after is None else after - before
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return TrainingCosts(parameters=parameters, peak_bytes=grown, step_s=statistics.median(seconds[1:]))


def _peak_bytes(device: str) -> int | None:
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith(PEAK_FIELD))
    return int(line.split()[1]) * 1024
