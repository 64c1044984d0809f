"""Letting one process at a time work on a folder."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def one_at_a_time(folder: Path, say_waiting: Callable[[], None]) -> Iterator[None]:
    """Wait until no other process is in such a block for the folder, then run this one.

    The system opens the lock of a process that was killed, and nothing is left behind. Where folders cannot be locked
    (Windows, some network file systems), nobody waits.

    Args:
        folder: exists.
        say_waiting: called once where there is somebody to wait for.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say_waiting()
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            pass
        yield
    finally:
        os.close(descriptor)
