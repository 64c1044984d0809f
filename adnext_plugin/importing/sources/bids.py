"""BIDS trees, their derivatives, and Clinica's CAPS folders as sources."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from adnext_plugin.choices import CapsPipeline
from adnext_plugin.errors import PathsError
from adnext_plugin.importing.channels import Channel, join_channels
from adnext_plugin.importing.image_files import images_in, no_images, subfolders
from adnext_plugin.importing.people.identities import moment_of
from adnext_plugin.importing.scans import Scan, Source
from adnext_plugin.importing.sources.bids_names import BidsName, choose, matching, parse_end
from adnext_plugin.importing.sources.bids_sidecars import BidsSidecars
from adnext_plugin.importing.sources.bids_tables import BidsTables
from adnext_plugin.importing.tables.cells import NO_RULES, CellRules
from adnext_plugin.importing.tables.dates import DateColumn
from adnext_plugin.importing.tables.kinds import USUAL_NAMES
from adnext_plugin.importing.tables.reading import find_column

# folders of a session; "*" for the group whose template brains were brought to
CAPS_FOLDERS: dict[CapsPipeline, tuple[str, ...]] = {
    "t1-linear": ("t1_linear",),
    "t1-volume": ("t1/spm/segmentation/normalized_space", "t1/spm/dartel/group-*"),
}
FOLDERS = {"pet": "pet"}  # of BIDS, by suffix; else anat


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
    rules: CellRules = NO_RULES
    channel: str = ""  # that the images are to be, for messages


def read_bids_source(options: BidsOptions, channels: Sequence[Channel] = ()) -> Source:
    """Find the images and the rows that describe them.

    Args:
        options: which tree, and which of its images.
        channels: several images of a session, each by how names end; the first must be there.

    Raises:
        SettingsError: a channel does not say how names end.
        PathsError: no such folder, or not one image.
        TableError: a table is damaged or names a subject twice, or a session has images that differ in more than a
            repeat.
    """
    choices = [_of_channel(options, channel) for channel in channels] or [options]
    if options.root is not None and not options.root.is_dir():
        raise PathsError(f"{options.root} is not a folder; give the root of a BIDS tree")
    root = options.root or options.caps
    assert root is not None, "either a tree or a CAPS folder"
    images_root = _images_root(options)
    groups = [_images(choice, images_root) for choice in choices]
    tables = BidsTables(root, _folders([root, images_root]), options.rules)
    roots = [root for root in (options.root, images_root) if root]
    sources = [
        _source(choice, tables, BidsSidecars(roots, choice.suffix), found)
        for choice, found in zip(choices, groups, strict=True)
    ]
    if not channels:
        return sources[0]
    return join_channels({channel.name: source for channel, source in zip(channels, sources, strict=True)})


def _of_channel(options: BidsOptions, channel: Channel) -> BidsOptions:
    entities, suffix = parse_end(channel.where)
    return replace(options, suffix=suffix, entities={**options.entities, **entities}, channel=channel.name)


def _source(
    options: BidsOptions, tables: BidsTables, sidecars: BidsSidecars, groups: Mapping[tuple[str, str], list[BidsName]]
) -> Source:
    scans, without_row, unused, reasons = [], [], [], []
    for (subject, session), names in groups.items():
        rows = {name.path: tables.row_of(subject, session, name.path) for name in names}
        without_row += [str(path) for path, row in rows.items() if row is None]
        described = [name for name in names if rows[name.path] is not None]
        chosen = choose(described, options.entities, _words(subject, session), options.channel)
        unused += [str(name.path) for name in chosen.passed_over]
        reasons += [(reason, _words(subject, session)) for reason in chosen.reasons]
        for name in chosen.names:
            row = {**sidecars.fields_of(name), **(rows[name.path] or {})}
            scans.append(Scan(image=name.path, subject_id=subject, session_id=session, row=row))
    scans = [replace(scan, row=row) for scan, row in zip(scans, _same_columns(scans), strict=True)]
    columns = _columns(scans, options)
    return Source(
        scans=tuple(_with_moments(scans, columns, tables.root, options.rules)),
        rows_without_image=tuple(tables.unmatched(groups)),
        images_without_row=tuple(without_row),
        unused_images=tuple(unused),
        columns=columns,
        has_repeats=True,
        asked_for=frozenset(name for name in options.columns.values() if name is not None),
        notes=(*dict.fromkeys([*tables.notes, *sidecars.notes]), *_choices(options, reasons)),
    )


def _words(subject: str, session: str) -> str:
    return f"{subject} {session}".strip()


def _choices(options: BidsOptions, reasons: Sequence[tuple[str, str]]) -> Iterator[str]:
    """What the report says about the choice of images."""
    if options.entities:
        yield f"images were chosen by --entity {' '.join(f'{key}={value}' for key, value in options.entities.items())}"
    for reason in dict.fromkeys(reason for reason, _ in reasons):
        sessions = [session for other, session in reasons if other == reason]
        yield f"{reason} were taken and others passed over in {len(sessions)} sessions, the first {sessions[0]}"


def _images_root(options: BidsOptions) -> Path:
    if options.caps is not None:
        return options.caps / "subjects"
    assert options.root is not None, "without a CAPS folder there is a tree"
    return options.root if options.derivative is None else options.root / "derivatives" / options.derivative


def _folders(roots: Sequence[Path]) -> dict[str, list[str]]:
    """All subjects of some trees, with the names of each one's sessions, or "" where it has no folders of them."""
    found: dict[str, dict[str, None]] = {}
    for subject in (path for root in roots for path in subfolders(root, "sub-")):
        sessions = [path.name for path in subfolders(subject, "ses-")]
        found.setdefault(subject.name, {}).update(dict.fromkeys(sessions or [""]))
    return {subject: list(sessions) for subject, sessions in found.items()}


