"""BIDS trees, their derivatives, and Clinica's CAPS folders as sources."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from adnext_plugin.errors import PathsError
from adnext_plugin.importing.image_files import holds_dicom, no_images
from adnext_plugin.importing.people.identities import moment_of
from adnext_plugin.importing.scans import Scan, Source
from adnext_plugin.importing.sources.bids_names import BidsName, matching, refuse_versions
from adnext_plugin.importing.sources.bids_sidecars import BidsSidecars
from adnext_plugin.importing.sources.bids_tables import BidsTables
from adnext_plugin.importing.tables.kinds import USUAL_NAMES
from adnext_plugin.importing.tables.reading import find_column

CapsPipeline = Literal["t1-linear", "t1-volume"]
CAPS_FOLDERS: dict[CapsPipeline, str] = {
    "t1-linear": "t1_linear",
    "t1-volume": "t1/spm/segmentation/normalized_space",
}


@dataclass(frozen=True, kw_only=True)
class BidsOptions:
    """Which tree, and which of its images.

    Exactly one of `derivative` and `caps` may be given. The tables are always those of `root`; None for a CAPS folder
    whose tables are to come from elsewhere.
    """

    root: Path | None
    suffix: str = "T1w"
    derivative: str | None = None  # folder in derivatives/
    caps: Path | None = None
    caps_pipeline: CapsPipeline = "t1-linear"
    entities: Mapping[str, str] = field(default_factory=dict)
    columns: Mapping[str, str | None] = field(default_factory=dict)
    needs_participants: bool = True  # False where another table describes the subjects


def read_bids_source(options: BidsOptions) -> Source:
    """Find the images and the rows that describe them.

    Raises:
        PathsError: no such folder, no table, or not one image.
        TableError: a table is damaged or names a subject twice, or a session has several versions of an image.
    """
    if options.root is not None and not options.root.is_dir():
        raise PathsError(f"{options.root} is not a folder; give the root of a BIDS tree")
    root = options.root or options.caps
    if not any(_images_root(options).glob("sub-*/**/*.nii*")) and holds_dicom(root):
        raise no_images(root, "in NIfTI")
    tables = BidsTables(root, needs_participants=options.needs_participants)
    groups = _images(options)
    sidecars = BidsSidecars([root for root in (options.root, _images_root(options)) if root], options.suffix)
    scans, without_row = [], []
    for (subject, session), names in groups.items():
        refuse_versions(names, f"{subject} {session}".strip())
        for name in names:
            row = tables.row_of(subject, session, name.path)
            if row is None:
                without_row.append(str(name.path))
                continue
            row = {**sidecars.fields_of(name), **row}
            scans.append(Scan(image=name.path, subject_id=subject, session_id=session, row=row))
    columns = _columns(scans, options)
    return Source(
        scans=tuple(_with_moment(scan, columns) for scan in _same_columns(scans)),
        rows_without_image=tuple(tables.unmatched(groups)),
        images_without_row=tuple(without_row),
        columns=columns,
        has_repeats=True,
        notes=tuple(tables.notes),
    )


def _images_root(options: BidsOptions) -> Path:
    if options.caps is not None:
        return options.caps / "subjects"
    return options.root if options.derivative is None else options.root / "derivatives" / options.derivative


def _images(options: BidsOptions) -> dict[tuple[str, str], list[BidsName]]:
    root = _images_root(options)
    if not root.is_dir():
        known = sorted(path.name for path in root.parent.glob("*") if path.is_dir())
        raise PathsError(f"{root} is not a folder; {root.parent} has {', '.join(known) or 'no folders'}")
    inner = "anat" if options.caps is None else CAPS_FOLDERS[options.caps_pipeline]
    paths_of = defaultdict(list)
    for subject in sorted(root.glob("sub-*")):
        for folder, session in [(subject, ""), *((path, path.name) for path in sorted(subject.glob("ses-*")))]:
            for path in (folder / inner).glob(f"*_{options.suffix}.nii*"):
                paths_of[subject.name, session].append(path)
    groups = {key: matching(paths, options.suffix, options.entities) for key, paths in paths_of.items()}
    groups = {key: names for key, names in groups.items() if names}
    if not groups:
        wanted = "".join(f" --entity {key}={value}" for key, value in options.entities.items())
        raise no_images(root, f"sub-*/[ses-*/]{inner}/*_{options.suffix}.nii.gz{wanted}; is --suffix right?")
    return groups


def _columns(scans: list[Scan], options: BidsOptions) -> dict[str, str | None]:
    names = dict.fromkeys(name for scan in scans for name in scan.row)
    return {
        role: find_column(options.columns.get(role), usual, names, f"--{role}-column")
        for role, usual in USUAL_NAMES.items()
    }


def _same_columns(scans: list[Scan]) -> list[Scan]:
    # not every subject has a sessions' table or a sidecar; a filter must find its column in all rows
    empty = dict.fromkeys((name for scan in scans for name in scan.row), "")
    return [replace(scan, row={**empty, **scan.row}) for scan in scans]


def _with_moment(scan: Scan, columns: Mapping[str, str | None]) -> Scan:
    cell = {role: scan.row[columns[role]] if columns[role] else "" for role in ("date", "days")}
    return replace(scan, moment=moment_of(scan.session_id, cell["date"], cell["days"]))
