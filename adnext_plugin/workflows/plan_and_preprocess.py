"""Fingerprint, plans, network inputs and folds of a raw dataset."""

import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.environment import cpu_threads, usable_cpus
from adnext_plugin.errors import SettingsError
from adnext_plugin.files import naming_what_fills_the_disk
from adnext_plugin.locks import one_at_a_time
from adnext_plugin.names import require_file_name
from adnext_plugin.paths import (
    BRAIN_MASKS,
    CONFIGURATION,
    DATASET_FILE,
    PLANS_NAME,
    dataset_folder_name,
    plans_file,
    preprocessed_dir,
    raw_dir,
    results_dir,
)
from adnext_plugin.workflows.common import Tell, choose_device, require_processes, trains_on_gpu

if TYPE_CHECKING:
    import pandas as pd

    from adnext_plugin.dask_cluster import Cluster
    from adnext_plugin.plan import Plan, PreprocessingSettings
    from adnext_plugin.splits.drawing import Scheme
    from adnext_plugin.task import Task

PROCESSES = "processes"

BOX_STEP = "mni_box"


@dataclass(frozen=True, kw_only=True)
class Request:
    """A raw dataset, by number or name, and how to prepare it.

    `preset`: a shipped preset's name, a JSON file, or a plan. `preprocessing`: fields of `PreprocessingSettings` to use
    instead of the preset's. `only_plan`: prepare no scans. `splits`: draw folds. `scheme`: how; None for four folds, or
    those that are there. `device`: cpu or cuda, on which brains are extracted; None for a GPU where there is one.
    """

    dataset: str
    preset: "str | Plan" = "default"
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    plans: str = PLANS_NAME
    processes: int = field(default_factory=lambda: min(8, usable_cpus()))
    only_plan: bool = False
    splits: bool = True
    scheme: "Scheme | None" = None
    device: str | None = None

    def __post_init__(self) -> None:
        require_processes(self.processes)
        require_file_name(self.plans, "the name of plans (-p)")
        if self.scheme is not None and not self.splits:
            raise SettingsError("--no-splits draws no folds; leave out what says how to draw them")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What was written, and what became of the scans.

    `prepared_folder` holds the prepared cases; None after planning alone. `prepared` and `reused` are ids of cases, the
    latter finished before. `failed` says of others why.
    """

    folder: Path
    plans_file: Path
    folds: int
    scans: int
    prepared_folder: Path | None = None
    prepared: tuple[str, ...] = ()
    reused: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def problems(self) -> tuple[str, ...]:
        """A line for each case that failed, and one on all of them; nothing where all is well."""
        if not self.failed:
            return ()
        each = [f"{case}: {message}" for case, message in sorted(self.failed.items())]
        return (*each, f"{len(each)} of {self.scans} cases failed; repair or exclude them and run this again")


def open_executor(name: str, processes: int) -> "AbstractContextManager[Cluster | None]":
    """What cases are prepared on: None for processes of this machine, or a Dask cluster.

    Args:
        name: "processes"; "dask", a cluster of this machine; "dask://HOST:PORT", that of a scheduler.
        processes: how many cases at once on this machine.

    Raises:
        SettingsError: there is no such thing, or it does not answer.
    """
    if name == PROCESSES:
        return nullcontext()
    from adnext_plugin.dask_cluster import open_cluster

    return open_cluster(name, processes)


def require_dataset(dataset: str) -> str:
    """Full name of a raw dataset, given by number or name.

    Raises:
        PathsError: there is none, or a folder of nnU-Net is not named by its environment variable.
    """
    preprocessed_dir(), results_dir()  # nnU-Net needs both to be set, and its own message is a traceback
    return dataset_folder_name(dataset, [raw_dir()])


def plan_and_preprocess(request: Request, tell: Tell, cluster: "Cluster | None" = None) -> Result:
    """Plan a dataset, prepare its scans and draw its folds; scans that fail are part of the result.

    While another process does the same to the same dataset, this one waits.

    Raises:
        PathsError: there is no such dataset, or the disk is full.
        UnknownNameError: no such preset.
        SettingsError: a setting is unknown, impossible or needs what is not installed.
        SplitError: there are too few subjects for folds.
    """
    from adnext_plugin.subjects import read_dataset

    dataset = require_dataset(request.dataset)
    # what is wrong with either is said before anything is written
    plan = _resolved_plan(request)
    read_dataset(raw_dir() / dataset)
    folder = preprocessed_dir() / dataset
    with naming_what_fills_the_disk(folder):
        folder.mkdir(parents=True, exist_ok=True)
    waiting = f"another command is preparing {dataset}; this one goes on when that has ended"
    with one_at_a_time(folder, lambda: tell(waiting)):
        return _plan_and_preprocess(dataset, plan, request, tell, cluster)


def _resolved_plan(request: Request) -> "Plan":
    """The plan, with all that its further steps depend on."""
    from adnext_plugin.plans.presets import change_preprocessing, load_preset
    from adnext_plugin.preprocessing.chain import resolved

    if isinstance(request.preset, str):
        plan = load_preset(request.preset, dict(request.preprocessing))
    else:
        plan = change_preprocessing(request.preset, request.preprocessing)
    return replace(plan, preprocessing=resolved(plan.preprocessing))


def _plan_and_preprocess(dataset: str, plan: "Plan", request: Request, tell: Tell, cluster: "Cluster | None") -> Result:
    from adnext_plugin.splits.folds import ensure_splits
    from adnext_plugin.subjects import read_dataset

    # absolute, as workers of a cluster run elsewhere
    raw, folder = raw_dir().absolute() / dataset, preprocessed_dir().absolute() / dataset
    # workers of a cluster share a GPU only where that is asked for
    device = "cpu" if cluster is not None and request.device is None else choose_device(request.device)
    task, subjects = read_dataset(raw)
    names = _tell_channels(raw / DATASET_FILE, plan, tell)

    from adnext_plugin.channel_files import channel_files
    from adnext_plugin.plans.fingerprint import ADNeXtFingerprintExtractor
    from adnext_plugin.plans.planner import ADNeXtPlanner

    ADNeXtFingerprintExtractor(dataset, request.processes, cluster=cluster).run()
    plans = ADNeXtPlanner(dataset, plan, request.plans).plan_experiment()
    path = plans_file(folder, request.plans)
    tell(f"Plans are in {path}")
    splits: list[dict] = []
    if request.splits:
        splits = ensure_splits(folder, subjects, task, request.scheme)
        tell(f"{len(splits)} folds of subjects are in {folder / 'splits_final.json'}")
        _tell_absent_classes(subjects, task, splits, tell)
        _tell_power(subjects, task, tell)
        _tell_advice(subjects, task, splits, plan, request.device, tell)
    scans = sorted(subjects["case_id"])
    planned: dict[str, Any] = {
        "folder": folder,
        "plans_file": path,
        "folds": len(splits),
        "scans": len(set(scans)),
    }
    if request.only_plan:
        return Result(**planned)
    images = {case: channel_files(raw / "imagesTr", case, len(names)) for case in scans}
    prepared_folder = folder / plans["configurations"][CONFIGURATION]["data_identifier"]
    where = {"processes": request.processes, "cluster": cluster}
    first = {case: files[0] for case, files in images.items()}
    masks, without_mask = _brain_masks(first, subjects, folder, plan.preprocessing, tell, device=device, **where)
    prepared = _prepare(images, masks, without_mask, prepared_folder, plan.preprocessing, tell, **where)
    return Result(**planned, prepared_folder=prepared_folder, **prepared)


def _tell_absent_classes(
    subjects: "pd.DataFrame", task: "Task", splits: Sequence[Mapping[str, Any]], tell: Tell
) -> None:
    """Which folds hold nobody of a class out, as where a group is left out that has patients alone."""
    for number, fold in enumerate(splits):
        held_out = set(subjects.loc[subjects["case_id"].isin(fold["val"]), task.target]) if task.classes else set()
        absent = [name for name in task.classes if name not in held_out]
        if absent:
            tell(f"warning: fold {number} holds out nobody of {', '.join(absent)}, so that it has no AUC of its own")


def _tell_channels(path: Path, plan: "Plan", tell: Tell) -> tuple[str, ...]:
    """Say what networks will be shown, if that is more than the scan; return what images of a case are called.

    Raises:
        SettingsError: a step cannot be taken with several images.
    """
    from adnext_plugin.preprocessing.chain import channels_of
    from adnext_plugin.task import image_names_in

    names = image_names_in(path)
    channels = channels_of(plan.preprocessing, names)
    if len(channels) > 1:
        tell(f"Networks are shown {len(channels)} channels: {', '.join(channels)}")
    if len(names) > 1:
        tell(f"The first, {names[0]}, shows where the brain is")
    return names


def _tell_power(subjects: "pd.DataFrame", task: "Task", tell: Tell) -> None:
    """What the cohort can show at all; for two classes, whose areas have a known variance."""
    if len(task.classes) != 2:
        return
    from adnext_plugin.evaluation.uncertainty.detectable import cohort_in_words

    counts = subjects.groupby(task.target)["subject_id"].nunique()
    negatives, positives = (int(counts.get(name, 0)) for name in task.classes)
    who = f"{negatives} {task.classes[0]} and {positives} {task.positive}, the positive class"
    tell(f"{who}. {cohort_in_words(positives, negatives)}")


def _tell_advice(
    subjects: "pd.DataFrame",
    task: "Task",
    splits: Sequence[Mapping[str, Any]],
    plan: "Plan",
    device: str | None,
    tell: Tell,
) -> None:
    """Which trainer to begin with on the device that was asked for; nothing for scans without a target."""
    if task.kind == "unlabelled":
        return
    from adnext_plugin.plans.advice import SMALL, advice

    training = subjects[subjects["case_id"].isin(splits[0]["train"])]["subject_id"].nunique()
    threads = None if trains_on_gpu(device) else cpu_threads()
    tell(advice(training, math.prod(plan.preprocessing.input_size_voxels), SMALL.epochs, len(splits), threads))


def _brain_masks(
    images: dict[str, Path],
    subjects: "pd.DataFrame",
    folder: Path,
    settings: "PreprocessingSettings",
    tell: Tell,
    **where: Any,
) -> tuple[dict[str, Path], dict[str, str]]:
    """Masks of the scans that need one, and the cases for which none could be had."""
    method = settings.brain_extraction
    if method == "none":
        return {}, {}
    if method == "mask_files":
        from adnext_plugin.preprocessing.brains.mask_files import find_masks

        assert settings.brain_mask_files is not None  # the settings need both or neither
        masks, failed = find_masks(settings.brain_mask_files, subjects)
        tell(f"{len(masks)} brain masks found by {settings.brain_mask_files}")
        return masks, failed

    from adnext_plugin.preprocessing.brains.brain_masks import extract_masks

    report = extract_masks(images, folder / BRAIN_MASKS / method, settings, **where)
    for reason, cases in report.left_alone.items():
        tell(f"{len(cases)} scans are {reason}: no brain is extracted, for example from {cases[0]}")
    if report.masks:
        new = len(images) - report.reused - len(report.failed)
        tell(f"{len(report.masks)} brains extracted by {method}, in {folder / BRAIN_MASKS / method} ({new} scans new)")
    return report.masks, report.failed


def _prepare(
    images: dict[str, tuple[Path, ...]],
    masks: dict[str, Path],
    without_mask: dict[str, str],
    folder: Path,
    settings: "PreprocessingSettings",
    tell: Tell,
    **where: Any,
) -> dict[str, Any]:
    """Prepare the cases that have a mask or need none; the fields of the result that say what became of them."""
    from adnext_plugin.preprocessing.preprocessor import CaseJob, preprocess

    jobs = [
        CaseJob(case=case, image=image, further=tuple(others), mask=masks.get(case), folder=folder, settings=settings)
        for case, (image, *others) in images.items()
        if case not in without_mask
    ]
    report = preprocess(jobs, folder, **where)
    tell(f"{len(report.prepared)} cases prepared, {len(report.reused)} were finished already, in {folder}")
    if report.damaged:
        tell(f"{len(report.damaged)} of them had been damaged on disk since, for example {report.damaged[0]}")
    if report.without_hash:
        tell(
            f"{len(report.without_hash)} finished cases are of an earlier version, which noted no hashes of them, so "
            f"that damage may go unnoticed; to have hashes, delete {folder} and run this again"
        )
    if report.cut_off and not any(step.name == BOX_STEP for step in settings.steps):  # which is asked to cut
        worst = max(report.cut_off, key=lambda case: report.cut_off[case])
        tell(
            f"warning: {len(report.cut_off)} brains are larger than {list(settings.input_size_voxels)} voxels; {worst} "
            f"loses {report.cut_off[worst]:.1%} of its voxels. Use a larger --input-size, or --fit resize"
        )
    return {"prepared": report.prepared, "reused": report.reused, "failed": {**without_mask, **report.failed}}
