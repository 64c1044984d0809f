"""Reading and writing `subjects.csv`, the one table that holds who a case is and what is to be learned about it."""

from pathlib import Path

import numpy as np
import pandas as pd

from adnext_plugin.csv_files import read_csv, write_csv
from adnext_plugin.errors import TableError
from adnext_plugin.files import read_object
from adnext_plugin.names import problem_of_file_name
from adnext_plugin.paths import DATASET_FILE, REGIONS_FILE, SUBJECTS_FILE, raw_dir
from adnext_plugin.task import Task, task_of

# of a class, or in all where there are none: with fewer no score gets an interval (benchmarks/coverage.py says why)
FEWEST_OF_A_CLASS = 8
ID_COLUMNS = ("case_id", "subject_id", "session_id")
SEXES = {"F": 0.0, "M": 1.0}  # as numbers


def read_dataset(folder: Path) -> tuple[Task, pd.DataFrame]:
    """Task and subjects of a raw or preprocessed dataset folder, with the columns of `regions.csv` where there is one.

    Raises:
        PathsError: a file is missing or damaged.
        SettingsError: the task in `dataset.json` is none.
        TableError: a table is unusable.
    """
    path = folder / DATASET_FILE
    task = task_of(read_object(path), str(path))
    return task, read_people(folder, task)


def read_people(folder: Path, task: Task) -> pd.DataFrame:
    """The subjects of a dataset with the volumes of their regions, where those were measured, NaN for who has none.

    Args:
        folder: of the raw or the preprocessed dataset.
        task: what is to be learned of them.

    Raises:
        PathsError, TableError: as `read_subjects`.
    """
    return _with_regions(read_subjects(subjects_file(folder), task), folder / REGIONS_FILE)


def subjects_file(folder: Path) -> Path:
    """Where the table is: in the folder, or beside the raw data where nnU-Net's own planning made the folder."""
    path = folder / SUBJECTS_FILE
    return path if path.is_file() else raw_dir() / folder.name / SUBJECTS_FILE


def read_subjects(path: Path, task: Task) -> pd.DataFrame:
    """Read the table of a dataset, one row per case.

    Args:
        path: `subjects.csv`.
        task: names the target column and its classes.

    Returns:
        Ids, class, sex, site, vendor and scanner as strings ("" where absent), a regression's target and `age` in
        years as float, others as pandas reads them.

    Raises:
        PathsError: no such file.
        TableError: a column is missing, a case appears twice, or a value is not what it must be.
    """
    needed = ID_COLUMNS if task.kind == "unlabelled" else (*ID_COLUMNS, task.column)
    texts = (*needed, "sex", "site", "vendor", "scanner")
    frame = read_csv(path, texts=texts, needed=needed, remedy="import the dataset again with adnext_import")
    for column in ("case_id", "subject_id"):
        _refuse(frame, frame[column] == "", path, f"has an empty {column}")
    _refuse(frame, frame["case_id"].duplicated(), path, "names a case that an earlier row names already")
    problems = frame["case_id"].map(problem_of_file_name)  # cases are files
    _refuse(frame, problems != "", path, f"names a case that {next(filter(None, problems), '')}")
    if task.kind == "regression":
        frame[task.column] = pd.to_numeric(frame[task.column], errors="coerce")
        _refuse(frame, ~np.isfinite(frame[task.column]), path, f"has no number as {task.column}", task.column)
    elif task.kind == "classification":
        unknown = ~frame[task.column].isin(task.classes)
        _refuse(frame, unknown, path, f"has a {task.column} other than {', '.join(task.classes)}", task.column)
    if "age" in frame:
        frame["age"] = pd.to_numeric(frame["age"], errors="coerce")
    return frame


def permute_targets(subjects: pd.DataFrame, task: Task, seed: int) -> pd.DataFrame:
    """Give each subject, with all their scans, the target of the first scan of a randomly drawn other or same one.

    Args:
        subjects: content of `subjects.csv`; not modified.
        task: names the target.
        seed: equal seeds give equal deals.
    """
    first = subjects.sort_values("case_id").groupby("subject_id")[task.column].first()
    dealt = dict(zip(first.index, np.random.default_rng(seed).permutation(first.to_numpy()), strict=True))
    return subjects.assign(**{task.column: subjects["subject_id"].map(dealt)})


def as_words(column: pd.Series) -> pd.Series:
    """Cells as texts, "" where there is none."""
    return column.where(column.notna(), "").astype(str).str.strip()


def write_subjects(frame: pd.DataFrame, path: Path) -> None:
    """Write the table so that a reader sees the old one or the whole new one."""
    write_csv(frame, path)


def _with_regions(subjects: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The table with the columns of `regions.csv`, NaN for cases that it does not have."""
    if not path.is_file():
        return subjects
    remedy = "run adnext_regions, or remove the file"
    regions = read_csv(path, texts=["case_id"], needed=["case_id"], remedy=remedy, empty_is_missing=True)
    _refuse(regions, regions["case_id"].duplicated(), path, "names a case that an earlier row names already")
    # those that merging other datasets has brought give way
    own = subjects.drop(columns=[name for name in regions if name != "case_id"], errors="ignore")
    return own.merge(regions, on="case_id", how="left", validate="one_to_one")


def _refuse(frame: pd.DataFrame, wrong: pd.Series, path: Path, what: str, column: str = "case_id") -> None:
    if wrong.any():
        row = int(wrong.to_numpy().argmax())
        raise TableError(
            f"{path}, line {row + 2} ({column} {frame[column].iloc[row]!r}): the row {what}; correct it or import again"
        )