def _images(options: BidsOptions, root: Path) -> dict[tuple[str, str], list[BidsName]]:
    if not root.is_dir():
        known = sorted(path.name for path in root.parent.glob("*") if path.is_dir())
        raise PathsError(f"{root} is not a folder; {root.parent} has {', '.join(known) or 'no folders'}")
    in_bids = (FOLDERS.get(options.suffix, "anat"),)
    inner = in_bids if options.caps is None else CAPS_FOLDERS[options.caps_pipeline]
    groups = {}
    for subject in subfolders(root, "sub-"):
        for folder, session in [(subject, ""), *((path, path.name) for path in subfolders(subject, "ses-"))]:
            paths = [path for part in inner for place in sorted(folder.glob(part)) for path in images_in(place)]
            names = matching(paths, options.suffix, options.entities)
            if names:
                groups[subject.name, session] = names
    if not groups:
        wanted = "".join(f" --entity {key}={value}" for key, value in options.entities.items())
        option = f"--channel {options.channel}" if options.channel else "--suffix"
        expected = f"sub-*/[ses-*/]{' or '.join(inner)}/*_{options.suffix}.nii.gz{wanted}; is {option} right?"
        if options.root is not None and not (options.root / "participants.tsv").is_file():
            expected += f" {options.root / 'participants.tsv'} does not exist either, as it should in a BIDS tree"
        raise no_images(root, expected)
    return groups


def _columns(scans: list[Scan], options: BidsOptions) -> dict[str, str | None]:
    names = dict.fromkeys(name for scan in scans for name in scan.row)
    return {
        role: find_column(options.columns.get(role), usual, names, f"--{role}-column")
        for role, usual in USUAL_NAMES.items()
    }


def _same_columns(scans: Sequence[Scan]) -> list[dict[str, str]]:
    # not every subject has a sessions' table or a sidecar; a filter must find its column in all rows
    empty = dict.fromkeys((name for scan in scans for name in scan.row), "")
    return [{**empty, **scan.row} for scan in scans]


def _with_moments(
    scans: Sequence[Scan], columns: Mapping[str, str | None], root: Path, rules: CellRules
) -> Iterator[Scan]:
    cells = [
        {role: scan.row[column] if (column := columns[role]) else "" for role in ("date", "days")} for scan in scans
    ]
    dates = DateColumn.of(f"column {columns['date']!r} of {root}", (cell["date"] for cell in cells), rules.date_order)
    for scan, cell in zip(scans, cells, strict=True):
        yield replace(scan, moment=moment_of(scan.session_id, cell["date"], cell["days"], dates))
