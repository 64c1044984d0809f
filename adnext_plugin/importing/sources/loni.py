"""A LONI download as a source: the list of images (CSV) and the tree of folders that comes with it.

`ADNI/002_S_0295/MPR__GradWarp/2006-11-02_08_16_44.0/I45107/ADNI_002_S_0295_MR_..._S13408_I45107.nii` belongs to the
row whose Image Data ID is I45107. Older trees have the series (S13408) as the folder; the file's name then says it.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from adnext_plugin.errors import PathsError, TableError
from adnext_plugin.importing.channels import Channel, join_channels
from adnext_plugin.importing.image_files import is_image, natural_order, no_images, walk_files
from adnext_plugin.importing.people.identities import moment_of
from adnext_plugin.importing.scans import Scan, Source
from adnext_plugin.importing.tables.cells import NO_RULES, CellRules, Condition, is_missing
from adnext_plugin.importing.tables.kinds import Table, read_table
from adnext_plugin.people import person_of

IMAGE_ID = re.compile(r"I(\d+)", re.ASCII)
# what says that two images of a visit are different things, be it another sequence or another processing
MAKEUP = ("Modality", "Type", "Description", "Weighting", "Imaging Protocol")
# ADNI takes a second scan in most visits: MPR-R, MPRAGE Repeat; what belongs to it ends with _2
REPEAT = re.compile(r"[\s_-]*\b(?:repeat|rpt|r)\b|_[2-9]\b", re.IGNORECASE | re.ASCII)
ADNI_SUBJECT = re.compile(r"\d{3}_S_\d{4,5}", re.ASCII)


def read_loni_source(
    table_path: Path,
    folder: Path,
    columns: Mapping[str, str | None] | None = None,
    rules: CellRules = NO_RULES,
) -> Source:
    """Find the image of each row by its Image Data ID.

    Args:
        table_path: the list, with the columns Image Data ID, Subject, Visit, Acq Date and more.
        folder: the tree.
        columns: that the user names, by role.
        rules: how the user says that cells are to be read.

    Raises:
        PathsError: no such folder, or not one NIfTI image in it.
        TableError: the table is no such list, an id is there twice, or a row's subject is not that of its image's path.
    """
    table = read_table(table_path, columns, is_one_of_many=True, rules=rules)
    if "Image Data ID" not in table.rows[0] or table.columns["subject"] is None:
        raise TableError(f"{table_path} has no columns 'Image Data ID' and 'Subject'; give LONI's list of images")
    if not folder.is_dir():
        raise PathsError(f"{folder} is not a folder; give the tree that LONI's download unpacks to")
    images, without_id = _images_by_id(folder)
    scans, without_image, other_modality = [], [], 0
    seen = set()
    for row in table.rows:
        image_id = row["Image Data ID"].upper().removeprefix("I")
        if image_id in seen:
            raise TableError(f"{table_path} lists image {row['Image Data ID']!r} twice; keep one row")
        seen.add(image_id)
        if row.get("Modality", "MRI").upper() not in ("MRI", "MR", ""):
            other_modality += 1
        elif image_id in images:
            if len(images[image_id]) > 1:
                first, second, *_ = images[image_id]
                raise TableError(f"image {row['Image Data ID']} is both {first} and {second}; take one out of the tree")
            scans.append(_scan(row, images[image_id][0], table))
        else:
            without_image.append(f"{row['Image Data ID']} ({row[table.columns['subject']]})")
    scans.sort(key=lambda scan: natural_order(f"{scan.row['Image Data ID']} {scan.image}"))
    unlisted = [str(path) for image_id, paths in images.items() if image_id not in seen for path in paths]
    return Source(
        scans=tuple(scans),
        rows_without_image=tuple(without_image),
        images_without_row=(*unlisted, *without_id),
        columns=table.columns,
        has_repeats=True,
        asked_for=table.asked_for,
        notes=(
            *table.notes,
            *([f"{other_modality} rows of other modalities than MRI were passed over"] if other_modality else []),
        ),
    )


def by_channel(source: Source, channels: Sequence[Channel]) -> Source:
    """A source whose scans have an image of each channel: those of one visit that meet the channels' conditions.

    A channel's `where` is a condition, such as `Description~FLAIR`, or, without a comparison, a part of the
    Description.

    Raises:
        TableError: no such column, or no image of the first channel.
    """
    parts = {}
    for channel in channels:
        is_condition = any(sign in channel.where for sign in "=<>~")
        condition = Condition.parse(channel.where if is_condition else f"Description~{channel.where}")
        scans = tuple(scan for scan in source.scans if condition.holds(scan.row))
        if not scans:
            raise TableError(f"--channel {channel.name}: no image of the list has {condition.text}")
        parts[channel.name] = replace(source, scans=scans)
    joined = join_channels(parts)
    used = {scan.image for part in parts.values() for scan in part.scans}
    unused = [str(scan.image) for scan in source.scans if scan.image not in used]
    return replace(joined, unused_images=tuple(dict.fromkeys([*joined.unused_images, *unused])))


def _scan(row: dict[str, str], path: Path, table: Table) -> Scan:
    column_of = {role: name or "" for role, name in table.columns.items()}
    subject = row[column_of["subject"]]
    if is_missing(subject):
        raise TableError(f"{table.path}: image {row['Image Data ID']} has no subject; complete the row")
    in_path = [part for part in path.parts if ADNI_SUBJECT.fullmatch(part)]
    if in_path and person_of(in_path[-1]) != person_of(subject):
        raise TableError(f"{table.path} gives image {row['Image Data ID']} to {subject}, but it lies at {path}")
    cell = {role: row[column_of[role]] if column_of[role] else "" for role in ("session", "date")}
    return Scan(
        image=path,
        subject_id=subject,
        session_id=cell["session"],
        row=row,
        moment=moment_of(cell["session"], cell["date"], dates=table.dates),
        makeup={name: REPEAT.sub("", row[name]).strip().casefold() for name in MAKEUP if name in row},
    )


def image_id_of(inner: Path) -> str | None:
    """The number of the Image Data ID in a path within the tree: a folder of that name, or the end of the file's."""
    parts = [*inner.parent.parts, inner.name.split(".", 1)[0].rsplit("_", 1)[-1]]
    return next((match[1] for match in map(IMAGE_ID.fullmatch, parts) if match), None)


def _images_by_id(folder: Path) -> tuple[dict[str, list[Path]], list[str]]:
    images, without_id = defaultdict(list), []
    for path in filter(is_image, walk_files(folder)):
        image_id = image_id_of(path.relative_to(folder))
        if image_id is None:
            without_id.append(str(path))
        else:
            images[image_id].append(path)
    if not images:
        raise no_images(folder, "in a folder or file named after its Image Data ID, such as I45107")
    return dict(images), without_id
