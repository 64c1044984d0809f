"""Memory of this job: how much of it there is, and making the C library keep large buffers.

Training on a CPU allocates and frees large buffers all the time.
"""

import ctypes
import functools
import os
import platform
from pathlib import Path

from adnext_plugin.environment import may_tune_allocator, scheduled_memory_bytes
from adnext_plugin.job_limits import ROOT, memory_limit

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST_KEPT_BYTES = 1 << 30


def memory_bytes(root: Path = ROOT) -> int | None:
    """Memory that this job may use: the machine's, or what a container or a batch system grants of it.

    Args:
        root: folder that holds `proc` and `sys`.

    Returns:
        None where the system does not tell.
    """
    group = memory_limit(root)
    return _least(_machine_bytes(), scheduled_memory_bytes(), None if group is None else group.limit_bytes)


def available_memory_bytes(root: Path = ROOT) -> int | None:
    """Memory that this job may use and that nobody uses now.

    Args:
        root: folder that holds `proc` and `sys`.

    Returns:
        None where the system does not tell (anything but Linux).
    """
    group = memory_limit(root)
    free = _least(_free_bytes(root), None if group is None else group.available_bytes)
    return _least(free, scheduled_memory_bytes())


@functools.cache
def keep_large_buffers() -> bool:
    """Let glibc reuse freed buffers of up to 1 GiB instead of returning them to the system.

    Each large temporary would otherwise be mapped and zeroed page by page anew. The process keeps more memory; set
    ADNEXT_MALLOPT=0 to leave the allocator alone.

    Returns:
        Whether it was done: on Linux with glibc, unless switched off.
    """
    if platform.libc_ver()[0] != "glibc" or not may_tune_allocator():
        return False
    libc = ctypes.CDLL("libc.so.6")
    return all(libc.mallopt(option, LARGEST_KEPT_BYTES) for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD))


def _least(*known: int | None) -> int | None:
    return min((value for value in known if value is not None), default=None)


def _machine_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _free_bytes(root: Path) -> int | None:
    try:
        lines = (root / "proc" / "meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)
