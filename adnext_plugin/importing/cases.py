"""The cases of a dataset: scans with their names, targets and covariates."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from adnext_plugin.errors import TableError, nearest_names
from adnext_plugin.importing.people.identities import session_key, subject_key
from adnext_plugin.importing.scans import Scan, Source
from adnext_plugin.importing.tables.cells import as_number, is_missing
from adnext_plugin.importing.tables.kinds import COVARIATES

SEXES = {
    "m": "M",
    "male": "M",
    "1": "M",
    "f": "F",
    "female": "F",
    "2": "F",
    "u": "",
    "unknown": "",
    "o": "",
    "other": "",
}
MAX_CASE_ID = 200  # characters; file systems allow 255, of which extensions and temporary names take some


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case to be: its scan, its name, its person, its target and covariates as they will stand in subjects.csv.

    `subject_id` differs from the scan's where that person has another id in another cohort.
    """

    case_id: str
    scan: Scan
    subject_id: str
    target: str | float | None
    covariates: dict[str, str | float]


def make_cases(
    labelled: Sequence[tuple[Scan, str | float | None]],
    source: Source,
    keep: Sequence[str],
    same_people: Mapping[str, str],
) -> tuple[Case, ...]:
    """Name the cases and collect their covariates.

    Args:
        labelled: scans with their targets.
        source: says which columns hold the covariates.
        keep: further columns, numbers, to carry along.
        same_people: `subject_key` of an id to the id to use for that person.

    Raises:
        TableError: a covariate is no number or no sex, or two scans would have one name.
    """
    cases = tuple(
        Case(
            case_id=_case_id(scan),
            scan=scan,
            subject_id=same_people.get(subject_key(scan.subject_id), scan.subject_id),
            target=target,
            covariates=_covariates(scan, source, keep),
        )
        for scan, target in labelled
    )
    _refuse_doubles(cases)
    return cases


def _case_id(scan: Scan) -> str:
    parts = [scan.subject_id, scan.session_id] if scan.session_id else [scan.subject_id]
    # nnU-Net splits names at double underscores, and file systems dislike most else
    name = "_".join(re.sub(r"[^A-Za-z0-9]+", "-", part).strip("-") or "x" for part in parts)
    if len(name) > MAX_CASE_ID:
        raise TableError(f"subject and session {name[:40]}... have {len(name)} characters; shorten them")
    return name


def _covariates(scan: Scan, source: Source, keep: Sequence[str]) -> dict[str, str | float]:
    values: dict[str, str | float] = {}
    for role in COVARIATES:
        column = source.columns.get(role)
        if column is None:
            continue
        cell = scan.row.get(column, "")
        if role == "age":
            values[role] = _number(cell, column, scan)
        elif role == "sex":
            values[role] = "" if is_missing(cell) else _sex(cell, column, scan)
        elif role == "field_strength":
            # ADNIMERGE writes "3 Tesla MRI"
            values[role] = _number(re.sub(r"(?i)\s*(t|tesla)\b.*", "", cell), column, scan)
        else:
            values[role] = "" if is_missing(cell) else cell
    for column in keep:
        if column not in scan.row:
            raise TableError(f"--keep: the table has no column {column!r}{nearest_names(column, scan.row)}")
        values[column] = _number(scan.row[column], column, scan)
    return values


def _number(cell: str, column: str, scan: Scan) -> str | float:
    if is_missing(cell):
        return ""
    number = as_number(cell)
    if number is None:
        raise TableError(f"{scan} has {column} {cell!r}, which is not a number; correct the table")
    return number


def _sex(cell: str, column: str, scan: Scan) -> str:
    code = cell.lower().removesuffix(".0")
    if code not in SEXES:
        raise TableError(f"{scan} has {column} {cell!r}; sex is written M or F, male or female, 1 or 2")
    return SEXES[code]


def _refuse_doubles(cases: Sequence[Case]) -> None:
    first_by_name: dict[str, Case] = {}
    first_by_session: dict[tuple[str, str], Case] = {}
    for case in cases:
        session = (case.scan.subject_id, session_key(case.scan.session_id))
        # file systems of some users do not tell upper from lower case
        for firsts, key in ((first_by_name, case.case_id.lower()), (first_by_session, session)):
            earlier = firsts.setdefault(key, case)
            if earlier is not case:
                raise TableError(
                    f"two scans would become case {case.case_id}: {earlier.scan.image} and {case.scan.image}; give "
                    "each its own session (--session-column), or leave one out"
                )
