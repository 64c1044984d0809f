"""A BIDS tree, a CAPS folder, a LONI download or a table of files becomes a raw nnU-Net dataset."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.choices import MissingChannel, SessionChoice
from adnext_plugin.environment import usable_cpus
from adnext_plugin.errors import PathsError, SettingsError
from adnext_plugin.files import refuse_existing
from adnext_plugin.paths import raw_dir
from adnext_plugin.workflows.common import Tell
from adnext_plugin.workflows.import_source import (
    SourceChoice,
    TargetChoice,
    check_choices,
    read_source,
    target_rule,
)

if TYPE_CHECKING:
    from adnext_plugin.importing.inclusion import Choice, Selection
    from adnext_plugin.importing.scans import Source
    from adnext_plugin.importing.targets import TargetRule
    from adnext_plugin.task import Task


@dataclass(frozen=True, kw_only=True)
class Request:
    """Number and name of the dataset, what it is made of, and how it is written.

    `where`: conditions that rows must meet, such as "Age>=60". `session`: of each subject all scans, the first in time,
    or the nearest to a clinical visit. `missing_channel`: what becomes of scans that lack an image. `coregister`: move
    the further images of a session to the first one's head. `keep`: further columns of numbers for `subjects.csv`.
    `skip_unlabelled`: leave scans without a label out. `exclude`: a list of people or sessions to leave out,
    as `quality.html` saves it. `extra_ids`: a file with rows of ids that are one person.
    `accept`: doubts about headers that a person has looked into. `copy`: copy images instead of linking to them.
    `with_masks`: write foreground masks, for nnU-Net's own planning. `dry_run`: write nothing.
    """

    number: int
    name: str
    source: SourceChoice
    target: TargetChoice
    where: tuple[str, ...] = ()
    session: SessionChoice = "all"
    missing_channel: MissingChannel = "refuse"
    coregister: bool = False
    keep: tuple[str, ...] = ()
    skip_unlabelled: bool = False
    exclude: Path | None = None
    extra_ids: Path | None = None
    accept: tuple[str, ...] = ()
    copy: bool = False
    with_masks: bool = False
    overwrite: bool = False
    dry_run: bool = False
    processes: int = field(default_factory=lambda: min(8, usable_cpus()))

    def __post_init__(self) -> None:
        if not 1 <= self.number <= 999:
            raise SettingsError(f"the dataset number must be 1 to 999, got {self.number}")
        if not re.fullmatch(r"[A-Za-z0-9]+", self.name):
            raise SettingsError(f"the dataset name may have letters and digits only, got {self.name!r}")
        check_choices(self.source, self.target)
        if len(self.source.channels) < 2 and (self.coregister or self.missing_channel != "refuse"):
            raise SettingsError("--coregister and --missing-channel are of several images; name each with --channel")

    @property
    def folder(self) -> Path:
        """Where the dataset goes."""
        return raw_dir() / f"Dataset{self.number:03d}_{self.name}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """The dataset, its task, how many scans it has, and what `import_report.json` says of the others."""

    folder: Path
    task: "Task"
    cases: int
    report: dict[str, Any]
    is_written: bool


def import_dataset(request: Request, tell: Tell) -> Result:
    """Read a source, choose its scans, check every image, and write the dataset.

    Raises:
        PathsError: the number or the folder is taken, or a file is missing.
        TableError: a table is damaged, or says what cannot be.
        ImageError: an image is unusable, or cannot be moved to the first of its case.
        SettingsError: a choice cannot be read.
    """
    folder = _free_folder(request)

    from adnext_plugin.importing.image_checks import check_images, doubts_of
    from adnext_plugin.importing.import_report import import_report, report_text
    from adnext_plugin.importing.inclusion import select_cases
    from adnext_plugin.importing.targets import resolve_column
    from adnext_plugin.importing.write_dataset import write_dataset
    from adnext_plugin.workflows.coregistration import coregister_cases, write_coregistration

    rule, choice = target_rule(request.target), _choice(request)
    source = read_source(request.source, by_time=request.session == "closest")
    rule = None if rule is None else resolve_column(rule, source)
    selection = select_cases(source, rule, choice)
    checked = check_images(
        selection.cases,
        processes=max(1, request.processes),
        accepted=request.accept,
        on_one_grid=not request.coregister,
    )
    report = import_report(source, selection, doubts_of(selection.cases, checked, request.accept))
    tell(report_text(report))
    task = _task(request, source, selection, rule)
    if not request.dry_run:
        cases, moved = selection.cases, None
        if request.coregister:
            cases, moved = coregister_cases(selection.cases, source.channels, max(1, request.processes), tell)
        write_dataset(
            folder,
            task,
            cases,
            checked,
            report,
            copy=request.copy,
            with_masks=request.with_masks,
            overwrite=request.overwrite,
            channels=source.channels,
        )
        if moved is not None:
            tell(f"How images were moved is in {write_coregistration(moved, folder)}: look at it")
        tell(f"{len(selection.cases)} cases are in {folder}")
    return Result(folder=folder, task=task, cases=len(selection.cases), report=report, is_written=not request.dry_run)


def _free_folder(request: Request) -> Path:
    folder = request.folder
    others = [path for path in folder.parent.glob(f"Dataset{request.number:03d}_*") if path != folder]
    if others:
        raise PathsError(f"number {request.number} belongs to {others[0].name} already; choose another")
    refuse_existing(folder, request.overwrite or request.dry_run, "choose another number or name")
    return folder


def _choice(request: Request) -> "Choice":
    from adnext_plugin.importing.exclusion import read_exclusions
    from adnext_plugin.importing.inclusion import Choice
    from adnext_plugin.importing.people.identities import read_same_people
    from adnext_plugin.importing.tables.cells import Condition

    return Choice(
        conditions=[Condition.parse(text) for text in request.where],
        session=request.session,
        missing_channel=request.missing_channel,
        keep=request.keep,
        skip_unlabelled=request.skip_unlabelled,
        same_people={} if request.extra_ids is None else read_same_people(request.extra_ids),
        exclusions=() if request.exclude is None else read_exclusions(request.exclude),
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
