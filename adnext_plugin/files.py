"""How files are read and written: a reader sees the old file or the whole new one."""

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adnext_plugin.errors import PathsError

PARTIAL = ".partial-"  # how names of files and folders begin that are not complete yet


POINTER_BYTES = 32_768  # git-annex takes no longer file for a pointer


def require_file(path: Path, remedy: str) -> Path:
    """Return `path`, or say that it is missing and what makes it."""
    if reason := not_fetched(path):
        raise PathsError(f"{path} {reason}")
    if not path.is_file():
        raise PathsError(f"{path} does not exist; {remedy}")
    return path


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
    """Read a JSON file, whose content the caller checks; a damaged one is a `PathsError`."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise PathsError(f"{path} does not exist") from error
    except ValueError as error:
        raise PathsError(f"{path} is not valid JSON ({error}); restore it or make it again") from error


def write_json(content: dict | list, path: Path) -> None:
    """Write JSON so that a reader sees the old file or the whole new one."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n")


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
        handle, name = tempfile.mkstemp(prefix=PARTIAL, suffix=path.name, dir=folder)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            # mkstemp makes private files; give the result the permissions of an ordinary new file
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            with temporary.open("rb") as written:
                os.fsync(written.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Give a temporary folder that takes the place of `folder` when the block ends well, and vanishes when not.

    Raises:
        PathsError: the disk is full.
    """
    replaced = folder.with_name(f".replaced-{folder.name}")
    with naming_what_fills_the_disk(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f"{PARTIAL}{folder.name}-", dir=folder.parent))
        try:
            temporary.chmod(0o755)
            yield temporary
            if folder.exists():
                shutil.rmtree(replaced, ignore_errors=True)
                folder.rename(replaced)
            temporary.rename(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            shutil.rmtree(replaced, ignore_errors=True)


def remove_partial_files(folder: Path) -> None:
    """Remove what a killed process left half-written in a folder that nobody else is writing to."""
    for path in [*folder.glob(f"{PARTIAL}*"), *folder.glob(f"*/{PARTIAL}*")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


@contextmanager
def naming_what_fills_the_disk(path: Path) -> Iterator[None]:
    """Turn the system's error about a full disk into a `PathsError` that names `path`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise disk_full(path) from error
        raise


def disk_full(path: Path) -> PathsError:
    """The error that says which file no longer fitted on the disk."""
    return PathsError(f"no space left on the disk while writing {path}; free some and run the command again")
