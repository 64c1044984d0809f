"""Scans that a Python program hands over: files, nibabel images or arrays, brought to disk as all stages read them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

import nibabel
import numpy as np
import pandas as pd
from nibabel.spatialimages import SpatialImage

from adnext_plugin.errors import ImageError, PathsError, SettingsError, TableError, nearest_names
from adnext_plugin.files import not_fetched
from adnext_plugin.importing.covariates import SEXES
from adnext_plugin.importing.image_files import is_image
from adnext_plugin.importing.tables.cells import as_number, is_missing
from adnext_plugin.prediction.inputs import ScanInput, of_files, with_further

Scan = str | PathLike[str] | np.ndarray | SpatialImage
People: TypeAlias = pd.DataFrame | Mapping[str, Sequence[Any]]


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Where the voxels of arrays (Z, Y, X) are: `spacing_zyx_mm`, or `affine_xyz` (4×4, voxel x, y, z to RAS+ mm)."""

    spacing_zyx_mm: Sequence[float] | None = None
    affine_xyz: np.ndarray | None = None

    def affine(self) -> np.ndarray:
        """The matrix; from a spacing, with x, y and z to the right, the front and the top.

        Raises:
            SettingsError: neither or both are given, or one is of another shape or not finite.
        """
        if (self.spacing_zyx_mm is None) == (self.affine_xyz is None):
            raise SettingsError("an array says nothing of its voxels; give either spacing_zyx_mm or affine_xyz")
        wanted, shape = (self.affine_xyz, (4, 4)) if self.spacing_zyx_mm is None else (self.spacing_zyx_mm, (3,))
        name = "affine_xyz" if self.spacing_zyx_mm is None else "spacing_zyx_mm"
        numbers = np.asarray(wanted, dtype=np.float64)
        if numbers.shape != shape or not np.isfinite(numbers).all():
            raise SettingsError(f"{name} must have the shape {shape} and be finite, got {numbers.tolist()}")
        if shape == (4, 4):
            return numbers
        if numbers.min() <= 0:
            raise SettingsError(f"spacing_zyx_mm must be positive, got {numbers.tolist()}")
        return np.diag([*numbers[::-1], 1.0])


@dataclass(frozen=True, kw_only=True)
class ScansOnDisk:
    """A list of scans as files; those that were in memory are in `folder`, and called by their place in the list."""

    scans: tuple[ScanInput, ...]
    folder: Path

    @classmethod
    def write(
        cls, scans: "Sequence[Scan | tuple[Scan, ...]]", folder: Path, geometry: Geometry, channels: Sequence[str] = ()
    ) -> "ScansOnDisk":
        """Write what is in memory, in float32, and name all.

        Args:
            scans: files, images and arrays in any mixture; tuples of them where a scan has several images.
            folder: to be made where it is needed.
            geometry: of the arrays.
            channels: what the images of a scan are called, of a model that takes several. Beside a file alone the
                others are looked for as nnU-Net names them.

        Raises:
            PathsError: a file does not exist or is no image.
            ImageError: an array has not three axes of numbers.
            SettingsError: there is an array but no geometry, or a scan has more or fewer images than it should.
        """
        if not len(scans):
            raise SettingsError("there is no scan to predict; give at least one")
        firsts: list[Scan] = [_first_of(scan, index) for index, scan in enumerate(scans)]
        paths = {index: _image_file(scan) for index, scan in enumerate(firsts) if isinstance(scan, str | PathLike)}
        named = dict(zip(paths, _named(list(paths.values())), strict=True))
        for index, scan in enumerate(firsts):
            if index not in named:
                image = _on_disk(scan, f"scan_{index}", folder, geometry)
                named[index] = ScanInput(case_id=f"scan_{index}", image=image)
        for index, given in enumerate(scans):
            if not isinstance(given, tuple):
                named[index] = with_further(named[index], channels)
                continue
            if len(given) != max(1, len(channels)):
                wanted = ", ".join(channels) or "one image"
                raise SettingsError(f"scan {index} has {len(given)} images, but the model takes {wanted}")
            others = (
                _on_disk(other, f"scan_{index}_{place:04d}", folder, geometry)
                for place, other in enumerate(given[1:], start=1)
            )
            named[index] = replace(named[index], further=tuple(others))
        return cls(scans=tuple(named[index] for index in range(len(scans))), folder=folder)

    def without_folder(self, table: pd.DataFrame) -> pd.DataFrame:
        """A table of predictions that names no file which there is no longer."""
        were_in_memory = [scan.image.parent == self.folder for scan in self.scans]
        table.loc[were_in_memory, "file"] = ""
        table["error"] = [error.replace(f"{self.folder}/", "") for error in table["error"]]
        return table


