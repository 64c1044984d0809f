"""Taking a bundle's archive apart without trusting it: every entry is checked before the first byte is written.

A bundle is a zip archive of a few files with known names, none in a folder, none compressed. What is not compressed
cannot grow when it is unpacked, and known names cannot lead out of the folder.
"""

import errno
import re
import shutil
import stat
import zipfile
from pathlib import Path

from adnext_plugin.errors import BundleError

NAMES = re.compile(r"(manifest|model)\.json|(fold|features|steps)_([0-9]{1,3}|all)\.safetensors")
LARGEST_BYTES = 16 * 2**30  # of a whole bundle; five networks of AD-NeXt-L take 1.4 GiB
LARGEST_JSON_BYTES = 4 * 2**20
EARLIEST = (1980, 1, 1, 0, 0, 0)  # that zip knows: the same model gives the same bytes, whenever it is exported

DAMAGED = (zipfile.BadZipFile, EOFError, NotImplementedError, ValueError, RuntimeError, OSError)


def pack(folder: Path, path: Path) -> None:
    """Put the files of a folder into an archive."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for file in sorted(folder.iterdir()):
            entry = zipfile.ZipInfo(file.name, EARLIEST)
            entry.external_attr = (stat.S_IFREG | 0o644) << 16
            entry.file_size = file.stat().st_size
            with file.open("rb") as source, archive.open(entry, "w") as target:
                shutil.copyfileobj(source, target, 1 << 20)


def unpack(path: Path, folder: Path) -> None:
    """Write the files of an archive into an empty folder.

    Raises:
        BundleError: it is no archive of a bundle, cut short, or has an entry that no bundle has. Nothing is written
            then, or only whole files into `folder`.
    """
    if not path.is_file():
        raise BundleError(f"{path} does not exist; give a file written by adnext_export")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check(entries, path)
            needed = sum(entry.file_size for entry in entries)
            if needed > shutil.disk_usage(folder).free:
                raise BundleError(f"{path} needs {needed / 2**30:.1f} GiB, more than is free in {folder.parent}")
            for entry in entries:
                with archive.open(entry) as source, (folder / entry.filename).open("xb") as target:
                    shutil.copyfileobj(source, target, 1 << 20)
    except DAMAGED as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # that is of offsets that lead nowhere
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise BundleError(
            f"{path} is no model bundle, or is damaged ({reason}); fetch it again, or write one with adnext_export"
        ) from error


def _check(entries: list[zipfile.ZipInfo], path: Path) -> None:
    seen: set[str] = set()
    for entry in entries:
        problem = _problem(entry, seen)
        if problem:
            raise BundleError(f"{path} is refused: its entry {entry.filename[:80]!r} {problem}")
        seen.add(entry.filename)
    total = sum(entry.file_size for entry in entries)
    if total > min(LARGEST_BYTES, path.stat().st_size):
        raise BundleError(f"{path} is refused: it claims to hold {total} bytes, more than a bundle can")


def _problem(entry: zipfile.ZipInfo, seen: set[str]) -> str | None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    # zipfile shows a name only up to its first NUL; the original must be as harmless
    if not NAMES.fullmatch(entry.filename) or entry.orig_filename != entry.filename:
        return "is not one of a model bundle (manifest.json, model.json, fold_0.safetensors, ...)"
    if entry.filename in seen:
        return "is there twice"
    if kind not in (0, stat.S_IFREG):
        return "is a link or a device instead of a file"
    if entry.flag_bits & 1:
        return "is encrypted"
    if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
        return "is compressed, which adnext_export never does; fetch the bundle as it was exported"
    if entry.filename.endswith(".json") and entry.file_size > LARGEST_JSON_BYTES:
        return f"has {entry.file_size} bytes, more than text of a bundle can have"
    return None
