"""What an import reads: the choice of a source with its tables, and of a target, as records; and the reading."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.choices import CapsPipeline, DateOrder
from adnext_plugin.errors import SettingsError

if TYPE_CHECKING:
    from adnext_plugin.importing.scans import Source
    from adnext_plugin.importing.tables.cells import CellRules
    from adnext_plugin.importing.targets import TargetRule

COLUMN_ROLES = ("file", "subject", "session", "date", "age", "sex", "site")


@dataclass(frozen=True, kw_only=True)
class SourceChoice:
    """Where scans and what is known of them come from: `table`, `bids`, `caps` (and `bids` for its tables) or `loni`.

    `images`: folder that a table's or LONI's paths start from. `image_pattern`: path of a row's image. `suffix`,
    `derivative` and `entities` (KEY=VALUE) are of BIDS. `clinical`: further tables, joined by subject and session, or,
    with `max_days` or `by_time`, by time. `columns`: role to column, for what is not found by its usual name.
    `missing`: cells that mean "not known", of all columns or, as COLUMN=CELL, of one. `date_order`: how 5/6/2010 is to
    be read where no date of its column tells. `covariate_map`: column and CELL=VALUE, what cells stand for. `channels`:
    several images of a session, NAME=PATTERN, in the order of channels (`importing/channels.py`).
    """

    table: Path | None = None
    bids: Path | None = None
    caps: Path | None = None
    loni: Path | None = None
    images: Path | None = None
    image_pattern: str | None = None
    suffix: str = "T1w"
    derivative: str | None = None
    entities: tuple[str, ...] = ()
    caps_pipeline: CapsPipeline = "t1-linear"
    clinical: tuple[Path, ...] = ()
    max_days: int | None = None
    missing: tuple[str, ...] = ()
    date_order: DateOrder | None = None
    covariate_map: tuple[tuple[str, ...], ...] = ()
    columns: Mapping[str, str | None] = field(default_factory=dict)
    channels: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TargetChoice:
    """What is to be learned: exactly one of the first five.

    `target`: column of the class, with `label_map` as VALUES=CLASS; age is predicted as a number. `from_cdr`: column of
    the CDR, "" for its usual name. `target_bins`: column and bins. `regress`: column of a number. `unlabelled`:
    nothing. `positive`: of two classes the one that is looked for.
    """

    target: str | None = None
    from_cdr: str | None = None
    target_bins: tuple[str, ...] | None = None
    regress: str | None = None
    unlabelled: bool = False
    label_map: tuple[str, ...] = ()
    positive: str | None = None


def check_choices(source: SourceChoice, target: TargetChoice) -> None:
    """Refuse choices that do not go together.

    Raises:
        SettingsError: they do not.
    """
    sources = (source.table, source.bids or source.caps, source.loni)
    if sum(place is not None for place in sources) != 1:
        raise SettingsError("give either --table or --bids, or else --caps or --loni")
    if source.loni is not None and source.images is None:
        raise SettingsError("--loni needs --images, the tree of folders that LONI's download unpacks to")
    if source.caps is not None and source.bids is None and not source.clinical and not target.unlabelled:
        raise SettingsError("--caps has images only; give their tables with --bids or --clinical")
    if source.derivative is not None and (source.bids is None or source.caps is not None):
        raise SettingsError("--derivative goes with --bids")
    if source.channels and (source.image_pattern is not None or source.columns.get("file") or source.suffix != "T1w"):
        raise SettingsError(
            "--channel says where the images of each channel are; leave out --image-pattern, --file-column and --suffix"
        )
    targets = (target.target, target.from_cdr, target.target_bins, target.regress)
    if sum(choice is not None for choice in targets) + target.unlabelled != 1:
        raise SettingsError("give one of --target, --from-cdr, --target-bins, --regress and --unlabelled")
    if target.label_map and target.target is None:
        raise SettingsError("--label-map goes with --target")
    if target.positive is not None and (target.regress is not None or target.unlabelled):
        raise SettingsError("--positive is for two classes, and here are none")
    if source.max_days is not None and (source.max_days < 0 or not source.clinical):
        raise SettingsError("--max-days goes with --clinical, and is a number of days, 0 or more")


def read_source(choice: SourceChoice, *, by_time: bool) -> "Source":
    """The scans of a source, joined with the clinical tables.

    Args:
        choice: where they are.
        by_time: join with the visit nearest in time; always so where `max_days` is given.

    Raises:
        AdnextError: a file is missing or damaged, or no image belongs to a row.
    """
    from adnext_plugin.importing.tables.joining import DEFAULT_MAX_DAYS, join_table
    from adnext_plugin.importing.tables.kinds import read_table

    columns = {role: choice.columns.get(role) for role in COLUMN_ROLES}
    rules = cell_rules(choice)
    source = _read_images(choice, columns, rules)
    by_time = by_time or choice.max_days is not None
    max_days = DEFAULT_MAX_DAYS if choice.max_days is None else choice.max_days
    for path in choice.clinical:
        table = read_table(path, columns, is_one_of_many=True, rules=rules)
        source = join_table(source, table, by_time=by_time, max_days=max_days)
    return source


def cell_rules(choice: SourceChoice) -> "CellRules":
    """How cells are to be read.

    Raises:
        SettingsError: a replacement has no "=".
    """
    from adnext_plugin.importing.tables.cells import CellRules, parse_missing, parse_replacements

    return CellRules(
        missing=parse_missing(choice.missing),
        date_order=choice.date_order,
        replacements=parse_replacements(choice.covariate_map),
    )


def _read_images(choice: SourceChoice, columns: Mapping[str, str | None], rules: "CellRules") -> "Source":
    from adnext_plugin.importing.channels import parse_channels
    from adnext_plugin.importing.sources.bids import BidsOptions, read_bids_source
    from adnext_plugin.importing.sources.bids_names import parse_entities
    from adnext_plugin.importing.sources.loni import by_channel, read_loni_source
    from adnext_plugin.importing.sources.table import TableOptions, read_table_source

    channels = parse_channels(choice.channels)
    if choice.table is not None:
        return read_table_source(
            TableOptions(
                table=choice.table,
                images=choice.images,
                image_pattern=choice.image_pattern,
                columns=columns,
                rules=rules,
                channels=channels,
            )
        )
    if choice.loni is not None:
        assert choice.images is not None  # see check_choices
        source = read_loni_source(choice.loni, choice.images, columns, rules)
        return by_channel(source, channels) if channels else source
    options = BidsOptions(
        root=choice.bids,
        suffix=choice.suffix,
        derivative=choice.derivative,
        caps=choice.caps,
        caps_pipeline=choice.caps_pipeline,
        entities=parse_entities(choice.entities),
        columns={} if choice.clinical else columns,
        rules=rules,
    )
    return read_bids_source(options, channels)


def target_rule(choice: TargetChoice) -> "TargetRule | None":
    """How the target follows from a row; None for scans without targets.

    Raises:
        SettingsError: bins or a map of labels that cannot be read.
    """
    from adnext_plugin.importing.targets import TargetRule, parse_bins, parse_label_map

    if choice.from_cdr is not None:
        return TargetRule(column=choice.from_cdr, is_cdr=True, classes=("CN", "AD"), positive=choice.positive)
    if choice.target_bins is not None:
        column, *items = choice.target_bins
        bins = parse_bins(column, items)
        classes = tuple(dict.fromkeys(name for _, name in bins))
        return TargetRule(column=column, bins=bins, classes=classes, positive=choice.positive)
    if choice.regress is not None:
        return TargetRule(column=choice.regress, is_number=True)
    if choice.target is None:
        return None
    if not choice.label_map:
        is_number = choice.target.lower() == "age"
        return TargetRule(column=choice.target, is_number=is_number, positive=choice.positive)
    label_map, classes = parse_label_map(choice.label_map)
    return TargetRule(column=choice.target, label_map=label_map, classes=classes, positive=choice.positive)
