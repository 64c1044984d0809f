"""What a folder or table looks like, in words, with the command that would import it. Nothing is written."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from adnext_plugin.errors import PathsError
from adnext_plugin.importing.image_files import is_image, no_images, walk_files
from adnext_plugin.importing.sources.bids import CAPS_FOLDERS
from adnext_plugin.importing.sources.bids_names import BidsName
from adnext_plugin.importing.sources.loni import image_id_of
from adnext_plugin.importing.tables.cells import as_number, is_missing
from adnext_plugin.importing.tables.kinds import Table, read_table
from adnext_plugin.importing.tables.reading import TABLE_SUFFIXES

LABEL_NAMES = ("diagnosis", "dx", "group", "label", "class", "dx_bl", "diagnosis_sc")
MAX_CLASSES = 8  # a text column with more values is hardly a label
FILES_LOOKED_AT = 20_000
TARGETS_BY_LIKELIHOOD = ("--from-cdr", "--target age", "--unlabelled")  # after a column that looks like a label
NUMBER_AND_NAME = "adnext_import 101 NAME"


def guess(path: Path) -> str:
    """Describe a folder or table.

    Raises:
        PathsError: there is no such thing, or no images but DICOM files.
        TableError: the table is damaged.
    """
    if path.is_file():
        return "\n".join(_describe_table(read_table(path)))
    if not path.is_dir():
        raise PathsError(f"{path} does not exist; give a folder or a table")
    if any(path.glob("subjects/sub-*")):
        return "\n".join(_describe_caps(path))
    if any(path.glob("sub-*")):
        return "\n".join(_describe_bids(path))
    images = list(islice(filter(is_image, walk_files(path)), FILES_LOOKED_AT))
    if not images:
        raise no_images(path, "*.nii.gz, *.nii or *.img")
    return "\n".join(_describe_folder(path, images))


def _describe_table(table: Table) -> list[str]:
    lines = [f"{table.path}: {table.kind.name}, {len(table.rows)} rows, {len(table.rows[0])} columns"]
    for role, column in table.columns.items():
        if column is not None:
            lines.append(f"  {role:15} {column!r}, e.g. {_example(table.rows, column)}")
    labels = _labels(table)
    lines += [f"  label?          {column!r}: {_counts(table.rows, column)}" for column in labels]
    return [*lines, f"try: {_table_command(table, labels)}"]


def _table_command(table: Table, labels: Sequence[str]) -> str:
    target = _target_option(table, labels)
    if table.kind.name == "LONI image list":
        return f"{NUMBER_AND_NAME} --loni {table.path} --images TREE {target}"
    if table.kind.name == "BIDS participants":
        return f"{NUMBER_AND_NAME} --bids {table.path.parent} {target}"
    if table.columns["file"] is not None:
        return f"{NUMBER_AND_NAME} --table {table.path} {target}"
    if table.kind.image_patterns:
        return f"{NUMBER_AND_NAME} --table {table.path} --images FOLDER {target}"
    return f"{NUMBER_AND_NAME} --bids ROOT --clinical {table.path} {target}  (or --loni, --caps, or --image-pattern)"


def _target_option(table: Table, labels: Sequence[str]) -> str:
    if labels:
        return f"--target {labels[0]!r}"
    return "--from-cdr" if table.columns["cdr"] else "--target age" if table.columns["age"] else "--unlabelled"


def _describe_bids(root: Path) -> list[str]:
    names = [BidsName.of(path) for path in sorted(root.glob("sub-*/**/anat/*.nii*"))]
    if not names:
        raise no_images(root, "sub-*/[ses-*/]anat/*.nii.gz")
    suffixes = Counter(name.suffix for name in names)
    suffix = "T1w" if "T1w" in suffixes else suffixes.most_common(1)[0][0]
    lines = [
        f"{root}: BIDS tree, {len({name.entities.get('sub') for name in names})} subjects with anatomical images, "
        f"{len({name.entities['ses'] for name in names if 'ses' in name.entities})} names of sessions",
        f"  images          {', '.join(f'{count} {name}' for name, count in suffixes.most_common())}",
    ]
    kinds = Counter(key for name in names if name.suffix == suffix for key in name.entities)
    lines.append(f"  names have      {', '.join(f'{key}- ({count})' for key, count in kinds.items())}")
    derivatives = sorted(path.name for path in root.glob("derivatives/*") if path.is_dir())
    lines += [f"  derivatives     {', '.join(derivatives)}: choose one with --derivative"] if derivatives else []
    command = f"{NUMBER_AND_NAME} --bids {root}" + ("" if suffix == "T1w" else f" --suffix {suffix}")
    return [*lines, *_describe_bids_tables(root, command)]


def _describe_bids_tables(root: Path, command: str) -> list[str]:
    paths = [root / "participants.tsv", *sorted(root.glob("phenotype/*.tsv"))]
    paths += list(islice(sorted(root.glob("sub-*/sub-*_sessions.tsv")), 1))
    tables = [read_table(path) for path in paths if path.is_file()]
    lines = [line for table in tables for line in _describe_table(table)[:-1]]
    if not paths[0].is_file():
        return [*lines, f"no participants.tsv; try: {command} --clinical TABLE --target COLUMN"]
    # a label that any table has, else a rating, else an age
    best = min((_target_option(table, _labels(table)) for table in tables), key=_how_unlikely)
    return [*lines, f"try: {command} {best}"]


def _how_unlikely(option: str) -> int:
    return 1 + TARGETS_BY_LIKELIHOOD.index(option) if option in TARGETS_BY_LIKELIHOOD else 0


def _describe_caps(root: Path) -> list[str]:
    counts = {
        pipeline: sum(1 for _ in root.glob(f"subjects/sub-*/ses-*/{folder}/*_T1w.nii*"))
        for pipeline, (folder, *_) in CAPS_FOLDERS.items()
    }
    found = [pipeline for pipeline, count in counts.items() if count]
    lines = [f"{root}: CAPS folder of Clinica", *(f"  {name:15} {counts[name]} images" for name in found)]
    if not found:
        return [*lines, f"  no images of {' or '.join(CAPS_FOLDERS)}"]
    return [
        *lines,
        f"try: {NUMBER_AND_NAME} --caps {root} --caps-pipeline {found[0]} --bids BIDS_ROOT --target diagnosis",
    ]


def _describe_folder(root: Path, images: Sequence[Path]) -> list[str]:
    inner = [path.relative_to(root) for path in images]
    with_id = [path for path in inner if image_id_of(path)]
    tables = [read_table(path) for path in sorted(root.iterdir()) if path.suffix.lower() in TABLE_SUFFIXES]
    if len(with_id) > len(images) / 2:
        lists = [str(table.path) for table in tables if table.kind.name == "LONI image list"]
        return [
            f"{root}: LONI tree, {len(images)} images, {len(with_id)} with an Image Data ID",
            f"try: {NUMBER_AND_NAME} --loni {(lists or ['LIST_OF_IMAGES.csv'])[0]} --images {root} --target Group",
        ]
    lines = [f"{root}: folder of images, {len(images)} files such as {inner[0]}"]
    for table in tables:
        lines += _describe_table(table)[:-1]
        if pattern := _pattern(table, inner):
            target = _target_option(table, _labels(table))
            options = f"--table {table.path} --images {root} --image-pattern '{pattern}' {target}"
            return [*lines, f"try: {NUMBER_AND_NAME} {options}"]
    return [
        *lines,
        f"try: {NUMBER_AND_NAME} --table TABLE.csv --images {root} --image-pattern '{{COLUMN}}.nii.gz' --target COLUMN",
    ]


def _pattern(table: Table, images: Sequence[Path]) -> str | None:
    """The pattern, a column's cell between fixed text, that finds the most images; None where none finds any."""
    known = {path.as_posix() for path in images}
    counts: Counter[str] = Counter()
    for column in table.rows[0]:
        cells = {row[column] for row in table.rows if not is_missing(row[column])}
        by_length = sorted(cells, key=len, reverse=True)
        for path in images[:20]:
            cell = next((cell for cell in by_length if path.name.startswith(cell)), None)
            if cell is not None:
                before, after = path.parent.as_posix(), path.name.removeprefix(cell)
                pattern = f"{'' if before == '.' else before + '/'}{{{column}}}{after}"
                counts[pattern] = sum(pattern.replace(f"{{{column}}}", other) in known for other in cells)
    best = counts.most_common(1)
    return best[0][0] if best else None


def _labels(table: Table) -> list[str]:
    taken = set(table.columns.values())
    found = []
    for column in table.rows[0]:
        values = {row[column] for row in table.rows if not is_missing(row[column])}
        is_text = any(as_number(value) is None for value in values)
        if (column.lower() in LABEL_NAMES and values) or (
            column not in taken and is_text and 2 <= len(values) <= MAX_CLASSES
        ):
            found.append(column)
    by_name = [column for name in LABEL_NAMES for column in found if column.lower() == name]
    return by_name or found


def _counts(rows: Sequence[dict[str, str]], column: str) -> str:
    counts = Counter("missing" if is_missing(row[column]) else row[column] for row in rows)
    return ", ".join(f"{count} {value}" for value, count in counts.most_common(MAX_CLASSES + 1))


def _example(rows: Sequence[dict[str, str]], column: str) -> str:
    return next((repr(row[column]) for row in rows if not is_missing(row[column])), "nothing: it is empty")
