"""`adnext_import`: a BIDS tree, a CAPS folder, a LONI download or a table of files becomes a raw nnU-Net dataset."""

import re
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.cli.command import command
from adnext_plugin.cli.import_options import build_parser, check_options, read_source, target_rule
from adnext_plugin.errors import PathsError, SettingsError
from adnext_plugin.paths import raw_dir

if TYPE_CHECKING:
    from adnext_plugin.importing.inclusion import Choice, Selection
    from adnext_plugin.importing.scans import Source
    from adnext_plugin.importing.targets import TargetRule
    from adnext_plugin.task import Task


@dataclass(frozen=True, kw_only=True)
class Request:
    """Where to write, and how; the source's options stay with the parser's result."""

    folder: Path
    name: str
    keep: tuple[str, ...]
    processes: int
    dry_run: bool


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    if arguments.guess is not None:
        from adnext_plugin.importing.guess import guess

        print(guess(arguments.guess))
        return 0
    request = _request(arguments)

    from adnext_plugin.importing.image_checks import check_images, doubts_of
    from adnext_plugin.importing.import_report import import_report, report_text
    from adnext_plugin.importing.inclusion import select_cases
    from adnext_plugin.importing.targets import resolve_column
    from adnext_plugin.importing.write_dataset import write_dataset

    rule, choice = target_rule(arguments), _choice(arguments, request)
    source = read_source(arguments)
    rule = None if rule is None else resolve_column(rule, source)
    selection = select_cases(source, rule, choice)
    checked = check_images(selection.cases, processes=request.processes, accepted=arguments.accept)
    report = import_report(source, selection, doubts_of(selection.cases, checked, arguments.accept))
    print(report_text(report))
    if request.dry_run:
        print(f"dry run: nothing was written; {request.folder} is where it would go")
        return 0
    write_dataset(
        request.folder,
        _task(request, source, selection, rule),
        selection.cases,
        checked,
        report,
        copy=arguments.copy,
        with_masks=arguments.with_masks,
        overwrite=arguments.overwrite,
    )
    print(f"{len(selection.cases)} cases are in {request.folder}")
    return 0


def _request(arguments: Namespace) -> Request:
    if arguments.number is None or arguments.name is None:
        raise SettingsError("give a number and a name for the dataset, e.g. adnext_import 101 AD --bids ROOT")
    if not 1 <= arguments.number <= 999:
        raise SettingsError(f"the dataset number must be 1 to 999, got {arguments.number}")
    if not re.fullmatch(r"[A-Za-z0-9]+", arguments.name):
        raise SettingsError(f"the dataset name may have letters and digits only, got {arguments.name!r}")
    check_options(arguments)
    folder = raw_dir() / f"Dataset{arguments.number:03d}_{arguments.name}"
    others = [path for path in folder.parent.glob(f"Dataset{arguments.number:03d}_*") if path != folder]
    if others:
        raise PathsError(f"number {arguments.number} belongs to {others[0].name} already; choose another")
    if folder.exists() and not (arguments.overwrite or arguments.dry_run):
        raise PathsError(f"{folder} exists; choose another number or name, or give --overwrite")
    return Request(
        folder=folder,
        name=arguments.name,
        keep=tuple(column.strip() for column in arguments.keep.split(",") if column.strip()),
        processes=max(1, arguments.processes),
        dry_run=arguments.dry_run,
    )


def _choice(arguments: Namespace, request: Request) -> "Choice":
    from adnext_plugin.importing.inclusion import Choice
    from adnext_plugin.importing.people.identities import read_same_people
    from adnext_plugin.importing.tables.cells import Condition

    return Choice(
        conditions=[Condition.parse(text) for text in arguments.where],
        session=arguments.session,
        keep=request.keep,
        skip_unlabelled=arguments.skip_unlabelled,
        same_people={} if arguments.extra_ids is None else read_same_people(arguments.extra_ids),
    )


def _task(request: Request, source: "Source", selection: "Selection", rule: "TargetRule | None") -> "Task":
    from adnext_plugin.importing.tables.kinds import COVARIATES
    from adnext_plugin.task import Task

    if rule is None:
        return Task(name=request.name, kind="unlabelled")
    derived = [role for role in COVARIATES if source.columns.get(role) == rule.column]
    if rule.column in request.keep:
        derived.append(rule.column)
    return Task(
        name=request.name,
        kind="regression" if rule.is_number else "classification",
        target=derived[0] if rule.is_number and derived else _target_name(rule, selection),
        derived_from=tuple(derived),
        classes=selection.classes,
    )


def _target_name(rule: "TargetRule", selection: "Selection") -> str:
    if rule.is_cdr:
        return "diagnosis"
    taken = {"case_id", "subject_id", "session_id", "image_sha256", *selection.cases[0].covariates}
    return f"{rule.column}_class" if rule.bins or rule.column in taken else rule.column
