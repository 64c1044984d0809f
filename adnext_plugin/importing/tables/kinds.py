"""Recognising the tables that cohorts publish, and bringing them to one set of columns."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from adnext_plugin.choices import DateOrder
from adnext_plugin.errors import TableError
from adnext_plugin.importing.people.identities import session_months
from adnext_plugin.importing.tables.cells import NO_RULES, CellRules, is_missing, known_number
from adnext_plugin.importing.tables.dates import DateColumn
from adnext_plugin.importing.tables.encoding import encoding_note
from adnext_plugin.importing.tables.reading import NO_COLUMN, WORKBOOKS, find_column, other_sheets, read_rows

USUAL_NAMES = {
    "file": ("file", "path", "image", "filename", "image_path", "file_path"),
    "subject": (
        "subject",
        "subject_id",
        "participant_id",
        "participant",
        "patient_id",
        "ptid",
        "subject id",
        "oasisid",
    ),
    "session": ("session", "session_id", "visit", "viscode"),
    "date": ("examdate", "acq date", "acq_time", "examination_date", "scan_date", "study_date", "date"),
    "days": ("days_to_visit", "mr delay"),
    "age": ("age", "age_at_scan", "age_at_visit", "age at visit"),
    "sex": ("sex", "gender", "m/f", "ptgender"),
    "site": ("site", "site_id", "centre", "center", "institutionname"),
    "field_strength": ("field_strength", "fldstreng", "magneticfieldstrength"),
    "vendor": ("vendor", "manufacturer"),
    "scanner": ("scanner", "manufacturersmodelname"),
    "cdr": ("cdr", "cdrtot", "cdr_global", "cdglobal"),
}
COVARIATES = ("age", "sex", "site", "field_strength", "vendor", "scanner")
AGE_AT_VISIT = "age_at_visit"  # the column that is added where a table gives the age at entry into the study
ADNI_MISSING = frozenset({"-1", "-4"})
OASIS_ID = re.compile(r"(OAS[12]_\d{4})_(MR\d+)", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class TableKind:
    """A published table: how to know it, and which of its columns hold what where the usual names do not tell.

    `signature` and the values of `columns` are in lower case. `image_patterns` are where the cohort's own folders
    have the image of a row, tried in turn.
    """

    name: str
    signature: frozenset[str]
    columns: Mapping[str, str] = field(default_factory=dict)
    missing: frozenset[str] = frozenset()  # numbers that mean "not known"
    date_order: DateOrder | None = None
    age_at_entry: str | None = None  # column
    joins_by_time: bool = False  # its visits have no names that scans have, too
    image_patterns: tuple[str, ...] = ()


KINDS = (
    TableKind(
        name="LONI image list",
        missing=ADNI_MISSING,
        date_order="month-first",
        signature=frozenset({"image data id", "subject", "visit", "acq date"}),
    ),
    TableKind(
        name="ADNIMERGE",
        missing=ADNI_MISSING,
        signature=frozenset({"rid", "ptid", "viscode", "dx_bl", "age"}),
        columns={"subject": "ptid", "age": AGE_AT_VISIT},
        age_at_entry="age",
    ),
    TableKind(
        name="OASIS-3 visits",
        missing=ADNI_MISSING,
        signature=frozenset({"oasisid", "days_to_visit"}),
        columns={"session": "oasis_session_label"},
        joins_by_time=True,
    ),
    TableKind(
        name="OASIS-3 demographics",
        missing=ADNI_MISSING,
        signature=frozenset({"oasisid", "ageatentry"}),
        age_at_entry="ageatentry",
    ),
    TableKind(
        name="OASIS-2",
        missing=ADNI_MISSING,
        signature=frozenset({"subject id", "mri id", "group", "cdr"}),
        columns={"session": "session"},
        image_patterns=("{MRI ID}/RAW/mpr-1.nifti.img", "*/{MRI ID}/RAW/mpr-1.nifti.img"),
    ),
    TableKind(
        name="OASIS-1",
        missing=ADNI_MISSING,
        signature=frozenset({"id", "m/f", "hand", "cdr"}),
        columns={"subject": "subject_id", "session": "session"},
        image_patterns=tuple(
            f"{disc}{{ID}}/PROCESSED/MPRAGE/T88_111/{{ID}}_mpr*_t88_masked_gfc.img" for disc in ("", "*/")
        ),
    ),
    TableKind(
        name="IXI",
        signature=frozenset({"ixi_id"}),
        columns={"subject": "subject_id", "sex": "sex_id (1=m, 2=f)"},
        image_patterns=("{subject_id}-*T1.nii*", "{subject_id}_*T1w.nii*"),
    ),
    TableKind(name="ADNI table", signature=frozenset({"rid", "viscode"}), missing=ADNI_MISSING),
    TableKind(name="BIDS participants", signature=frozenset({"participant_id"})),
)
ANY_KIND = TableKind(name="table", signature=frozenset())


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table as read, with the columns that its kind lets us add, and which column holds what (None: none does).

    `asked_for` are the columns that the user named. `notes` are for the report.
    """

    path: Path
    kind: TableKind
    rows: Sequence[dict[str, str]]
    columns: Mapping[str, str | None]
    dates: DateColumn
    asked_for: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def read_table(
    path: Path,
    wanted: Mapping[str, str | None] | None = None,
    *,
    is_one_of_many: bool = False,
    rules: CellRules = NO_RULES,
) -> Table:
    """Read and recognise a table.

    Args:
        path: CSV, TSV or XLSX.
        wanted: columns that the user names, by role.
        is_one_of_many: the named columns may be those of another table.
        rules: how the user says that cells are to be read.

    Raises:
        TableError: it is damaged, or has no column as wanted.
    """
    rows = read_rows(path)
    lower = {name.lower() for name in rows[0]}
    kind = next((kind for kind in KINDS if kind.signature <= lower), ANY_KIND)
    wanted = {
        role: name for role, name in (wanted or {}).items() if not is_one_of_many or name in {*rows[0], NO_COLUMN}
    }
    added = _added_columns(kind)
    try:
        columns = {
            role: find_column(wanted.get(role), _names(kind, role), {**dict.fromkeys(added, ""), **rows[0]}, option)
            for role, option in ((role, f"--{role.replace('_', '-')}-column") for role in USUAL_NAMES)
        }
    except TableError as error:
        raise TableError(f"{error}{other_sheets(path)}") from error
    # -1 and -4 may well be names of people and numbers of days
    kept = [columns[role] for role in ("subject", "session", "file", "days")]
    rows = CellRules(missing={"": kind.missing}).applied(rows, kept)
    rows = [_completed(row, kind) for row in rules.applied(rows, kept)]
    date_column = columns["date"]
    return Table(
        path=path,
        kind=kind,
        rows=rows,
        columns=columns,
        dates=DateColumn.of(
            f"column {date_column!r} of {path}",
            (row[date_column] for row in rows if date_column is not None),
            kind.date_order or rules.date_order,
        ),
        asked_for=frozenset(name for name in wanted.values() if name is not None),
        notes=() if path.suffix.lower() in WORKBOOKS or not encoding_note(path) else (encoding_note(path),),
    )


