"""A table as a source: one row per scan, whose file a column names, or a pattern, or the cohort's usual folders."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from glob import escape
from os.path import lexists, realpath
from pathlib import Path

from adnext_plugin.errors import TableError, nearest_names
from adnext_plugin.importing.channels import Channel
from adnext_plugin.importing.image_files import Finder, images_in, is_image, no_images
from adnext_plugin.importing.people.identities import moment_of
from adnext_plugin.importing.scans import Scan, Source
from adnext_plugin.importing.tables.cells import NO_RULES, CellRules, is_missing
from adnext_plugin.importing.tables.kinds import Table, read_table
from adnext_plugin.importing.tables.reading import other_sheets

PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
MAX_PATH_CHARACTERS = 4096
MAX_FOLDERS = 100


@dataclass(frozen=True, kw_only=True)
class TableOptions:
    """Where a table's images are, and by role, such as "subject", the columns that the user names."""

    table: Path
    images: Path | None = None  # folder that relative paths start from; the table's own by default
    image_pattern: str | None = None  # such as "images/{ID}.nii.gz", instead of a column of paths; may have * and ?
    columns: Mapping[str, str | None] = field(default_factory=dict)
    rules: CellRules = NO_RULES
    channels: tuple[Channel, ...] = ()  # several images of a row, in their order


def read_table_source(options: TableOptions) -> Source:
    """Read the table and find the image of each row.

    Raises:
        TableError: a column is missing, a row is incomplete, or a pattern fits several files.
    """
    table = read_table(options.table, options.columns, rules=options.rules)
    if table.columns["subject"] is None:
        raise TableError(
            f"{options.table} has no column of subjects; name it with --subject-column{other_sheets(options.table)}"
        )
    folder = options.images or options.table.parent
    places = _places(table, options)
    scans, without_image, finder = [], [], Finder()
    for number, row in enumerate(table.rows, start=2):
        cell = {role: "" if column is None else row[column] for role, column in table.columns.items()}
        if not cell["subject"]:
            raise TableError(
                f"{options.table}, line {number}: the subject (column {table.columns['subject']!r}) is empty"
            )
        where = f"{options.table}, line {number}"
        image, *further = (_image(row, place, folder, finder, where) for place in places)
        if image is None:
            without_image.append(f"line {number} ({cell['subject']})")
            continue
        moment = moment_of(cell["session"], cell["date"], cell["days"], table.dates)
        scans.append(
            Scan(
                image=image,
                subject_id=cell["subject"],
                session_id=cell["session"],
                row=row,
                moment=moment,
                further=tuple(further),
            )
        )
    if not scans and places[0].patterns:
        raise no_images(folder, f"as {' or '.join(places[0].patterns)} for any row of {options.table}; check --images")
    return Source(
        scans=tuple(scans),
        rows_without_image=tuple(without_image),
        images_without_row=tuple(_unlisted(scans)),
        columns=table.columns,
        asked_for=table.asked_for,
        notes=table.notes,
        channels=tuple(channel.name for channel in options.channels),
    )


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where the images of a channel are: the column that names them, or patterns that are tried in turn."""

    column: str | None = None
    patterns: tuple[str, ...] = ()
    may_be_missing: bool = False


def _places(table: Table, options: TableOptions) -> list[_Place]:
    """Of each channel, or of the one image that rows have."""
    if not options.channels:
        patterns = _patterns(table, options)
        return [_Place(column=None if patterns else table.columns["file"], patterns=patterns)]
    places = []
    for number, channel in enumerate(options.channels):
        if channel.where in table.rows[0]:
            places.append(_Place(column=channel.where, may_be_missing=number > 0))
            continue
        if not any(sign in channel.where for sign in "{*?[."):
            raise TableError(
                f"--channel {channel.name}={channel.where}: the table has no such column"
                f"{nearest_names(channel.where, table.rows[0])}, and it is no pattern of files, such as "
                "'images/{ID}_flair.nii.gz'"
            )
        _check_pattern(channel.where, table, f"--channel {channel.name}")
        places.append(_Place(patterns=(channel.where,), may_be_missing=number > 0))
    return places


def _check_pattern(pattern: str, table: Table, option: str) -> None:
    for name in PLACEHOLDER.findall(pattern):
        if name not in table.rows[0]:
            raise TableError(f"{option}: the table has no column {name!r}{nearest_names(name, table.rows[0])}")
    if not pattern or pattern.startswith("/"):
        raise TableError(f"{option} {pattern!r} must start from the folder of images; give that as --images")


def _patterns(table: Table, options: TableOptions) -> tuple[str, ...]:
    if options.image_pattern is not None:
        _check_pattern(options.image_pattern, table, "--image-pattern")
        return (options.image_pattern,)
    if table.columns["file"] is not None:
        return ()
    if not table.kind.image_patterns:
        raise TableError(
            f"{options.table} has no column of image files; give --file-column or --image-pattern"
            f"{other_sheets(options.table)}"
        )
    return table.kind.image_patterns


def _image(row: dict[str, str], place: _Place, folder: Path, finder: Finder, where: str) -> Path | None:
    if place.column is not None:
        file = row[place.column]
        # of a further channel a cell may say that there is none
        is_there = bool(file) and not (place.may_be_missing and is_missing(file))
        return folder / _possible(file, where) if is_there else None
    for pattern in place.patterns:
        if not any(sign in pattern for sign in "*?["):
            # a file that is not there is reported when the images are read, by its whole name
            path = folder / _possible(PLACEHOLDER.sub(lambda match: row[match[1]], pattern), where)
            return None if place.may_be_missing and not lexists(path) else path
        filled = _possible(PLACEHOLDER.sub(lambda match: escape(row[match[1]]), pattern), where)
        found = [path for path in _found(finder, folder, filled) if is_image(path)]
        if len(found) > 1:
            raise TableError(f"{where}: {found[0]} and {found[1]} both fit {pattern!r}; make the pattern narrower")
        if found:
            return found[0]
    return None


def _possible(path: str, where: str) -> str:
    if len(path) > MAX_PATH_CHARACTERS or path.count("/") > MAX_FOLDERS:
        raise TableError(f"{where}: no file can have a path of {len(path)} characters, {path[:40]}...; correct it")
    return path


def _found(finder: Finder, folder: Path, pattern: str) -> list[Path]:
    try:
        return finder.find(folder, pattern)
    except (OSError, ValueError, NotImplementedError, IndexError) as error:
        raise TableError(f"--image-pattern: {pattern!r} is no pattern of file names ({error})") from error


def _unlisted(scans: list[Scan]) -> Iterator[str]:
    images = [image for scan in scans for image in (scan.image, *scan.further) if image is not None]
    listed = {realpath(image) for image in images}
    for parent in sorted({image.parent for image in images}):
        yield from (str(path) for path in images_in(parent) if realpath(path) not in listed)
