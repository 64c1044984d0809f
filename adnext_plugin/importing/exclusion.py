"""A list of people, or of single sessions, who are to be left out: that of `quality.html`, or one of your own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from adnext_plugin.errors import TableError
from adnext_plugin.importing.scans import Scan
from adnext_plugin.importing.tables.reading import read_rows
from adnext_plugin.people import person_of

SUBJECT, SESSION = "subject_id", "session_id"


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """A row of a list: a person, and which of their sessions, "" for all; where it stands, for messages."""

    subject_id: str
    session_id: str
    where: str

    def holds(self, scan: Scan, same_people: Mapping[str, str]) -> bool:
        """Whether a scan is to be left out.

        Args:
            scan: of the source.
            same_people: `person_of` of an id to the id that `subjects.csv` has for that person.
        """
        ids = {scan.subject_id, same_people.get(person_of(scan.subject_id), scan.subject_id)}
        return self.subject_id in ids and self.session_id in ("", scan.session_id)


def read_exclusions(path: Path) -> tuple[Exclusion, ...]:
    """Read a table with a column `subject_id`, and `session_id` where single sessions are meant; others are ignored.

    Raises:
        PathsError: no such file.
        TableError: it is no such table, or a row names nobody.
    """
    rows = read_rows(path)
    if SUBJECT not in rows[0]:
        raise TableError(
            f"{path} has no column {SUBJECT}; save the list from quality.html of adnext_quality, or write {SUBJECT} "
            f"and, where single sessions are meant, {SESSION}"
        )
    found = tuple(
        Exclusion(subject_id=row[SUBJECT], session_id=row.get(SESSION, ""), where=f"{path}, row {number}")
        for number, row in enumerate(rows, start=1)
    )
    for one in found:
        if not one.subject_id:
            raise TableError(f"{one.where} names no {SUBJECT}; complete the row or delete it")
    return found


def without_excluded(
    scans: Sequence[Scan], exclusions: Sequence[Exclusion], same_people: Mapping[str, str]
) -> list[Scan]:
    """The scans that no row holds for.

    Args:
        scans: all of the source.
        exclusions: rows of the list.
        same_people: `person_of` of an id to the id that `subjects.csv` has for that person.

    Raises:
        TableError: a row holds for no scan, so that it may be misspelt.
    """
    left_out: set[int] = set()
    for one in exclusions:
        found = {index for index, scan in enumerate(scans) if one.holds(scan, same_people)}
        if not found:
            session = f", session {one.session_id!r}" if one.session_id else ""
            raise TableError(
                f"{one.where}: there is no scan of subject {one.subject_id!r}{session}; correct the row or delete it"
            )
        left_out |= found
    return [scan for index, scan in enumerate(scans) if index not in left_out]
