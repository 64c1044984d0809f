"""Files and folders that are not complete yet: who is writing them, and removing those that nobody is writing any more.

Whoever makes one holds a lock on it until it is complete or given up. The system takes the lock away from a process
that was killed, so that what bears the name and is not locked has no owner. Where there are no such locks (Windows,
some network file systems), nothing is removed before it is a day old.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PARTIAL = ".adnext-partial-"  # how names of files and folders begin that are not complete yet
REPLACED = ".adnext-replaced-"  # and of a folder that a new one is just taking the place of
OLD_SECONDS = 86_400
LONGEST_SUFFIX = 100  # characters of the final name that a temporary one ends with; names may have 255 bytes


@contextmanager
def partial_file(folder: Path, name: str) -> Iterator[Path]:
    """Make an empty file that its maker owns; it is removed afterwards, unless it has been renamed.

    Args:
        folder: exists.
        name: what the file will be called; its end is kept, since writers go by it.
    """
    while True:
        descriptor, found = tempfile.mkstemp(prefix=PARTIAL, suffix=name[-LONGEST_SUFFIX:], dir=folder)
        path = Path(found)
        if _own(descriptor, path):
            break
    try:
        yield path
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


@contextmanager
def partial_folder(parent: Path, name: str = "") -> Iterator[Path]:
    """Make an empty folder that its maker owns; it is removed afterwards, unless it has been renamed."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{name[-LONGEST_SUFFIX:]}-", dir=parent))
        descriptor = os.open(path, os.O_RDONLY) if fcntl else -1
        if _own(descriptor, path):
            break
    try:
        path.chmod(0o755)
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        if descriptor >= 0:
            os.close(descriptor)


@lru_cache(maxsize=1024)
def remove_abandoned_once(folder: Path) -> None:
    """Do `remove_abandoned` for a folder, without those in it, when this process first asks for it."""
    remove_abandoned(folder)


def remove_abandoned(folder: Path, *, deep: bool = False) -> list[Path]:
    """Remove what killed processes left incomplete in a folder; others' work is left alone.

    A folder that was moved aside for one that never came is given its name back.

    Args:
        folder: to look through.
        deep: look through the folders in it, too.

    Returns:
        What was removed.
    """
    removed = []
    for path in [*folder.glob(f"{PARTIAL}*"), *(folder.glob(f"*/{PARTIAL}*") if deep else ())]:
        # somebody else removes it just now, or it is not ours to remove
        with suppress(OSError), _if_abandoned(path) as is_abandoned:
            if is_abandoned:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
                removed.append(path)
    for path in folder.glob(f"{REPLACED}*"):
        with suppress(OSError):
            final = path.with_name(path.name.removeprefix(REPLACED))
            if final.exists():
                shutil.rmtree(path)
            else:
                path.rename(final)
    return removed


def _own(descriptor: int, path: Path) -> bool:
    """Lock what was just made. False if somebody took it for abandoned before it was locked, and has removed it."""
    if fcntl is None:
        return True
    with suppress(OSError):  # a file system without locks
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    if path.exists():
        return True
    os.close(descriptor)
    return False


@contextmanager
def _if_abandoned(path: Path) -> Iterator[bool]:
    """Whether nobody is writing it, nor begins to within the block: whoever has just made it waits for the lock."""
    if fcntl is None:
        yield _is_old(path)
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield _locked(descriptor, path)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return _is_old(path)
    return True


def _is_old(path: Path) -> bool:
    return time.time() - path.stat().st_mtime > OLD_SECONDS
