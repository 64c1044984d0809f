"""Image files in folders: which there are, their order, and what to say where there are only DICOM files."""

import fnmatch
import os
import re
from bisect import bisect_left
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from adnext_plugin.errors import ImageError, PathsError

IMAGE_SUFFIXES = (".nii.gz", ".nii", ".img", ".mgz", ".mgh", ".mnc")
DICOM_SUFFIXES = (".dcm", ".ima", ".dicom")
DICOM_ADVICE = "convert it first, for example with dcm2niix -z y -o NIFTI_FOLDER DICOM_FOLDER"
FILES_LOOKED_AT = 200  # enough to see what a folder holds


def is_image(path: Path) -> bool:
    """Whether a name is that of a NIfTI, Analyze, FreeSurfer or MINC file, and not hidden as macOS's `._*` are."""
    return path.name.lower().endswith(IMAGE_SUFFIXES) and not path.name.startswith(".")


def images_in(folder: Path) -> list[Path]:
    """The images right in a folder by name; none where it cannot be read or is no folder."""
    try:
        return sorted(path for path in folder.iterdir() if is_image(path))
    except OSError:
        return []


def subfolders(folder: Path, beginning: str) -> list[Path]:
    """The folders in a folder whose names begin so, links to folders among them, by name."""
    try:
        return sorted(path for path in folder.iterdir() if path.name.startswith(beginning) and path.is_dir())
    except OSError:
        return []


def images_below(folder: Path) -> list[Path]:
    """All images in a folder and in folders within it, those that are linked to, too."""
    return [path for path in walk_files(folder) if is_image(path)]


def walk_files(folder: Path) -> Iterator[Path]:
    """All files below a folder in a fixed order, but for hidden ones; a folder that was linked to before is not again.

    Links whose target is missing are among them, so that whoever reads them can say so.
    """
    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a circle of links, or a second way to the same files
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent) / name for name in sorted(names) if not name.startswith("."))


class Finder:
    """Finds files by patterns, listing each folder once: a table of n rows does not read a folder n times."""

    def __init__(self) -> None:
        """Begin without any folder."""
        self._listed: dict[Path, list[str]] = {}

    def find(self, folder: Path, pattern: str) -> list[Path]:
        """What fits a pattern with `*`, `?` and `[...]` in a folder, by name; as `Path.glob`, hidden files too.

        Raises:
            ValueError, OSError: it is no pattern of file names.
        """
        if "**" in pattern:
            return sorted(folder.glob(pattern))
        found = [folder]
        for part in filter(None, pattern.split("/")):
            found = [path for parent in found for path in self._children(parent, part)]
        return sorted(found)

    def _children(self, parent: Path, part: str) -> list[Path]:
        beginning = re.split(r"[*?\[]", part, maxsplit=1)[0]
        if beginning == part:
            return [parent / part] if os.path.lexists(parent / part) else []
        names = self._names(parent)
        start, end = bisect_left(names, beginning), bisect_left(names, f"{beginning}\U0010ffff")
        return [parent / name for name in fnmatch.filter(names[start:end], part)]

    def _names(self, folder: Path) -> list[str]:
        if folder not in self._listed:
            try:
                self._listed[folder] = sorted(path.name for path in folder.iterdir())
            except OSError:
                self._listed[folder] = []
        return self._listed[folder]


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, by its name or by the mark after its preamble of 128 bytes."""
    if path.suffix.lower() in DICOM_SUFFIXES:
        return True
    if not path.is_file():
        return False
    try:
        with path.open("rb") as stream:
            return stream.read(132)[128:] == b"DICM"
    except OSError:
        return False


def holds_dicom(folder: Path) -> bool:
    """Whether there are DICOM files among the first files below a folder."""
    return any(is_dicom(path) for path in islice(walk_files(folder), FILES_LOOKED_AT))


def no_images(folder: Path, expected: str) -> PathsError:
    """The error for a folder without images, which names the converter if it holds DICOM files."""
    if holds_dicom(folder):
        return PathsError(f"{folder} holds DICOM files, not NIfTI; {DICOM_ADVICE}")
    return PathsError(f"{folder} has no image {expected}")


def refuse_dicom(path: Path) -> None:
    """Refuse a DICOM file, or a folder of them, where one NIfTI file is needed.

    Raises:
        ImageError: it is one.
    """
    if path.is_dir():
        what = "a folder of DICOM files" if holds_dicom(path) else "a folder"
        advice = f"; {DICOM_ADVICE}" if holds_dicom(path) else ", but one image file is needed; correct the table"
        raise ImageError(f"{path} is {what}{advice}")
    if path.is_file() and not is_image(path) and is_dicom(path):
        raise ImageError(f"{path} is a DICOM file; {DICOM_ADVICE}")


def natural_order(name: str) -> list[tuple[int, str]]:
    """A sort key that puts run-2 before run-10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
