"""Joining scans with the visits of a clinical table: by subject, and by session or by time."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from adnext_plugin.errors import TableError
from adnext_plugin.importing.people.identities import DAYS_PER_YEAR, Moment, moment_of, session_key
from adnext_plugin.importing.scans import Scan, Source, require_scans
from adnext_plugin.importing.tables.kinds import Table, age_after
from adnext_plugin.importing.tables.reading import other_sheets
from adnext_plugin.people import people_of

AGE_AT_SCAN = "age_at_scan"
DEFAULT_MAX_DAYS = 365


@dataclass(frozen=True, kw_only=True)
class Visit:
    """A row of a clinical table."""

    subject: str
    session: str
    moment: Moment
    row: Mapping[str, str]

    def __str__(self) -> str:
        return " ".join(part for part in (self.subject, self.session) if part)


def join_table(source: Source, table: Table, *, by_time: bool, max_days: int = DEFAULT_MAX_DAYS) -> Source:
    """Add to each scan the row of its subject and session, or of the visit nearest in time.

    A table without sessions that has no times, or one row per subject while nobody asks for the nearest visit, is
    joined by subject. Cells of the table replace those of the same column that the scan has already. Scans without a
    row are left out and reported, as are rows without a scan.

    Args:
        source: the scans.
        table: the clinical table.
        by_time: join with the nearest visit instead of the one of the same name; what a table without visit names, such
            as those of OASIS-3, needs in any case.
        max_days: how far apart a scan and its visit may be.

    Raises:
        TableError: no subject column, nothing matches, or two rows of one visit contradict each other.
    """
    require_scans(source)
    visits = _visits(table)
    people = people_of([*(scan.subject_id for scan in source.scans), *(visit.subject for visit in visits)])
    _refuse_ambiguous_subjects(source, people)
    visits_of = defaultdict(list)
    for one in visits:
        visits_of[people[one.subject]].append(one)
    has_times = any(table.columns[role] is not None for role in ("date", "days"))
    has_several = any(len(several) > 1 for several in visits_of.values())
    wants_nearest = by_time or table.kind.joins_by_time
    has_visits = table.columns["session"] is not None or (has_times and (has_several or wants_nearest))
    by_time = has_visits and (wants_nearest or table.columns["session"] is None)
    joined: list[Scan] = []
    without_row: list[str] = []
    used: set[int] = set()
    too_far = 0
    for scan in source.scans:
        own = visits_of.get(people[scan.subject_id], [])
        visit = _nearest(scan, own, max_days, table) if by_time else _same_session(scan, own, has_visits, table)
        if visit is None:
            without_row.append(str(scan.image))
            too_far += bool(own)
            continue
        used.add(id(visit))
        joined.append(_described(scan, visit, table))
    if not joined:
        how = f"time, at most {max_days} days apart" if by_time else "subject and session" if has_visits else "subject"
        first = visits[0]
        raise TableError(
            f"no scan matches a row of {table.path} by {how}: the first scan is {source.scans[0]}, the first row "
            f"{first}; check the columns of ids, sessions and dates (--max-days N joins by time)"
        )
    unused = [f"{table.path.name}: {visit}" for visit in visits if id(visit) not in used]
    notes = list(table.notes)
    if by_time:
        notes.append(f"{table.path.name} was joined by time")
        if too_far:
            notes.append(
                f"{too_far} scans were left out: no visit of theirs in {table.path.name} is known to lie within "
                f"{max_days} days"
            )
    elif wants_nearest and not has_times:
        notes.append(f"{table.path.name} has no times and was joined by subject, however long before or after the scan")
    return _joined(source, table, joined, unused, without_row, notes)


def _joined(
    source: Source, table: Table, scans: list[Scan], unused_rows: list[str], without_row: list[str], notes: list[str]
) -> Source:
    columns = {role: column for role, column in table.columns.items() if column is not None}
    if any(scan.row[AGE_AT_SCAN] for scan in scans):
        columns["age"] = AGE_AT_SCAN
    return replace(
        source,
        scans=tuple(scans),
        rows_without_image=(*source.rows_without_image, *unused_rows),
        images_without_row=(*source.images_without_row, *without_row),
        columns={**source.columns, **columns},
        asked_for=source.asked_for | table.asked_for,
        notes=(*source.notes, *notes),
    )


def _visits(table: Table) -> list[Visit]:
    if table.columns["subject"] is None:
        raise TableError(
            f"{table.path} has no column of subjects; name it with --subject-column{other_sheets(table.path)}"
        )
    visits = []
    for row in table.rows:
        cell = {role: "" if column is None else row[column] for role, column in table.columns.items()}
        moment = moment_of(cell["session"], cell["date"], cell["days"], table.dates)
        visits.append(Visit(subject=cell["subject"], session=cell["session"], moment=moment, row=row))
    return visits


def _same_session(scan: Scan, visits: list[Visit], has_visits: bool, table: Table) -> Visit | None:
    if has_visits and not (len(visits) == 1 and not scan.session_id):
        visits = [visit for visit in visits if session_key(visit.session) == session_key(scan.session_id)]
    exact = [visit for visit in visits if visit.session.lower() == scan.session_id.lower()]
    # screening and baseline are one visit to the scanner, but each may have a row, of which baseline's is complete
    visits = exact or [visit for visit in visits if not visit.session.lower().startswith("sc")] or visits
    return _agreed(visits, table) if visits else None


def _nearest(scan: Scan, visits: list[Visit], max_days: int, table: Table) -> Visit | None:
    days_of = [(days, visit) for visit in visits if (days := scan.moment.days_after(visit.moment)) is not None]
    near = [(days, visit) for days, visit in days_of if abs(days) <= max_days]
    if not near:
        return None
    # of two visits equally near the earlier one, which does not look into the future
    nearest = min((days for days, _ in near), key=lambda days: (abs(days), days < 0))
    return _agreed([visit for days, visit in near if days == nearest], table)


def _agreed(visits: list[Visit], table: Table) -> Visit:
    first = visits[0]
    for other in visits[1:]:
        for column, cell in first.row.items():
            if other.row[column] != cell:
                raise TableError(
                    f"{table.path} has two rows for {first} that differ in {column}: {cell!r} and "
                    f"{other.row[column]!r}; keep one"
                )
    return first


def _described(scan: Scan, visit: Visit, table: Table) -> Scan:
    days = scan.moment.days_after(visit.moment)
    row = {**scan.row, **visit.row}
    if table.columns["age"] is not None:
        age = age_after(visit.row[table.columns["age"]], 0.0 if days is None else days / DAYS_PER_YEAR)
    elif table.kind.age_at_entry is not None:
        entry_day = scan.moment.entry_day
        at_entry = next(cell for name, cell in visit.row.items() if name.lower() == table.kind.age_at_entry)
        age = age_after(at_entry, None if entry_day is None else entry_day / DAYS_PER_YEAR)
    else:
        age = ""
    row[AGE_AT_SCAN] = age or scan.row.get(AGE_AT_SCAN, "")
    return replace(scan, row=row, gap_days=scan.gap_days if days is None else abs(days))


def _refuse_ambiguous_subjects(source: Source, people: Mapping[str, str]) -> None:
    name_of: dict[str, str] = {}
    for scan in source.scans:
        name = name_of.setdefault(people[scan.subject_id], scan.subject_id)
        if name != scan.subject_id:
            raise TableError(
                f"subjects {name} and {scan.subject_id} cannot be told apart in other tables; rename one of them"
            )