def _first_of(scan: "Scan | tuple[Scan, ...]", index: int) -> Scan:
    if not isinstance(scan, tuple):
        return scan
    if not scan:
        raise SettingsError(f"scan {index} is an empty tuple; give its images")
    return scan[0]


def _on_disk(scan: Scan, name: str, folder: Path, geometry: Geometry) -> Path:
    """The file of an image, which is written if it is in memory."""
    if isinstance(scan, str | PathLike):
        return _image_file(scan)
    folder.mkdir(exist_ok=True)
    nibabel.save(_nifti(scan, name, geometry), folder / f"{name}.nii")
    return folder / f"{name}.nii"


def as_list(scans: "Scan | tuple[Scan, ...] | Sequence[Scan | tuple[Scan, ...]]") -> "list[Scan | tuple[Scan, ...]]":
    """Several scans, or one, as a list; an array of three axes is one scan."""
    if isinstance(scans, str | PathLike | SpatialImage) or (isinstance(scans, np.ndarray) and scans.ndim == 3):
        return [scans]
    return list(scans)


def people_table(people: People | None, needed: Sequence[str], cases: Sequence[str]) -> pd.DataFrame:
    """What is known of the people on scans, as a model takes it: numbers, and sex as M or F.

    Args:
        people: a column for each of `needed`, rows in the order of the scans. Others are of no use.
        needed: what the model must know.
        cases: ids of the scans.

    Raises:
        SettingsError: nothing is said, or a column is missing.
        TableError: there is not a row for each scan, or a cell is no number or no sex.
    """
    if not needed:
        return pd.DataFrame(index=list(cases))
    if people is None:
        raise SettingsError(
            f"the model needs to know {', '.join(needed)} of every person: give people=, a table with these columns "
            "and a row for each scan"
        )
    table = pd.DataFrame({name: people[name] for name in needed if name in people}).reset_index(drop=True)
    for name in needed:
        if name not in table:
            raise SettingsError(f"people has no column {name!r}{nearest_names(name, [str(key) for key in people])}")
    if len(table) != len(cases):
        raise TableError(f"people has {len(table)} rows, but there are {len(cases)} scans; give one row for each")
    cells = {
        name: [_cell(value, name, case) for value, case in zip(table[name], cases, strict=True)] for name in needed
    }
    return pd.DataFrame(cells, index=list(cases))


def _cell(value: Any, column: str, case: str) -> str | float:
    text = "" if value is None else str(value).strip()
    if is_missing(text):
        return ""
    if column == "sex":
        code = text.lower().removesuffix(".0")
        if code not in SEXES:
            raise TableError(f"people: {case} has sex {value!r}; write M or F, male or female, 1 or 2")
        return SEXES[code]
    number = as_number(text)
    if number is None:
        raise TableError(f"people: {case} has {column} {value!r}, which is not a number")
    return number


def _image_file(path: str | PathLike[str]) -> Path:
    file = Path(path)
    if reason := not_fetched(file):
        raise PathsError(f"{file} {reason}")
    if not file.is_file():
        what = "is a folder; give it alone, not in a list" if file.is_dir() else "does not exist; check the path"
        raise PathsError(f"{file} {what}")
    if not is_image(file):
        raise PathsError(f"{file} is not a NIfTI file (.nii or .nii.gz)")
    return file


def _named(files: Sequence[Path]) -> tuple[ScanInput, ...]:
    if not files:
        return ()
    # names of scans are paths from the folder on that all are in
    parents = [file.absolute().parent for file in files]
    shared = next(
        folder
        for folder in (parents[0], *parents[0].parents)
        if all(parent.is_relative_to(folder) for parent in parents)
    )
    named = of_files([file.absolute() for file in files], shared).scans
    return tuple(replace(scan, image=file) for scan, file in zip(named, files, strict=True))


def _nifti(scan: Scan, name: str, geometry: Geometry) -> nibabel.Nifti1Image:
    if isinstance(scan, SpatialImage):
        try:
            image = nibabel.Nifti1Image(np.asarray(scan.get_fdata(dtype=np.float32)), scan.affine, scan.header)
        except Exception as error:  # readers of a dozen formats have errors of their own about damaged files
            raise ImageError(f"{name} cannot be read ({error}); the image is damaged") from error
        image.set_data_dtype(np.float32)
        image.header.set_slope_inter(1, 0)
        return image
    volume_zyx = np.asarray(scan)
    if volume_zyx.ndim != 3 or volume_zyx.dtype.kind not in "biuf":
        raise ImageError(
            f"{name} has shape {volume_zyx.shape} and type {volume_zyx.dtype}; an array must be one 3D scan of "
            "numbers, axes z, y, x"
        )
    image = nibabel.Nifti1Image(np.ascontiguousarray(volume_zyx.T, dtype=np.float32), geometry.affine())
    image.header.set_xyzt_units("mm")
    return image