def _added_columns(kind: TableKind) -> tuple[str, ...]:
    """Columns that `_completed` will add."""
    return {
        "OASIS-1": ("subject_id", "session"),
        "OASIS-2": ("subject_id", "session"),
        "IXI": ("subject_id",),
        "ADNIMERGE": (AGE_AT_VISIT,),
    }.get(kind.name, ())


def years_since_entry(row: Mapping[str, str], session: str) -> float | None:
    """How long after entry into the study a visit took place, by ADNIMERGE's own columns or the visit's name."""
    by_lower_case = {name.lower(): cell for name, cell in row.items()}
    for column, per_year in (("years_bl", 1), ("month_bl", 12), ("m", 12)):
        time = known_number(by_lower_case.get(column, ""))
        if time is not None:
            return time / per_year
    months = session_months(session)
    return None if months is None else months / 12


def age_after(age: str, years: float | None) -> str:
    """An age in years so much later, as a cell; "" where either is unknown, the cell itself where it is no number."""
    number = known_number(age)
    if is_missing(age) or years is None:
        return ""
    return age if number is None else f"{number + years:.2f}"


def _names(kind: TableKind, role: str) -> tuple[str, ...]:
    return (kind.columns[role],) if role in kind.columns else USUAL_NAMES[role]


def _completed(row: dict[str, str], kind: TableKind) -> dict[str, str]:
    added = {}
    if kind.name in ("OASIS-1", "OASIS-2"):
        match = OASIS_ID.fullmatch(_cell(row, "id") or _cell(row, "mri id"))
        added = dict(zip(("subject_id", "session"), match.groups() if match else ("", ""), strict=True))
    elif kind.name == "IXI":
        number = known_number(_cell(row, "ixi_id"))
        added = {"subject_id": "" if number is None else f"IXI{number:03.0f}"}
    elif kind.age_at_entry is not None and kind.name == "ADNIMERGE":
        age = _cell(row, kind.age_at_entry)
        added = {AGE_AT_VISIT: age_after(age, years_since_entry(row, _cell(row, "viscode")))}
    return {**added, **row}


def _cell(row: Mapping[str, str], lower_case_name: str) -> str:
    return next((cell for name, cell in row.items() if name.lower() == lower_case_name), "")
