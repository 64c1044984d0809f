"""Whose cases a segmentation dataset has, where somebody has written that down."""

from collections.abc import Sequence
from pathlib import Path

from adnext_plugin.csv_files import read_csv
from adnext_plugin.errors import TableError
from adnext_plugin.subjects import subjects_file


def people_of_cases(dataset_folder: Path, case_ids: Sequence[str]) -> tuple[str, ...] | None:
    """The subject of each case, by `subjects.csv` of the prepared or the raw dataset; None where there is none.

    Raises:
        TableError: the table cannot be read, names a case twice, or does not say whose a case is.
    """
    path = subjects_file(dataset_folder)
    if not path.is_file():
        return None
    needed = ("case_id", "subject_id")
    table = read_csv(path, texts=needed, needed=needed, remedy="mend it, or move it away: cases then count as people")
    again = table["case_id"].duplicated()
    if again.any():
        raise TableError(f"{path} names the case {table['case_id'][again].iloc[0]!r} twice; remove one row")
    by_case = dict(zip(table["case_id"], table["subject_id"], strict=True))
    unknown = next((case for case in case_ids if not by_case.get(case)), None)
    if unknown is not None:
        raise TableError(f"{path} does not say whose the case {unknown!r} is; add it, or move the table away")
    return tuple(by_case[case] for case in case_ids)
