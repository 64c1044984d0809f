"""The arguments of `adnext_import`, and the request that they make."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import get_args

from adnext_plugin.choices import CapsPipeline, MissingChannel, SessionChoice
from adnext_plugin.cli.command import new_parser
from adnext_plugin.cli.image_options import add_bids_arguments, add_channel_argument
from adnext_plugin.cli.import_reading import add_reading_options
from adnext_plugin.cli.runs import add_processes_argument
from adnext_plugin.errors import SettingsError
from adnext_plugin.names import names_in
from adnext_plugin.workflows.import_dataset import Request
from adnext_plugin.workflows.import_source import COLUMN_ROLES, SourceChoice, TargetChoice


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
    add_channel_argument(
        source,
        "several images of a session, the T1-weighted first: T1=T1w FLAIR=FLAIR (ends of BIDS names), columns of files "
        "or patterns of paths of a table, parts of LONI's Description",
    )
    source.add_argument(
        "--missing-channel",
        default="refuse",
        choices=get_args(MissingChannel),
        help="scans that lack an image: stop (default), leave them out, or put 0 in its place and note it",
    )
    source.add_argument(
        "--coregister", action="store_true", help="move the further images of a session to the first (rigid)"
    )
    add_bids_arguments(source)
    source.add_argument("--derivative", metavar="NAME", help="take the images from derivatives/NAME of the BIDS tree")
    source.add_argument("--caps-pipeline", default="t1-linear", choices=get_args(CapsPipeline))
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
    target.add_argument(
        "--positive", metavar="CLASS", help="of two classes the one looked for; AD after CN and the like are known"
    )
    target.add_argument("--skip-unlabelled", action="store_true", help="leave scans without a label out")


def _add_rows(parser: ArgumentParser) -> None:
    rows = parser.add_argument_group("rows and columns")
    rows.add_argument(
        "--where", action="append", default=[], metavar="CONDITION", help="e.g. 'Age>=60'; may be repeated"
    )
    rows.add_argument(
        "--session",
        default="all",
        choices=get_args(SessionChoice),
        help="of each subject all scans (default), the first in time, or the nearest to a clinical visit",
    )
    rows.add_argument(
        "--max-days", type=int, metavar="N", help="join --clinical with the visit nearest in time, at most N days away"
    )
    rows.add_argument(
        "--exclude", type=Path, metavar="FILE", help="leave people or sessions out: a list saved from quality.html"
    )
    rows.add_argument(
        "--keep", default="", metavar="A,B", help="further columns for subjects.csv, of numbers or of words"
    )


def _add_writing(parser: ArgumentParser) -> None:
    write = parser.add_argument_group("writing")
    write.add_argument("--dry-run", action="store_true", help="show what would be imported and write nothing")
    how = write.add_mutually_exclusive_group()
    how.add_argument("--copy", action="store_true", help="copy the images")
    how.add_argument("--link", action="store_true", help="link to the images (default)")
    write.add_argument("--with-masks", action="store_true", help="write foreground masks, for nnU-Net's own planning")
    write.add_argument("--overwrite", action="store_true", help="replace a dataset of this name")
    add_processes_argument(write)


def request_of(arguments: Namespace) -> Request:
    """What parsed arguments ask for.

    Raises:
        SettingsError: they do not go together.
    """
    if arguments.number is None or arguments.name is None:
        raise SettingsError("give a number and a name for the dataset, e.g. adnext_import 101 AD --bids ROOT")
    return Request(
        number=arguments.number,
        name=arguments.name,
        source=_source_of(arguments),
        target=_target_of(arguments),
        where=tuple(arguments.where),
        session=arguments.session,
        missing_channel=arguments.missing_channel,
        coregister=arguments.coregister,
        keep=names_in(arguments.keep),
        skip_unlabelled=arguments.skip_unlabelled,
        exclude=arguments.exclude,
        extra_ids=arguments.extra_ids,
        accept=tuple(arguments.accept),
        copy=arguments.copy,
        with_masks=arguments.with_masks,
        overwrite=arguments.overwrite,
        dry_run=arguments.dry_run,
        processes=arguments.processes,
    )


def _source_of(arguments: Namespace) -> SourceChoice:
    return SourceChoice(
        table=arguments.table,
        bids=arguments.bids,
        caps=arguments.caps,
        loni=arguments.loni,
        images=arguments.images,
        image_pattern=arguments.image_pattern,
        suffix=arguments.suffix,
        derivative=arguments.derivative,
        entities=tuple(arguments.entity),
        caps_pipeline=arguments.caps_pipeline,
        clinical=tuple(arguments.clinical),
        max_days=arguments.max_days,
        missing=tuple(arguments.missing),
        date_order=arguments.date_format,
        covariate_map=tuple(tuple(group) for group in arguments.covariate_map),
        columns={role: getattr(arguments, f"{role}_column") for role in COLUMN_ROLES},
        channels=tuple(arguments.channel),
    )


def _target_of(arguments: Namespace) -> TargetChoice:
    return TargetChoice(
        target=arguments.target,
        from_cdr=arguments.from_cdr,
        target_bins=None if arguments.target_bins is None else tuple(arguments.target_bins),
        regress=arguments.regress,
        unlabelled=arguments.unlabelled,
        label_map=tuple(arguments.label_map or ()),
        positive=arguments.positive,
    )
