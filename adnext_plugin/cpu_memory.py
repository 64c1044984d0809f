"""Making the C library keep large buffers, which training on a CPU allocates and frees all the time."""

import ctypes
import functools
import platform

from adnext_plugin.environment import may_tune_allocator

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h
LARGEST_KEPT_BYTES = 1 << 30


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
