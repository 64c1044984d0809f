"""Training a segmentation: nnU-Net's own commands in the manners of ours, for its trainers and for ours.

nnU-Net plans, prepares and splits such a dataset. Of what `train` offers, there is here: a fold or all of them in turn,
settings, weights to begin with, a report on what was taken over, and going on where a run was interrupted.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.builtin.weights import absolute
from adnext_plugin.environment import environment_with, settings_from_environment, trainer_search_path
from adnext_plugin.errors import PathsError, SettingsError, WeightsError
from adnext_plugin.files import require_file
from adnext_plugin.log import telling
from adnext_plugin.names import whole_number
from adnext_plugin.paths import BLOCK, NNUNETS_FOLDS, plans_file, raw_dir, results_dir
from adnext_plugin.plan import configuration_of, read_plans
from adnext_plugin.run_folder import FoldFolder
from adnext_plugin.workflows.common import Fold, Tell, choose_device
from adnext_plugin.workflows.processes import (
    FoldTraining,
    require_processes,
    started_by_torchrun,
    train_together,
)
from adnext_plugin.workflows.segmentation_datasets import has_segmentations, read_folds, with_nnunets_plans
from adnext_plugin.workflows.trainer_lookup import find_trainer, require_names

if TYPE_CHECKING:
    from adnext_plugin.workflows.train import Request


def is_for_segmentation(request: "Request") -> bool:
    """Whether the dataset is one of segmentations, and not of people's labels.

    Raises:
        PathsError: there is no such dataset.
        UnknownNameError: there is no such trainer.
        SettingsError: it is one of segmentations, and the trainer learns labels of people.
    """
    if not has_segmentations(request.dataset_folder):
        return False
    require_names(request.trainer, {})
    trainer = find_trainer(request.trainer)
    from adnext_plugin.trainers.lifecycle import RunTrainer

    if issubclass(trainer, RunTrainer):
        raise SettingsError(
            f"{request.trainer} learns of people, and {request.dataset_folder.name} has segmentations and no {BLOCK!r} "
            "block in its dataset.json; name a trainer of segmentation with -tr (adnext_list trainers 'ADNeXtSeg*'), "
            "or import people with adnext_import"
        )
    return True


def train_segmentation(request: "Request", tell: Tell) -> tuple["Request", tuple[Fold, ...]]:
    """Train a fold, all cases, or every fold in turn.

    Args:
        request: what to train.
        tell: is told which folds are finished, and which go on.

    Returns:
        The request with the plans that were trained with, and the folds.

    Raises:
        PathsError: a folder, plans, or weights are missing.
        SettingsError: a setting, the configuration or the fold does not exist, or is not for segmentation; or there
            are not that many GPUs.
    """
    raw_dir(), results_dir()  # nnU-Net needs both to be set, and its own message is a traceback
    request = with_nnunets_plans(request)
    path = plans_file(request.dataset_folder, request.plans)
    require_file(path, f"make it with nnUNetv2_plan_and_preprocess -d {request.dataset}")
    configuration_of(read_plans(path), request.configuration, f"plans {request.plans}")
    for option, given in (("--seeds", request.seeds), ("--gpus", request.gpus), ("--executor", request.executor)):
        if given:
            raise SettingsError(f"{option} is for labels of people; train a segmentation's folds one by one")
    if request.settings.get("fast"):
        raise SettingsError("--fast is for labels of people; --set epochs=1 --set steps_per_epoch=5 is as quick here")
    overrides = {**settings_from_environment(), **request.settings}
    if request.pretrained_weights is not None:
        overrides["pretrained_weights"] = absolute(request.pretrained_weights)
    is_ours = _check(request.trainer, overrides)
    folds = _folds(request, overrides)
    device = choose_device(request.device)
    _require_gpus(request.num_gpus, device)
    settings = json.dumps(overrides if is_ours else {})
    with environment_with(nnUNet_extTrainer=trainer_search_path(), ADNEXT_SETTINGS=settings):
        for fold in folds:
            weights = None if is_ours else overrides.get("pretrained_weights")
            _train_fold(request, fold, device, weights, tell, is_ours=is_ours)
    return request, folds


def _require_gpus(count: int, device: str) -> None:
    require_processes(count, device)
    if started_by_torchrun():
        raise SettingsError("torchrun is for labels of people; train a segmentation on several GPUs with --num-gpus")
    if count > 1 and device == "cpu":
        raise SettingsError(f"--num-gpus {count}: a segmentation is trained by one process on a CPU; leave it out")


def _check(trainer: str, overrides: dict[str, Any]) -> bool:
    """Whether the trainer is one of ours, which take settings."""
    from adnext_plugin.trainers.segmentation.trainer import ADNeXtSegmentationTrainer

    found = find_trainer(trainer)
    if issubclass(found, ADNeXtSegmentationTrainer):
        found.settings_with((overrides, "--set"))
        return True
    unknown = [name for name in overrides if name != "pretrained_weights"]
    if unknown:
        raise SettingsError(f"{trainer} is nnU-Net's own and takes no settings; leave out {', '.join(unknown)}")
    return False


def _folds(request: "Request", overrides: dict[str, Any]) -> tuple[Fold, ...]:
    if request.fold == "all":
        return ("all",)
    drawn = read_folds(request.dataset_folder)
    count = (overrides.get("folds") or NNUNETS_FOLDS) if drawn is None else len(drawn)
    if request.fold == "cv":
        return tuple(range(count))
    number = whole_number(str(request.fold))
    if number is None or number >= count:
        raise SettingsError(f"there is no fold {request.fold}; give 0 to {count - 1}, 'all' or 'cv'")
    return (number,)


def _train_fold(request: "Request", fold: Fold, device: str, weights: str | None, tell: Tell, *, is_ours: bool) -> None:
    folder = request.run.fold(fold)
    goes_on = request.resume
    if not (request.resume or request.restart or request.only_validate):
        if folder.checkpoint_final.is_file() and folder.summary_file.is_file():
            tell(f"fold {fold} is finished already; --restart trains it again")
            return
        goes_on = _has_state(folder)
        if goes_on:
            tell(f"fold {fold} goes on where it was interrupted")
    if request.only_validate and not folder.checkpoint_final.is_file():
        raise PathsError(f"{folder.path} has no checkpoint_final.pth; finish the training with --c first")
    if weights is not None and not Path(weights).is_file():
        raise WeightsError(f"{weights} does not exist; check -pretrained_weights")
    if request.restart and not is_ours and folder.path.is_dir():  # ours do it when they have nothing left to refuse
        from adnext_plugin.training.checkpoints import set_earlier_run_aside

        set_earlier_run_aside(folder.path)
    training = FoldTraining(
        device=device,
        arguments={
            "dataset_name_or_id": request.dataset_folder.name,
            "configuration": request.configuration,
            "fold": fold,
            "trainer_class_name": request.trainer,
            "plans_identifier": request.plans,
            "pretrained_weights": None if goes_on else weights,
            "continue_training": goes_on,
            "only_run_validation": request.only_validate,
            "disable_checkpointing": request.disable_checkpointing,
            "val_with_best": request.validate_best,
        },
    )
    # in processes of ours, as nnU-Net's own end in a traceback whatever goes wrong in them
    with telling(tell):
        train_together(training, request.num_gpus, tell)


def _has_state(folder: FoldFolder) -> bool:
    """Whether there is something that nnU-Net goes on with."""
    states = (folder.checkpoint_final, folder.checkpoint_latest, folder.checkpoint_best)
    return any(path.is_file() for path in states)
