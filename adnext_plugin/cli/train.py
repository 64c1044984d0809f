"""`adnext_train`: nnU-Net's training command with our trainers, whole cross-validations and checked settings."""

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.runs import DEFAULT_TRAINER, add_device_argument, add_plans_argument, add_trainer_argument
from adnext_plugin.environment import environment_with, settings_from_environment, trainer_search_path
from adnext_plugin.errors import PathsError, SettingsError, WeightsError
from adnext_plugin.files import read_json, require_file
from adnext_plugin.paths import (
    PERMUTED_FOLDER,
    SEED_FOLDER,
    dataset_folder_name,
    file_of_fold,
    preprocessed_dir,
    raw_dir,
    results_dir,
    run_name,
)
from adnext_plugin.workflows.common import choose_device

if TYPE_CHECKING:
    import pandas as pd

    from adnext_plugin.trainers.fold_data import FoldData


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for on the command line; `folds` are numbers, or "all"."""

    dataset: str
    configuration: str
    folds: tuple[int | str, ...]
    is_cross_validation: bool
    trainer: str
    plans: str
    device: str
    num_gpus: int
    resume: bool
    only_validate: bool
    validate_best: bool
    disable_checkpointing: bool
    overrides: dict[str, Any]
    seeds: int = 1


def build_parser() -> ArgumentParser:
    """The command's arguments: those of `nnUNetv2_train`, and a few of our own."""
    parser = new_parser("adnext_train", "Train one fold, or with 'cv' every fold in turn and then evaluate.")
    add_arguments(parser, trainer=DEFAULT_TRAINER)
    parser.add_argument(
        "--protocol",
        choices=["honest", "paper"],
        help="'paper' chooses the epoch on the held-out fold, as published; results are stamped OPTIMISTIC",
    )
    parser.add_argument(
        "--permute",
        type=int,
        metavar="SEED",
        help="deal all labels out anew among subjects, so that there is nothing to learn; results go to a folder "
        "permuted_SEED of nnUNet_results and are stamped PERMUTED",
    )
    parser.add_argument(
        "--seeds",
        type=int,
        metavar="N",
        help="with cv: repeat the whole cross-validation under N seeds in a row, from --seed on; further ones go to "
        "folders seed_SEED of nnUNet_results, and adnext_evaluate reports their spread",
    )
    parser.add_argument(
        "--inflation-meter",
        action="store_true",
        default=None,
        help="also predict the held-out fold after every epoch, so that adnext_evaluate can show by how much the "
        "paper's protocol would overstate this very run; nothing else changes",
    )
    parser.add_argument(
        "--skip-audit",
        metavar="REASON",
        help="do not look for people or images on both sides of a fold; results are stamped with the reason",
    )
    return parser


def add_arguments(parser: ArgumentParser, *, trainer: str, fold: str | None = None) -> None:
    """Add what all training commands take; with a default for the fold, it may be left out."""
    parser.add_argument("dataset", help="dataset number or name, e.g. 101")
    parser.add_argument("configuration", help="configuration of the plans, e.g. 3d_fullres")
    parser.add_argument(
        "fold",
        nargs="?" if fold else None,
        default=fold,
        help="fold number; 'all' to train on every case; 'cv' for every fold in turn",
    )
    add_trainer_argument(parser, trainer)
    add_plans_argument(parser)
    add_device_argument(parser)
    parser.add_argument("--num-gpus", "-num_gpus", type=int, default=1, help="GPUs to train on (default: 1)")
    parser.add_argument(
        "--pretrained-weights",
        "-pretrained_weights",
        help="checkpoint whose encoder to start from; '{fold}' in its name stands for the fold",
    )
    parser.add_argument("--continue", "--c", dest="resume", action="store_true", help="go on with an interrupted run")
    parser.add_argument("--val", action="store_true", help="only predict the held-out fold; training must be finished")
    parser.add_argument(
        "--val_best", "--val-best", action="store_true", help="predict with checkpoint_best in any case"
    )
    parser.add_argument("--disable_checkpointing", "--disable-checkpointing", action="store_true", help="save nothing")
    parser.add_argument("--npz", action="store_true", help="accepted; probabilities are always saved")
    parser.add_argument("--seed", type=int, help="of weights, order and augmentation")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a setting of the trainer, e.g. --set epochs=50 --set learning_rate=1e-4",
    )


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    return run(build_parser().parse_args(argv))


