"""The tables of a BIDS tree as one row per image."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from adnext_plugin.errors import TableError
from adnext_plugin.importing.people.identities import session_key
from adnext_plugin.importing.tables.cells import NO_RULES, CellRules
from adnext_plugin.importing.tables.encoding import encoding_note
from adnext_plugin.importing.tables.reading import find_column, read_rows
from adnext_plugin.people import person_of

Name = tuple[str, ...]
NO_ROW: Mapping[str, str] = {}
SUBJECT, SESSION = "participant_id", "session_id"
SESSION_NAMES = (SESSION, "session", "ses", "visit", "timepoint")
PERSON_KEY, SESSION_KEY = (person_of,), (session_key,)
BOTH_KEYS = (person_of, session_key)


class RowsById:
    """Rows of a table, each given to the one folder whose name it has, or else spells otherwise.

    Another spelling serves only where one folder and one row have it: a row that is some folder's to the letter, or
    that two folders could claim, is nobody else's.
    """

    def __init__(
        self,
        rows: Iterable[dict[str, str]] = (),
        columns: Sequence[str] = (),
        keys: Sequence[Callable[[str], str]] = (),
        claimants: Iterable[Name] = (),
    ) -> None:
        """Index the rows by the ids in these columns, without the columns themselves.

        Args:
            rows: of the table.
            columns: of subject, session, or both.
            keys: for each column, one form for the spellings of its ids.
            claimants: names of all folders that may look for a row.
        """
        self.columns = tuple(columns)
        self.by_name: dict[Name, dict[str, str]] = {}
        for row in rows:
            name = tuple(row[column] for column in columns)
            self.by_name[name] = {column: cell for column, cell in row.items() if column not in columns}
        self.name_of = _assigned(self.by_name, set(claimants), keys) if columns else {}

    def name_for(self, *wanted: str) -> Name | None:
        """How the table writes these ids; None where it has them not, or nobody can say which row is meant."""
        return self.name_of.get(wanted)

    def row_of(self, *wanted: str) -> Mapping[str, str]:
        """The row of these ids, empty where there is none."""
        name = self.name_for(*wanted)
        return NO_ROW if name is None else self.by_name[name]


def _assigned(names: Iterable[Name], claimants: Iterable[Name], keys: Sequence[Callable]) -> dict[Name, Name]:
    def by_key(items: Iterable[Name]) -> dict[Name, list[Name]]:
        groups = defaultdict(list)
        for item in items:
            groups[tuple(key(part) for key, part in zip(keys, item, strict=True))].append(item)
        return groups

    known, rows = set(names), by_key(names)
    found: dict[Name, Name] = {}
    for key, folders in by_key(claimants).items():
        found |= {folder: folder for folder in folders if folder in known}
        if len(folders) == len(rows.get(key, ())) == 1:
            found[folders[0]] = rows[key][0]
    return found


class BidsTables:
    """`participants.tsv`, `phenotype/*.tsv`, `sub-*/sub-*_sessions.tsv` and `*_scans.tsv` of a tree, all optional.

    A column that several have is read from the one that says most about the single image: scans, sessions, phenotype,
    participants; a phenotype's column whose name is taken stands under `table.column` instead.
    """

    def __init__(self, root: Path, folders: Mapping[str, Iterable[str]], rules: CellRules = NO_RULES) -> None:
        """Read the tables of all subjects; those of one subject are read when asked for.

        Args:
            root: of the tree.
            folders: all subjects of tree and derivatives, with or without images, and the sessions of each; "" where a
                subject has no folders of sessions.
            rules: how the user says that cells are to be read.

        Raises:
            TableError: a table is damaged, or names a subject or session twice.
        """
        self.root, self.folders, self.rules = root, folders, rules
        self.people = [(subject,) for subject in folders]
        self.visits = [(subject, session) for subject, sessions in folders.items() for session in sessions]
        self.notes: list[str] = []
        path = root / "participants.tsv"
        self.has_participants = path.is_file() or path.is_symlink()
        self.participants = self._by_subject(path) if self.has_participants else RowsById()
        self.phenotypes = {table.stem: self._phenotype(table) for table in sorted(root.glob("phenotype/*.tsv"))}
        self.sessions = cache(self._sessions)
        self.scans = cache(self._scans)

    def row_of(self, subject: str, session: str, image: Path) -> dict[str, str] | None:
        """All that the tables say about an image; None where there are participants, and the subject is not one."""
        names = (subject, session)[: len(self.participants.columns)]
        if names and self.participants.name_for(*names) is None:
            return None
        row = dict(self.participants.row_of(*names))
        for stem, rows in self.phenotypes.items():
            names = (subject, session)[: len(rows.columns)]
            row |= {f"{stem}.{name}" if name in row else name: cell for name, cell in rows.row_of(*names).items()}
        scan = self.scans(subject, session).get(image.name, NO_ROW)
        return {**row, **self.sessions(subject).row_of(session), **scan}

    def unmatched(self, found: Iterable[tuple[str, str]]) -> list[str]:
        """Participants without an image, and listed sessions without one; `found` are subjects and their sessions."""
        sessions_of = defaultdict(set)
        for subject, session in found:
            sessions_of[subject].add(session)
        width = len(self.participants.columns)
        seen = {
            self.participants.name_for(*(subject, session)[:width])
            for subject, sessions in sessions_of.items()
            for session in sessions
        }
        without = [" ".join(name) for name in self.participants.by_name if name not in seen]
        for subject, sessions in sessions_of.items():
            # without session folders there is one scan per subject, however many sessions its table lists
            listed = self.sessions(subject) if sessions != {""} else RowsById()
            matched = {listed.name_for(session) for session in sessions if listed.columns}
            without += [f"{subject} {' '.join(name)}" for name in listed.by_name if name not in matched]
        return sorted(without)

    def _by_subject(self, path: Path) -> RowsById:
        rows = self._rows(path)
        _require_column(rows, SUBJECT, path)
        session = find_column(None, SESSION_NAMES, rows[0], "")
        is_by_session = session == SESSION and path.parent.name == "phenotype"
        if session is not None and (is_by_session or len({row[SUBJECT] for row in rows}) < len(rows)):
            _refuse_doubled(rows, (SUBJECT, session), path)
            return RowsById(rows, (SUBJECT, session), BOTH_KEYS, self.visits)
        _refuse_doubled(rows, (SUBJECT,), path)
        return RowsById(rows, (SUBJECT,), PERSON_KEY, self.people)

    def _phenotype(self, path: Path) -> RowsById:
        try:
            return self._by_subject(path)
        except TableError as error:  # such as several rows per participant: what to join is then open
            self.notes.append(f"not used: {error}")
            return RowsById()

    def _sessions(self, subject: str) -> RowsById:
        path = self.root / subject / f"{subject}_sessions.tsv"
        if not (path.is_file() or path.is_symlink()):
            return RowsById()
        rows = self._rows(path)
        _require_column(rows, SESSION, path)
        _refuse_doubled(rows, (SESSION,), path)
        return RowsById(rows, (SESSION,), SESSION_KEY, [(session,) for session in self.folders.get(subject, ())])

    def _scans(self, subject: str, session: str) -> dict[str, dict[str, str]]:
        folder = self.root / subject / session
        path = folder / f"{'_'.join(filter(None, (subject, session)))}_scans.tsv"
        if not (path.is_file() or path.is_symlink()):
            return {}
        rows = self._rows(path)
        _require_column(rows, "filename", path)
        _refuse_doubled(rows, ("filename",), path)
        return {Path(row["filename"]).name: row for row in rows}

    def _rows(self, path: Path) -> list[dict[str, str]]:
        rows = self.rules.applied(read_rows(path), (SUBJECT, SESSION, "filename"))
        if note := encoding_note(path):
            self.notes.append(note)
        return rows


def _require_column(rows: Sequence[Mapping[str, str]], column: str, path: Path) -> None:
    if column not in rows[0]:
        raise TableError(f"{path} has no column {column!r}, which BIDS demands")


def _refuse_doubled(rows: Sequence[Mapping[str, str]], columns: Sequence[str], path: Path) -> None:
    names = Counter(tuple(row[column] for column in columns) for row in rows)
    doubled = [name for name, count in names.items() if count > 1]
    if doubled:
        raise TableError(f"{path} names {' '.join(doubled[0])!r} twice; keep one row")
