"""The arguments of `adnext_import`, and the records that its stages want of them."""

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.cli.command import new_parser
from adnext_plugin.cli.import_reading import add_reading_options, rules_of
from adnext_plugin.environment import usable_cpus
from adnext_plugin.errors import SettingsError

if TYPE_CHECKING:
    from adnext_plugin.importing.scans import Source
    from adnext_plugin.importing.targets import TargetRule

COLUMN_ROLES = ("file", "subject", "session", "date", "age", "sex", "site")


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_import", "Turn scans and their tables into nnUNet_raw/DatasetNNN_Name.")
    parser.add_argument("number", type=int, nargs="?", help="dataset number, 1 to 999")
    parser.add_argument("name", nargs="?", help="dataset name, letters and digits")
    parser.add_argument("--guess", type=Path, metavar="PATH", help="say what a folder or table is, and write nothing")
    _add_source(parser)
    _add_target(parser)
    _add_rows(parser)
    add_reading_options(parser)
    _add_writing(parser)
    return parser


def _add_source(parser: ArgumentParser) -> None:
    source = parser.add_argument_group("source (one of the first four; --caps may have --bids for its tables)")
    source.add_argument("--table", type=Path, help="CSV, TSV or XLSX file, one row per scan")
    source.add_argument("--bids", type=Path, help="root of a BIDS tree")
    source.add_argument("--caps", type=Path, help="Clinica's CAPS folder")
    source.add_argument("--loni", type=Path, metavar="CSV", help="LONI's list of images; their tree is --images")
    source.add_argument("--images", type=Path, help="folder that the images' paths start from (default: the table's)")
    source.add_argument("--image-pattern", help="path of a row's image, e.g. 'images/{ID}.nii.gz'; may have * and ?")
    source.add_argument("--suffix", default="T1w", help="BIDS suffix of the images (default: T1w)")
    source.add_argument("--derivative", metavar="NAME", help="take the images from derivatives/NAME of the BIDS tree")
    source.add_argument(
        "--entity", nargs="+", default=[], metavar="KEY=VALUE", help="BIDS entities, e.g. acq=mprage space=none"
    )
    source.add_argument("--caps-pipeline", default="t1-linear", choices=("t1-linear", "t1-volume"))
    source.add_argument(
        "--clinical",
        type=Path,
        action="append",
        default=[],
        metavar="TABLE",
        help="further table, joined by subject and session, or by time; may be repeated",
    )
    source.add_argument(
        "--extra-ids", type=Path, metavar="CSV", help="rows of ids that are one person, the first is used"
    )
    for role in COLUMN_ROLES:
        source.add_argument(f"--{role}-column", help=f"the table's column of {role}; usual names are found")


def _add_target(parser: ArgumentParser) -> None:
    target = parser.add_argument_group("target (one of the first five)")
    target.add_argument("--target", help="column of the class; age is predicted as a number")
    target.add_argument("--from-cdr", nargs="?", const="", metavar="COLUMN", help="AD where CDR > 0, CN where it is 0")
    target.add_argument(
        "--target-bins", nargs="+", metavar="BIN", help="COLUMN '<40=young' '>=60=old': classes of a number"
    )
    target.add_argument("--regress", metavar="COLUMN", help="predict the number in this column, e.g. age")
    target.add_argument("--unlabelled", action="store_true", help="no target: scans for pre-training")
    target.add_argument("--label-map", nargs="+", metavar="VALUES=CLASS", help="e.g. CN,SMC=CN AD,Dementia=AD")
    target.add_argument("--skip-unlabelled", action="store_true", help="leave scans without a label out")


def _add_rows(parser: ArgumentParser) -> None:
    rows = parser.add_argument_group("rows and columns")
    rows.add_argument(
        "--where", action="append", default=[], metavar="CONDITION", help="e.g. 'Age>=60'; may be repeated"
    )
    rows.add_argument(
        "--session",
        default="all",
        choices=("all", "baseline", "closest"),
        help="of each subject all scans (default), the first in time, or the nearest to a clinical visit",
    )
    rows.add_argument(
        "--max-days", type=int, metavar="N", help="join --clinical with the visit nearest in time, at most N days away"
    )
    rows.add_argument("--keep", default="", metavar="A,B", help="further numeric columns for subjects.csv")


