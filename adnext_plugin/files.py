"""How files are read and written: a reader sees the old file or the whole new one."""

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from adnext_plugin.errors import PathsError
from adnext_plugin.partial_files import REPLACED, partial_file, partial_folder, remove_abandoned, remove_abandoned_once

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # the disk, the quota, or the largest file that the user may write
# what making a link ends with on FAT, exFAT and some network shares, and the number Windows has for a lack of rights
NO_LINKS_HERE = (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP)
NO_RIGHT_TO_LINK = 1314

POINTER_BYTES = 32_768  # git-annex takes no longer file for a pointer


def require_file(path: Path, remedy: str) -> Path:
    """Return `path`, or say that it is missing and what makes it."""
    if reason := not_fetched(path):
        raise PathsError(f"{path} {reason}")
    if not path.is_file():
        raise PathsError(f"{path} does not exist; {remedy}")
    return path


def refuse_existing(path: Path, overwrite: bool, instead: str = "choose another name") -> None:
    """Make sure that nothing is at a path, or may be overwritten; `instead` is the other remedy.

    Raises:
        PathsError: there is something.
    """
    if path.exists() and not overwrite:
        raise PathsError(f"{path} exists; {instead}, or give --overwrite")


def refuse_file(folder: Path, option: str = "") -> None:
    """Make sure that what is to be a folder is none yet, or one; `option` is what named it.

    Raises:
        PathsError: it is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise PathsError(f"{option} {folder} is a file; give a folder".lstrip())


def not_fetched(path: Path) -> str:
    """Why a file has no content yet, and how to get it, to follow its name; "" where it has, or is not there at all.

    git-annex (DataLad) keeps a link to nowhere, or a line of text, in place of a file that was not fetched, Git LFS a
    few lines of text.
    """
    if path.is_symlink() and not path.exists():
        target = str(path.readlink())
        if "annex/objects" in target:
            return f"is a link of git-annex whose content was not fetched; run: datalad get {path}"
        return f"is a link to {target}, which does not exist; mend the link"
    if not path.is_file() or path.stat().st_size > POINTER_BYTES:
        return ""
    with path.open("rb") as stream:
        beginning = stream.read(64)
    if beginning.startswith(b"/annex/objects/"):
        return f"is a pointer of git-annex whose content was not fetched; run: datalad get {path}"
    if beginning.startswith(b"version https://git-lfs"):
        return "is a pointer of Git LFS whose content was not fetched; run: git lfs pull"
    return ""


def read_json(path: Path) -> Any:
    """Read a JSON file, whose content the caller checks; a missing, unreadable or damaged one is a `PathsError`."""
    if path.exists() and not path.is_file():  # a pipe would never end
        raise PathsError(f"{path} is not a file; put the file there, or make it again")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise PathsError(f"{path} does not exist") from error
    except OSError as error:
        raise PathsError(f"{path} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise PathsError(f"{path} is nested too deeply to be one of ours; restore it or make it again") from error
    except ValueError as error:
        raise PathsError(f"{path} is not valid JSON ({error}); restore it or make it again") from error


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object, as `read_json`; one that holds anything else is a `PathsError`, too."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise PathsError(f"{path} does not hold an object of JSON ({{...}}); restore it or make it again")
    return content


def write_json(content: dict | list, path: Path) -> None:
    """Write JSON so that a reader sees the old file or the whole new one."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextmanager
def replacing(path: Path, beside: Path | None = None) -> Iterator[Path]:
    """Give a temporary path whose file replaces `path` when the block ends well, and vanishes when it does not.

    Args:
        path: the file to write; its folder is made.
        beside: folder for the temporary file, on the same file system; the file's own folder by default.

    Raises:
        PathsError: the disk is full.
    """
    folder = beside or path.parent
    with naming_what_fills_the_disk(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        remove_abandoned_once(folder)
        with partial_file(folder, path.name) as temporary:
            yield temporary
            # temporary files are private; give the result the permissions of an ordinary new file
            temporary.chmod(0o666 & ~_umask())
            with temporary.open("rb+") as written:  # Windows flushes no file that is open for reading
                os.fsync(written.fileno())
            temporary.replace(path)


def link_or_copy(original: Path, place: Path, target: Path | str | None = None) -> None:
    """Make a link to a file, or a copy where there can be none: on FAT and exFAT, and on Windows without the right to.

    Args:
        original: the file.
        place: of the link or copy; nothing is there.
        target: what the link says; the original itself by default.
    """
    try:
        place.symlink_to(original if target is None else target)
    except (OSError, NotImplementedError) as error:
        is_windows_without_right = getattr(error, "winerror", None) == NO_RIGHT_TO_LINK
        if not is_windows_without_right and getattr(error, "errno", None) not in NO_LINKS_HERE:
            raise
        shutil.copyfile(original, place)


@cache
def _umask() -> int:
    # it can be read only by setting it, which would be felt by files that other threads make just then
    umask = os.umask(0)
    os.umask(umask)
    return umask


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder that takes the place of `folder` when the block ends well, and vanishes when not.

    What earlier processes were killed over beside it is removed first.

    Raises:
        PathsError: the disk is full.
    """
    replaced = folder.with_name(f"{REPLACED}{folder.name}")
    with naming_what_fills_the_disk(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(folder.parent)
        with partial_folder(folder.parent, folder.name) as temporary:
            yield temporary
            for is_last in (False, False, True):
                if folder.exists():
                    folder.rename(replaced)
                try:
                    temporary.rename(folder)
                    break
                except OSError:
                    # another process may just have taken the one moved aside for abandoned, and put it back
                    if folder.exists() and not is_last:
                        continue
                    if replaced.exists():
                        replaced.rename(folder)
                    raise
            shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def naming_what_fills_the_disk(path: Path) -> Iterator[None]:
    """Turn the system's error about a full disk, quota or file size limit into a `PathsError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            raise disk_full(path) from error
        raise


def disk_full(path: Path) -> PathsError:
    """The error that says which file no longer fitted on the disk."""
    return PathsError(f"no space left on the disk while writing {path}; free some and run the command again")
