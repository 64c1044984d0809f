"""A table of files as a source: one row per scan."""

from dataclasses import dataclass
from pathlib import Path

from adnext_plugin.errors import TableError, nearest_names
from adnext_plugin.importing.scans import Scan, Source
from adnext_plugin.importing.tables import find_column, read_rows

USUAL_NAMES = {
    "file": ("file", "path", "image", "filename", "image_path", "file_path"),
    "subject": ("subject", "subject_id", "participant_id", "participant", "patient_id", "ptid"),
    "session": ("session", "session_id", "visit", "viscode"),
    "age": ("age", "age_at_scan"),
    "sex": ("sex", "gender", "m/f", "ptgender"),
    "site": ("site", "site_id", "centre", "center"),
}
IMAGE_SUFFIXES = (".nii.gz", ".nii", ".img")


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Where a table's images are, and which of its columns hold what; None means: look for a usual name."""

    table: Path
    images: Path | None = None  # folder that relative paths start from; the table's own by default
    image_pattern: str | None = None  # such as "images/{ID}.nii.gz", instead of a column of paths
    file: str | None = None
    subject: str | None = None
    session: str | None = None
    age: str | None = None
    sex: str | None = None
    site: str | None = None


def read_table_source(options: TableOptions) -> Source:
    """Read the table and find the image of each row.

    Raises:
        TableError: a column is missing or a row is incomplete.
    """
    rows = read_rows(options.table)
    columns = {
        role: find_column(getattr(options, role), names, rows, f"--{role}-column")
        for role, names in USUAL_NAMES.items()
    }
    if columns["subject"] is None:
        raise TableError(f"{options.table} has no column of subjects; name it with --subject-column")
    if columns["file"] is None and options.image_pattern is None:
        raise TableError(f"{options.table} has no column of image files; give --file-column or --image-pattern")
    folder = options.images or options.table.parent
    scans, without_image = [], []
    for number, row in enumerate(rows, start=2):
        subject = row[columns["subject"]]
        if not subject:
            raise TableError(f"{options.table}, line {number}: the subject (column {columns['subject']!r}) is empty")
        name = _image_name(row, columns["file"], options)
        if not name:
            without_image.append(f"line {number} ({subject})")
            continue
        session = row[columns["session"]] if columns["session"] else ""
        scans.append(Scan(image=folder / name, subject_id=subject, session_id=session, row=row))
    listed = {scan.image.resolve() for scan in scans}
    folders = sorted({scan.image.parent for scan in scans})
    unlisted = [
        str(path)
        for parent in folders
        if parent.is_dir()
        for path in sorted(parent.iterdir())
        if path.name.endswith(IMAGE_SUFFIXES) and path.resolve() not in listed
    ]
    return Source(
        scans=tuple(scans),
        rows_without_image=tuple(without_image),
        images_without_row=tuple(unlisted),
        covariates={role: columns[role] for role in ("age", "sex", "site")},
    )


def _image_name(row: dict[str, str], column: str | None, options: TableOptions) -> str:
    if options.image_pattern is None:
        return row[column]
    try:
        return options.image_pattern.format_map(row)
    except KeyError as error:
        name = error.args[0]
        raise TableError(f"--image-pattern: the table has no column {name!r}{nearest_names(name, row)}") from error
    except (ValueError, IndexError) as error:
        raise TableError(f"--image-pattern {options.image_pattern!r} cannot be filled in ({error})") from error