def run(arguments: Namespace) -> int:
    """Train what parsed arguments ask for."""
    request = _request(arguments)
    variables = {"nnUNet_extTrainer": trainer_search_path(), "ADNEXT_SETTINGS": json.dumps(request.overrides)}
    for path in _first_weights(request):
        require_file(path, "check -pretrained_weights")
    with environment_with(**variables, nnUNet_results=str(_results(request))):
        trainer = find_trainer(request.trainer)
        is_ours, is_classifier = _check(trainer, request.overrides)
        if is_classifier and request.folds != ("all",):
            _audit(request)
        if request.seeds > 1 and not is_ours:
            raise SettingsError(f"--seeds: {request.trainer} takes no seed; use one of AD-NeXt's trainers")
        _train_folds(request, is_ours)
        for seed, variables in _further_seeds(request):
            print(f"The same cross-validation with seed {seed}")
            with environment_with(**variables):
                _train_folds(request, is_ours)
        if request.is_cross_validation and is_classifier:
            from adnext_plugin.cli import evaluate

            arguments = [request.dataset, "-tr", request.trainer, "-p", request.plans, "-c", request.configuration]
            return evaluate.main(arguments)
    return 0


def _request(arguments: Namespace) -> Request:
    if arguments.resume and arguments.val:
        raise SettingsError("--c continues a training and --val skips it; give one of them")
    seeds = getattr(arguments, "seeds", None)
    if seeds is not None and (seeds < 1 or arguments.fold != "cv"):
        raise SettingsError(f"--seeds {seeds}: give a number from 1 on, and 'cv' instead of a fold")
    raw_dir(), results_dir()  # nnU-Net needs both to be set, and its own message is a traceback
    dataset = dataset_folder_name(arguments.dataset, [preprocessed_dir()])
    plans_file = preprocessed_dir() / dataset / f"{arguments.plans}.json"
    require_file(plans_file, f"make it with adnext_plan_and_preprocess -d {arguments.dataset}")
    _check_configuration(read_json(plans_file), arguments)
    return Request(
        dataset=dataset,
        configuration=arguments.configuration,
        folds=_folds(arguments.fold, dataset),
        is_cross_validation=arguments.fold == "cv",
        trainer=arguments.trainer,
        plans=arguments.plans,
        device=choose_device(arguments.device),
        num_gpus=arguments.num_gpus,
        resume=arguments.resume,
        only_validate=arguments.val,
        validate_best=arguments.val_best,
        disable_checkpointing=arguments.disable_checkpointing,
        overrides=_overrides(arguments),
        seeds=seeds or 1,
    )


def _overrides(arguments: Namespace) -> dict[str, Any]:
    overrides = settings_from_environment()
    for item in arguments.set:
        key, separator, value = item.partition("=")
        if not separator:
            raise SettingsError(f"--set {item}: write it as KEY=VALUE, e.g. --set epochs=50")
        try:
            overrides[key] = json.loads(value)
        except json.JSONDecodeError:
            overrides[key] = value
    for key, option in (
        ("protocol", "protocol"),
        ("seed", "seed"),
        ("permute_labels", "permute"),
        ("skip_audit", "skip_audit"),
        ("inflation_meter", "inflation_meter"),
    ):
        if getattr(arguments, option, None) is not None:
            overrides[key] = getattr(arguments, option)
    if arguments.pretrained_weights:
        if arguments.resume:
            raise WeightsError("--c goes on with its own weights; give -pretrained_weights only at the start of a run")
        overrides["pretrained_weights"] = str(Path(arguments.pretrained_weights).absolute())
    return overrides


def _folds(fold: str, dataset: str) -> tuple[int | str, ...]:
    if fold == "all":
        return ("all",)
    from adnext_plugin.splits.folds import ensure_splits
    from adnext_plugin.subjects import read_dataset

    folder = preprocessed_dir() / dataset
    task, subjects = read_dataset(folder)
    splits = ensure_splits(folder, subjects, task)
    if fold == "cv":
        return tuple(range(len(splits)))
    if not fold.isdigit() or int(fold) >= len(splits):
        raise SettingsError(f"there is no fold {fold}; give 0 to {len(splits) - 1}, 'all' or 'cv'")
    return (int(fold),)


def _check_configuration(plans: dict, arguments: Namespace) -> None:
    from adnext_plugin.errors import nearest_names

    known = plans["configurations"]
    if arguments.configuration not in known:
        raise SettingsError(
            f"plans {arguments.plans} have no configuration {arguments.configuration!r}"
            f"{nearest_names(arguments.configuration, known)}"
        )


def find_trainer(name: str) -> type:
    """A trainer by name: ours, nnU-Net's, or one in a folder of `nnUNet_extTrainer`."""
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    from adnext_plugin.registry import TRAINERS, load, registered_names

    if name not in registered_names(TRAINERS):
        try:
            return recursive_find_trainer_class_by_name(name)
        except RuntimeError:
            pass  # the lookup below says which name comes nearest
    return load(TRAINERS, name)


