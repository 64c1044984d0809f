"""How many processes load data: as many as there are processors for, and room for what they hand over."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from adnext_plugin.environment import usable_cpus, worker_count

MOST = 8
MOST_UNCHANGED = 4  # where images are only read
BATCHES_EACH = 2  # which a loader makes ahead, as torch's DataLoader does by default
BATCHES_IN_USE = 2  # one that is copied to the GPU, one that is trained on
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, kw_only=True)
class LoadingProcesses:
    """How many, and one line that says why they are fewer than there are processors for."""

    count: int
    line: str | None = None


def loading_processes(
    batch_bytes: Callable[[], int],
    *,
    on_gpu: bool,
    processes: int = 1,
    most: int = MOST,
    shared_memory: Path = SHARED_MEMORY,
) -> LoadingProcesses:
    """Loaders of one training process.

    On a CPU there are none, because they would take processors away from training, unless `nnUNet_n_proc_DA` asks for
    some.

    Args:
        batch_bytes: says what a batch of one training process takes as the network is given it.
        on_gpu: whether training itself leaves the processors alone.
        processes: of training on this machine, which share processors and shared memory.
        most: of them, unless `nnUNet_n_proc_DA` asks for some.
        shared_memory: where loaders leave batches for the training process.
    """
    asked = worker_count(max(1, min(most, usable_cpus() // processes)) if on_gpu else 0)
    free_bytes = _free_bytes(shared_memory)
    if asked == 0 or free_bytes is None:
        return LoadingProcesses(count=asked)
    each = batch_bytes()
    room = free_bytes // processes // each - BATCHES_IN_USE
    count = max(0, min(asked, room // BATCHES_EACH))
    if count == asked:
        return LoadingProcesses(count=asked)
    needed = (asked * BATCHES_EACH + BATCHES_IN_USE) * each * processes
    line = (
        f"{shared_memory} has {free_bytes / 2**20:.0f} MiB left, room for {count} of {asked} processes that load data; "
        f"all of them need {needed / 2**20:.0f} MiB (in a container: --shm-size or --ipc=host)"
    )
    return LoadingProcesses(count=count, line=line)


def _free_bytes(folder: Path) -> int | None:
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None