def _add_writing(parser: ArgumentParser) -> None:
    write = parser.add_argument_group("writing")
    write.add_argument("--dry-run", action="store_true", help="show what would be imported and write nothing")
    how = write.add_mutually_exclusive_group()
    how.add_argument("--copy", action="store_true", help="copy the images")
    how.add_argument("--link", action="store_true", help="link to the images (default)")
    write.add_argument("--with-masks", action="store_true", help="write foreground masks, for nnU-Net's own planning")
    write.add_argument("--overwrite", action="store_true", help="replace a dataset of this name")
    write.add_argument("--processes", "-np", type=int, default=min(8, usable_cpus()), help="default: %(default)s")


def check_options(arguments: Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        SettingsError: they do not.
    """
    sources = (arguments.table, arguments.bids or arguments.caps, arguments.loni)
    if sum(source is not None for source in sources) != 1:
        raise SettingsError("give either --table or --bids, or else --caps or --loni")
    if arguments.loni is not None and arguments.images is None:
        raise SettingsError("--loni needs --images, the tree of folders that LONI's download unpacks to")
    if arguments.caps is not None and arguments.bids is None and not arguments.clinical and not arguments.unlabelled:
        raise SettingsError("--caps has images only; give their tables with --bids or --clinical")
    if arguments.derivative is not None and (arguments.bids is None or arguments.caps is not None):
        raise SettingsError("--derivative goes with --bids")
    targets = (arguments.target, arguments.from_cdr, arguments.target_bins, arguments.regress)
    if sum(option is not None for option in targets) + arguments.unlabelled != 1:
        raise SettingsError("give one of --target, --from-cdr, --target-bins, --regress and --unlabelled")
    if arguments.label_map and arguments.target is None:
        raise SettingsError("--label-map goes with --target")
    if arguments.max_days is not None and (arguments.max_days < 0 or not arguments.clinical):
        raise SettingsError("--max-days goes with --clinical, and is a number of days, 0 or more")


def read_source(arguments: Namespace) -> "Source":
    """The scans of the source that the user names, joined with the clinical tables."""
    from adnext_plugin.importing.tables.joining import DEFAULT_MAX_DAYS, join_table
    from adnext_plugin.importing.tables.kinds import read_table

    columns = {role: getattr(arguments, f"{role}_column") for role in COLUMN_ROLES}
    source = _read_images(arguments, columns)
    by_time = arguments.max_days is not None or arguments.session == "closest"
    max_days = DEFAULT_MAX_DAYS if arguments.max_days is None else arguments.max_days
    for path in arguments.clinical:
        table = read_table(path, columns, is_one_of_many=True, rules=rules_of(arguments))
        source = join_table(source, table, by_time=by_time, max_days=max_days)
    return source


def _read_images(arguments: Namespace, columns: Mapping[str, str | None]) -> "Source":
    from adnext_plugin.importing.sources.bids import BidsOptions, read_bids_source
    from adnext_plugin.importing.sources.bids_names import parse_entities
    from adnext_plugin.importing.sources.loni import read_loni_source
    from adnext_plugin.importing.sources.table import TableOptions, read_table_source

    rules = rules_of(arguments)
    if arguments.table is not None:
        return read_table_source(
            TableOptions(
                table=arguments.table,
                images=arguments.images,
                image_pattern=arguments.image_pattern,
                columns=columns,
                rules=rules,
            )
        )
    if arguments.loni is not None:
        return read_loni_source(arguments.loni, arguments.images, columns, rules)
    return read_bids_source(
        BidsOptions(
            root=arguments.bids,
            suffix=arguments.suffix,
            derivative=arguments.derivative,
            caps=arguments.caps,
            caps_pipeline=arguments.caps_pipeline,
            entities=parse_entities(arguments.entity),
            columns={} if arguments.clinical else columns,
            rules=rules,
        )
    )


def target_rule(arguments: Namespace) -> "TargetRule | None":
    """How the target follows from a row; None for scans without targets."""
    from adnext_plugin.importing.targets import TargetRule, parse_bins, parse_label_map

    if arguments.unlabelled:
        return None
    if arguments.from_cdr is not None:
        return TargetRule(column=arguments.from_cdr, is_cdr=True, classes=("CN", "AD"))
    if arguments.target_bins is not None:
        column, *items = arguments.target_bins
        bins = parse_bins(column, items)
        return TargetRule(column=column, bins=bins, classes=tuple(dict.fromkeys(name for _, name in bins)))
    if arguments.regress is not None:
        return TargetRule(column=arguments.regress, is_number=True)
    if arguments.label_map is None:
        return TargetRule(column=arguments.target, is_number=arguments.target.lower() == "age")
    label_map, classes = parse_label_map(arguments.label_map)
    return TargetRule(column=arguments.target, label_map=label_map, classes=classes)