def _check(trainer: type, overrides: dict[str, Any]) -> tuple[bool, bool]:
    """Whether the trainer is one of ours, and whether it is one for a labelled task; its settings are checked."""
    from adnext_plugin.records import with_overrides
    from adnext_plugin.trainers.labelled import ADNeXtTrainer
    from adnext_plugin.trainers.lifecycle import RunTrainer

    is_ours = issubclass(trainer, RunTrainer)
    if is_ours:
        with_overrides(trainer.settings, overrides, "--set")
    return is_ours, issubclass(trainer, ADNeXtTrainer)


def _further_seeds(request: Request) -> Iterator[tuple[int, dict[str, str]]]:
    """Seeds after that of the run in its usual place, each with the environment that its own run is made in."""
    if request.seeds == 1:
        return
    # all of its settings, so that a resumed command need not repeat them and the seed alone differs
    settings = read_json(require_file(_fold_folder(request, 0) / "run.json", "train the folds again"))["settings"]
    for seed in range(settings["seed"] + 1, settings["seed"] + request.seeds):
        overrides = {**settings, **request.overrides, "seed": seed}
        results = results_dir() / f"{SEED_FOLDER}{seed}"
        yield seed, {"ADNEXT_SETTINGS": json.dumps(overrides), "nnUNet_results": str(results)}


def _fold_folder(request: Request, fold: int | str) -> Path:
    run = run_name(request.trainer, request.plans, request.configuration)
    return results_dir() / request.dataset / run / f"fold_{fold}"


def _results(request: Request) -> Path:
    """Where the run goes; what was trained on permuted labels must not lie among results."""
    seed = request.overrides.get("permute_labels")
    return results_dir() if seed is None else results_dir() / f"{PERMUTED_FOLDER}{seed}"


def _audit(request: Request) -> None:
    """Stop where a person or an image is on both sides of a fold, unless the user says why it is not."""
    reason = request.overrides.get("skip_audit")
    if reason is not None:
        print(f"AUDIT SKIPPED: {reason}")
        return
    from adnext_plugin.cli.audit import check_weights, quick_checks, refuse_leaks, refuse_seen
    from adnext_plugin.trainers.fold_data import open_data

    data = open_data(preprocessed_dir() / request.dataset, request.plans, request.configuration)
    print(refuse_leaks(quick_checks(data), request.dataset))
    for path, folds in _first_weights(request).items():
        print(refuse_seen(check_weights(path, _held_out(data, folds))))


def _first_weights(request: Request) -> dict[Path, list[int | str]]:
    """Files to begin with, and the folds that begin with each."""
    files = {}
    if request.overrides.get("pretrained_weights") is not None:
        for fold in request.folds:
            files.setdefault(file_of_fold(request.overrides["pretrained_weights"], fold), []).append(fold)
    return files


def _held_out(data: "FoldData", folds: Sequence[int | str]) -> "pd.DataFrame":
    import pandas as pd

    return pd.concat([replace(data, fold=fold).held_out for fold in folds])


def _is_finished(request: Request, fold: int | str) -> bool:
    """Whether nothing is left to do, which a setting asked for now may change: more epochs, other weights to judge."""
    folder = _fold_folder(request, fold)
    if not (folder / "checkpoint_final.pth").is_file() or not (folder / "validation" / "summary.json").is_file():
        return False
    settings = read_json(folder / "run.json")["settings"] if (folder / "run.json").is_file() else {}
    return all(settings.get(name, value) == value for name, value in settings_from_environment().items())


def _train_folds(request: Request, is_ours: bool) -> None:
    for fold in request.folds:
        if request.is_cross_validation and request.resume and _is_finished(request, fold):
            print(f"fold {fold} is finished already")
        else:
            _train_fold(request, fold, is_ours)


def _train_fold(request: Request, fold: int | str, is_ours: bool) -> None:
    import torch
    from nnunetv2.run.run_training import run_training

    if request.device != "cpu":
        torch.set_num_threads(1)
    if request.only_validate and not (_fold_folder(request, fold) / "checkpoint_final.pth").is_file():
        raise PathsError(
            f"{_fold_folder(request, fold)} has no checkpoint_final.pth; finish the training with --c first"
        )
    run_training(
        request.dataset,
        request.configuration,
        fold,
        request.trainer,
        request.plans,
        # our trainers take the file as a setting: they check its coverage, nnU-Net's own loader cannot
        pretrained_weights=None if is_ours else request.overrides.get("pretrained_weights"),
        num_gpus=request.num_gpus,
        continue_training=request.resume,
        only_run_validation=request.only_validate,
        disable_checkpointing=request.disable_checkpointing,
        val_with_best=request.validate_best,
        device=torch.device(request.device),
    )
