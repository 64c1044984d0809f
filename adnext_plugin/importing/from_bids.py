"""A BIDS tree as a source: `participants.tsv`, and where there are any `sub-*/sub-*_sessions.tsv`."""

from collections import defaultdict
from pathlib import Path

from adnext_plugin.errors import PathsError, TableError
from adnext_plugin.importing.from_table import USUAL_NAMES
from adnext_plugin.importing.scans import Scan, Source
from adnext_plugin.importing.tables import find_column, read_rows


def read_bids_source(root: Path, suffix: str = "T1w") -> Source:
    """Find the scans of a BIDS tree and the rows that describe them.

    Of several scans of one session (runs, acquisitions) the first by name is taken and the others are reported. A
    column that both tables have is read from the sessions' table.

    Args:
        root: holds `participants.tsv` and the `sub-*` folders.
        suffix: of the image files, such as T1w.

    Raises:
        PathsError: no such folder, no table, or not one image.
        TableError: a table is damaged or names a subject twice.
    """
    if not root.is_dir():
        raise PathsError(f"{root} is not a folder; give the root of a BIDS tree")
    rows = _by_id(root / "participants.tsv", "participant_id")
    groups = defaultdict(list)
    for folder in sorted(root.glob("sub-*")):
        for path in sorted([*folder.glob(f"anat/*_{suffix}.nii*"), *folder.glob(f"ses-*/anat/*_{suffix}.nii*")]):
            session = path.parent.parent.name if path.parent.parent != folder else ""
            groups[folder.name, session].append(path)
    if not groups:
        raise PathsError(f"{root} has no image sub-*/[ses-*/]anat/*_{suffix}.nii.gz; is --suffix right?")
    scans, without_row = [], []
    for (subject, session), paths in groups.items():
        if subject not in rows:
            without_row += map(str, paths)
            continue
        row = {**rows[subject], **_session_row(root, subject, session)}
        scans.append(Scan(image=paths[0], subject_id=subject, session_id=session, row=row))
    found = {subject for subject, _ in groups}
    columns = {
        role: find_column(None, USUAL_NAMES[role], [dict(scan.row) for scan in scans] or [{}], role)
        for role in ("age", "sex", "site")
    }
    return Source(
        scans=tuple(scans),
        rows_without_image=tuple(sorted(set(rows) - found)),
        images_without_row=tuple(without_row),
        unused_images=tuple(str(path) for paths in groups.values() for path in paths[1:]),
        covariates=columns,
    )


def _session_row(root: Path, subject: str, session: str) -> dict[str, str]:
    path = root / subject / f"{subject}_sessions.tsv"
    if not session or not path.is_file():
        return {}
    return _by_id(path, "session_id").get(session, {})


def _by_id(path: Path, column: str) -> dict[str, dict[str, str]]:
    rows = read_rows(path)
    if column not in rows[0]:
        raise TableError(f"{path} has no column {column!r}, which BIDS demands")
    by_id: dict[str, dict[str, str]] = {}
    for row in rows:
        if row[column] in by_id:
            raise TableError(f"{path} names {row[column]!r} twice; keep one row")
        by_id[row[column]] = row
    return by_id
