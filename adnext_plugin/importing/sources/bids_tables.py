"""The tables of a BIDS tree as one row per image."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from adnext_plugin.errors import TableError
from adnext_plugin.importing.people.identities import session_key, subject_key
from adnext_plugin.importing.tables.reading import read_rows

NO_ROW: Mapping[str, str] = {}
KEY_OF = {"participant_id": subject_key, "session_id": session_key}


class RowsById:
    """Rows of a table, found by ids as they are written, or else by any other spelling that fits one row alone."""

    def __init__(self, rows: Iterable[dict[str, str]] = (), columns: tuple[str, ...] = ()) -> None:
        """Index the rows by the ids in these columns, without the columns themselves."""
        self.by_name: dict[tuple[str, ...], dict[str, str]] = {}
        self.names_of = defaultdict(list)
        for row in rows:
            name = tuple(row[column] for column in columns)
            self.by_name[name] = {column: cell for column, cell in row.items() if column not in columns}
            self.names_of[tuple(KEY_OF[c](cell) for c, cell in zip(columns, name, strict=True))].append(name)
        self.columns = columns

    def name_for(self, *wanted: str) -> tuple[str, ...] | None:
        """How the table writes these ids; None where it has them not or in several spellings."""
        if wanted in self.by_name:
            return wanted
        names = self.names_of.get(tuple(KEY_OF[c](name) for c, name in zip(self.columns, wanted, strict=True)), [])
        return names[0] if len(names) == 1 else None

    def row_of(self, *wanted: str) -> Mapping[str, str]:
        """The row of these ids, empty where there is none."""
        return self.by_name.get(self.name_for(*wanted), NO_ROW) if self.columns else NO_ROW


class BidsTables:
    """`participants.tsv`, `phenotype/*.tsv`, `sub-*/sub-*_sessions.tsv` and `*_scans.tsv` of a tree.

    A column that several have is read from the one that says most about the single image: scans, sessions, phenotype,
    participants; a phenotype's column whose name is taken stands under `table.column` instead.
    """

    def __init__(self, root: Path, *, needs_participants: bool) -> None:
        """Read the tables of all subjects; those of one subject are read when asked for.

        Raises:
            PathsError: `participants.tsv` is missing though needed.
            TableError: a table is damaged, or names a subject or session twice.
        """
        self.root = root
        self.notes: list[str] = []
        path = root / "participants.tsv"
        has_participants = needs_participants or path.is_file()
        self.participants = _by_id(path, ("participant_id",)) if has_participants else RowsById()
        self.phenotypes = {table.stem: self._phenotype(table) for table in sorted(root.glob("phenotype/*.tsv"))}
        self.sessions = cache(self._sessions)
        self.scans = cache(self._scans)

    def row_of(self, subject: str, session: str, image: Path) -> dict[str, str] | None:
        """All that the tables say about an image; None where there are participants, and the subject is not one."""
        if self.participants.columns and self.participants.name_for(subject) is None:
            return None
        row = dict(self.participants.row_of(subject))
        for stem, rows in self.phenotypes.items():
            names = (subject, session)[: len(rows.columns)]
            row |= {f"{stem}.{name}" if name in row else name: cell for name, cell in rows.row_of(*names).items()}
        return row | self.sessions(subject).row_of(session) | self.scans(subject, session).get(image.name, NO_ROW)

    def unmatched(self, found: Iterable[tuple[str, str]]) -> list[str]:
        """Participants without an image, and listed sessions without one; `found` are subjects and their sessions."""
        sessions_of = defaultdict(set)
        for subject, session in found:
            sessions_of[subject].add(session)
        seen = {self.participants.name_for(subject) for subject in sessions_of if self.participants.columns}
        without = [" ".join(name) for name in self.participants.by_name if name not in seen]
        for subject, sessions in sessions_of.items():
            # without session folders there is one scan per subject, however many sessions its table lists
            listed = self.sessions(subject) if sessions != {""} else RowsById()
            matched = {listed.name_for(session) for session in sessions if listed.columns}
            without += [f"{subject} {' '.join(name)}" for name in listed.by_name if name not in matched]
        return sorted(without)

    def _phenotype(self, path: Path) -> RowsById:
        columns = ("participant_id", "session_id") if "session_id" in read_rows(path)[0] else ("participant_id",)
        try:
            return _by_id(path, columns)
        except TableError as error:  # such as several rows per participant: what to join is then open
            self.notes.append(f"not used: {error}")
            return RowsById()

    def _sessions(self, subject: str) -> RowsById:
        path = self.root / subject / f"{subject}_sessions.tsv"
        return _by_id(path, ("session_id",)) if path.is_file() else RowsById()

    def _scans(self, subject: str, session: str) -> dict[str, dict[str, str]]:
        folder = self.root / subject / session
        path = folder / f"{'_'.join(filter(None, (subject, session)))}_scans.tsv"
        rows = read_rows(path) if path.is_file() else []
        return {Path(row.get("filename", "")).name: row for row in rows}


def _by_id(path: Path, columns: tuple[str, ...]) -> RowsById:
    rows = read_rows(path)
    missing = [column for column in columns if column not in rows[0]]
    if missing:
        raise TableError(f"{path} has no column {missing[0]!r}, which BIDS demands")
    doubled = [name for name, count in Counter(tuple(row[c] for c in columns) for row in rows).items() if count > 1]
    if doubled:
        raise TableError(f"{path} names {' '.join(doubled[0])!r} twice; keep one row")
    return RowsById(rows, columns)
