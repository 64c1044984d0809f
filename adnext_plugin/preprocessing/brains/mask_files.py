"""Brain masks that the user has: finding the one of each case."""

import re
from collections.abc import Mapping
from glob import escape
from pathlib import Path

import pandas as pd

from adnext_plugin.errors import PathsError, SettingsError
from adnext_plugin.subjects import ID_COLUMNS

SUFFIXES = (".nii.gz", ".nii")


def find_masks(where: str, subjects: pd.DataFrame) -> tuple[dict[str, Path], dict[str, str]]:
    """Find the mask of each case.

    Args:
        where: a pattern such as `/data/masks/sub-{subject_id}_ses-{session_id}*_mask.nii.gz`; or a folder, in which
            the one NIfTI file is taken whose name is the case id, alone or followed by `_`, `-` or `.` and more.
        subjects: the dataset's table.

    Returns:
        Masks by case id, and for the other cases why there is none.

    Raises:
        SettingsError: the pattern names no id, or an unknown one.
        PathsError: the folder does not exist.
    """
    ids = subjects[list(ID_COLUMNS)].astype(str)
    rows = [dict(zip(ID_COLUMNS, row, strict=True)) for row in ids.itertuples(index=False)]
    if "{" in where:
        find = _find_by_pattern
        unknown = set(re.findall(r"\{(.*?)\}", where)) - set(ID_COLUMNS)
        if unknown:
            raise SettingsError(f"{where!r} names {sorted(unknown)}; a mask pattern may name {', '.join(ID_COLUMNS)}")
    else:
        find = _find_in_folder
        if not Path(where).is_dir():
            raise PathsError(f"{where} is not a folder of masks, nor a pattern with {{case_id}} or {{subject_id}}")
    found = {row["case_id"]: find(where, row) for row in rows}
    masks = {case: files[0] for case, files in found.items() if len(files) == 1}
    missing = {
        case: f"{len(files)} masks instead of one: {', '.join(path.name for path in files[:3])}"
        if files
        else f"no mask is found by {where}"
        for case, files in found.items()
        if len(files) != 1
    }
    return masks, missing


def _find_by_pattern(where: str, row: Mapping[str, str]) -> list[Path]:
    pattern = Path(where.format(**{name: escape(value) for name, value in row.items()}))
    start = Path(pattern.anchor)
    return sorted(start.glob(str(pattern.relative_to(start))))


def _find_in_folder(where: str, row: Mapping[str, str]) -> list[Path]:
    case = row["case_id"]
    return sorted(
        path for path in Path(where).glob(f"{escape(case)}[._-]*") if path.is_file() and path.name.endswith(SUFFIXES)
    )
