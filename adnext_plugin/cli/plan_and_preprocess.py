"""`adnext_plan_and_preprocess`: fingerprint, plans, network inputs and folds of a raw dataset."""

import math
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.environment import cpu_threads, usable_cpus
from adnext_plugin.errors import SettingsError
from adnext_plugin.paths import (
    BRAIN_MASKS,
    CONFIGURATION,
    PLANS_NAME,
    dataset_folder_name,
    preprocessed_dir,
    raw_dir,
    results_dir,
)

if TYPE_CHECKING:
    from adnext_plugin.dask_cluster import Cluster

PROCESSES = "processes"


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for on the command line."""

    datasets: tuple[str, ...]
    preset: str
    preprocessing: dict[str, Any]
    plans: str
    processes: int
    executor: str
    only_plan: bool
    splits: bool


def build_parser() -> ArgumentParser:
    """The command's arguments: those of `nnUNetv2_plan_and_preprocess` that apply, and the plan's options."""
    parser = new_parser("adnext_plan_and_preprocess", "Plan a dataset, prepare its scans and draw its folds.")
    parser.add_argument("--dataset", "-d", nargs="+", required=True, help="dataset numbers or names")
    parser.add_argument("--preset", default="default", help="default, paper, hcp or a JSON file (default: default)")
    parser.add_argument("--fit", choices=["pad_crop", "resize"], help="keep true size, or stretch the brain's box")
    parser.add_argument("--interpolation", choices=["linear", "cubic"], help="default: linear")
    parser.add_argument("--input-size", type=int, nargs=3, metavar=("Z", "Y", "X"), help="network input, voxels")
    parser.add_argument("--spacing", type=float, nargs=3, metavar=("Z", "Y", "X"), help="voxel size, mm")
    parser.add_argument(
        "--brain-extraction",
        choices=["none", "deepbet", "hdbet", "mask_files"],
        help="for scans with a skull; those without are left alone (default: the preset's, deepbet)",
    )
    parser.add_argument("--brain-masks", metavar="WHERE", help="folder or pattern with {case_id} of your own masks")
    parser.add_argument("--hdbet-folds", type=int, metavar="N", help="networks of HD-BET to average (default: 5)")
    parser.add_argument("--no-hdbet-mirroring", action="store_true", help="8 times faster, a little less exact")
    parser.add_argument("--bias-correction", choices=["none", "n4"], help="default: none")
    parser.add_argument("--alignment", choices=["none", "rigid", "affine"], help="to MNI152 (default: none)")
    parser.add_argument("--plans", "-p", "-overwrite_plans_name", default=PLANS_NAME, help="name of the plans file")
    parser.add_argument("--processes", "-np", type=int, default=min(8, usable_cpus()), help="default: %(default)s")
    parser.add_argument(
        "--executor",
        default=PROCESSES,
        help="dask: a Dask cluster of -np processes; dask://HOST:PORT: the cluster of that scheduler "
        "(default: processes of this machine)",
    )
    parser.add_argument(
        "--configurations", "-c", nargs="+", default=[CONFIGURATION], help=f"only {CONFIGURATION} exists"
    )
    parser.add_argument("--no-splits", action="store_true", help="no folds: data for adnext_evaluate --external only")
    parser.add_argument("--no_pp", "--no-pp", action="store_true", help="stop after planning")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    request = _request(build_parser().parse_args(argv))
    with _executor(request) as cluster:
        outcomes = [_plan_and_preprocess(dataset, request, cluster) for dataset in request.datasets]
    return 0 if all(outcomes) else 2


def _request(arguments: Namespace) -> Request:
    if arguments.configurations != [CONFIGURATION]:
        raise SettingsError(f"-c {' '.join(arguments.configurations)}: the only configuration is {CONFIGURATION}")
    if arguments.processes < 1:
        raise SettingsError(f"-np must be at least 1, got {arguments.processes}")
    preprocessed_dir(), results_dir()  # nnU-Net needs both to be set, and its own message is a traceback
    given = {
        "fit": arguments.fit,
        "interpolation": arguments.interpolation,
        "input_size_voxels": arguments.input_size,
        "spacing_mm": arguments.spacing,
        "brain_extraction": arguments.brain_extraction or ("mask_files" if arguments.brain_masks else None),
        "brain_mask_files": arguments.brain_masks,
        "hdbet_folds": arguments.hdbet_folds,
        "hdbet_mirroring": False if arguments.no_hdbet_mirroring else None,
        "bias_correction": arguments.bias_correction,
        "alignment": arguments.alignment,
    }
    return Request(
        datasets=tuple(dataset_folder_name(dataset, [raw_dir()]) for dataset in arguments.dataset),
        preset=arguments.preset,
        preprocessing={name: value for name, value in given.items() if value is not None},
        plans=arguments.plans,
        processes=arguments.processes,
        executor=arguments.executor,
        only_plan=arguments.no_pp,
        splits=not arguments.no_splits,
    )


def _executor(request: Request) -> AbstractContextManager["Cluster | None"]:
    if request.executor == PROCESSES:
        return nullcontext()
    from adnext_plugin.dask_cluster import open_cluster

    return open_cluster(request.executor, request.processes)


def _plan_and_preprocess(dataset: str, request: Request, cluster: "Cluster | None") -> bool:
    from adnext_plugin.plans.presets import load_preset
    from adnext_plugin.preprocessing.chain import resolved
    from adnext_plugin.splits.folds import ensure_splits
    from adnext_plugin.subjects import read_dataset

    plan = load_preset(request.preset, request.preprocessing)
    # a plan says all that its further steps depend on, and what cannot be had is said before any work
    plan = replace(plan, preprocessing=resolved(plan.preprocessing))
    # absolute, as workers of a cluster run elsewhere
    raw, folder = raw_dir().absolute() / dataset, preprocessed_dir().absolute() / dataset
    task, subjects = read_dataset(raw)

    from adnext_plugin.plans.fingerprint import ADNeXtFingerprintExtractor
    from adnext_plugin.plans.planner import ADNeXtPlanner

    ADNeXtFingerprintExtractor(dataset, request.processes, cluster=cluster).run()
    plans = ADNeXtPlanner(dataset, plan, request.plans).plan_experiment()
    print(f"Plans are in {folder / request.plans}.json")
    if request.splits:
        splits = ensure_splits(folder, subjects, task)
        print(f"{len(splits)} folds of subjects are in {folder / 'splits_final.json'}")
        _print_power(subjects, task)
        _print_advice(subjects, task, splits, plan)
    if request.only_plan:
        return True
    identifier = plans["configurations"][CONFIGURATION]["data_identifier"]
    images = {case: raw / "imagesTr" / f"{case}_0000.nii.gz" for case in sorted(subjects["case_id"])}
    where = {"processes": request.processes, "cluster": cluster}
    masks, failed = _brain_masks(images, subjects, folder, plan.preprocessing, **where)
    return _preprocess(images, masks, failed, folder / identifier, plan.preprocessing, **where)


def _print_power(subjects: Any, task: Any) -> None:
    """What the cohort can show at all; for two classes, whose areas have a known variance."""
    if len(task.classes) != 2:
        return
    from adnext_plugin.evaluation.uncertainty.detectable import cohort_in_words

    counts = subjects.groupby(task.target)["subject_id"].nunique()
    negatives, positives = (int(counts.get(name, 0)) for name in task.classes)
    print(f"{negatives} {task.classes[0]} and {positives} {task.classes[1]}. {cohort_in_words(positives, negatives)}")


def _print_advice(subjects: Any, task: Any, splits: list[Any], plan: Any) -> None:
    """Which trainer to begin with; nothing for scans without a target."""
    if task.kind == "unlabelled":
        return
    import torch

    from adnext_plugin.plans.advice import SMALL, advice

    training = subjects[subjects["case_id"].isin(splits[0]["train"])]["subject_id"].nunique()
    threads = None if torch.cuda.is_available() else cpu_threads()
    print(advice(training, math.prod(plan.preprocessing.input_size_voxels), SMALL.epochs, len(splits), threads))


def _brain_masks(
    images: dict[str, Path], subjects: Any, folder: Path, settings: Any, **where: Any
) -> tuple[dict[str, Path], dict[str, str]]:
    """Masks of the scans that need one, and the cases for which none could be had."""
    method = settings.brain_extraction
    if method == "none":
        return {}, {}
    if method == "mask_files":
        from adnext_plugin.preprocessing.brains.mask_files import find_masks

        masks, failed = find_masks(settings.brain_mask_files, subjects)
        print(f"{len(masks)} brain masks found by {settings.brain_mask_files}")
        return masks, failed

    from adnext_plugin.preprocessing.brains.brain_masks import extract_masks

    report = extract_masks(images, folder / BRAIN_MASKS / method, settings, **where)
    for reason, cases in report.left_alone.items():
        print(f"{len(cases)} scans are {reason}: no brain is extracted, for example from {cases[0]}")
    if report.masks:
        new = len(images) - report.reused - len(report.failed)
        print(f"{len(report.masks)} brains extracted by {method}, in {folder / BRAIN_MASKS / method} ({new} scans new)")
    return report.masks, report.failed


def _preprocess(
    images: dict[str, Path],
    masks: dict[str, Path],
    without_mask: dict[str, str],
    folder: Path,
    settings: Any,
    **where: Any,
) -> bool:
    from adnext_plugin.preprocessing.preprocessor import CaseJob, preprocess

    jobs = [
        CaseJob(case=case, image=image, mask=masks.get(case), folder=folder, settings=settings)
        for case, image in images.items()
        if case not in without_mask
    ]
    report = preprocess(jobs, folder, **where)
    print(f"{len(report.prepared)} cases prepared, {len(report.reused)} were finished already, in {folder}")
    if report.cut_off:
        worst = max(report.cut_off, key=report.cut_off.get)
        print(
            f"warning: {len(report.cut_off)} brains are larger than {list(settings.input_size_voxels)} voxels; {worst} "
            f"loses {report.cut_off[worst]:.1%} of its voxels. Use a larger --input-size, or --fit resize"
        )
    failed = {**without_mask, **report.failed}
    for case, message in sorted(failed.items()):
        print(f"error: {case}: {message}", file=sys.stderr)
    if failed:
        print(
            f"error: {len(failed)} of {len(images)} cases failed; repair or exclude them and run this again",
            file=sys.stderr,
        )
    return not failed
