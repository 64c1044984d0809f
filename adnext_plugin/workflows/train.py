"""Training: one fold, all cases, or every fold in turn under one seed or several, and then the evaluation.

Pre-training is the same with a trainer that needs no labels.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.builtin.weights import absolute, is_builtin, weights_file
from adnext_plugin.environment import (
    environment_with,
    loggers_from_environment,
    settings_from_environment,
    trainer_search_path,
)
from adnext_plugin.errors import PathsError, SettingsError, WeightsError
from adnext_plugin.files import read_object, require_file
from adnext_plugin.log import telling
from adnext_plugin.names import whole_number
from adnext_plugin.paths import BLOCK, FAST_FOLDER, PERMUTED_FOLDER, SEED_FOLDER, plans_file, raw_dir, results_dir
from adnext_plugin.run_folder import RunFolder, seed_runs
from adnext_plugin.run_records import read_run_info
from adnext_plugin.workflows import evaluate
from adnext_plugin.workflows.audit import refuse_what_leaks
from adnext_plugin.workflows.common import Fold, RunRequest, Tell, choose_device, note_reason, say_nothing
from adnext_plugin.workflows.continuing import AskedRun, Standing, is_finished, name_as_nnunet_does
from adnext_plugin.workflows.processes import (
    FoldTraining,
    dismiss_followers,
    follow,
    is_follower,
    require_processes,
    started_by_torchrun,
    train_together,
)
from adnext_plugin.workflows.train_segmentation import is_for_segmentation, train_segmentation
from adnext_plugin.workflows.trainer_lookup import check_settings, find_trainer, require_names

if TYPE_CHECKING:
    from adnext_plugin.workflows.fold_tasks import Executor, FoldTask

EARLIER = "ADNEXT_EARLIER_STATES"  # tells a fold's process the states that a restart is to set aside


@dataclass(frozen=True, kw_only=True)
class Request(RunRequest):
    """Which run, and how it is to be trained.

    `fold`: its number; "all" for every case; "cv" for every fold in turn and then the evaluation. `settings` replace
    those of the trainer, for example `{"epochs": 50, "seed": 7}`. `pretrained_weights`: a checkpoint whose encoder to
    begin with; "{fold}" in its name stands for the fold. `seeds`: with "cv", under how many seeds in a row to repeat
    all of it. A run that was interrupted goes on, and what is finished is left alone, where all settings are the same;
    a run with others is set aside. `resume`: go on in any case, with the settings that the run began with and changes
    that `settings` make to epochs and judging. `restart`: set aside whatever is there and begin anew. `only_validate`:
    predict the held-out part of a finished run. `device`: cpu, cuda or mps; None for a GPU where there is one. `gpus`:
    with "cv", train a fold at a time on each of them; `executor`: several at once elsewhere, as `executor_of` says, on
    this machine's processors unless `device` says otherwise.
    `loggers`: tensorboard, mlflow, wandb; beside those of the environment.
    """

    fold: Fold
    settings: Mapping[str, Any] = field(default_factory=dict)
    pretrained_weights: str | Path | None = None
    seeds: int | None = None
    device: str | None = None
    num_gpus: int = 1
    gpus: tuple[str, ...] = ()
    executor: str | None = None
    loggers: tuple[str, ...] = ()
    resume: bool = False
    restart: bool = False
    only_validate: bool = False
    validate_best: bool = False
    disable_checkpointing: bool = False

    def __post_init__(self) -> None:
        if self.resume and self.only_validate:
            raise SettingsError("--c continues a training and --val skips it; give one of them")
        if self.restart and (self.resume or self.only_validate):
            other = "--c continues a run" if self.resume else "--val judges a finished one"
            raise SettingsError(f"--restart begins anew and {other}; give one of them")
        if self.seeds is not None and (self.seeds < 1 or self.fold != "cv"):
            raise SettingsError(f"--seeds {self.seeds}: give a number from 1 on, and 'cv' instead of a fold")
        if (self.gpus or self.executor) and self.fold != "cv":
            raise SettingsError("--gpus and --executor train several folds at once; give 'cv' instead of a fold")
        if self.gpus and (self.executor or self.num_gpus > 1 or self.device not in (None, "cuda")):
            raise SettingsError("--gpus trains a fold on each GPU; leave out --executor, --num-gpus and --device")
        if self.resume and self.pretrained_weights:
            raise WeightsError("--c goes on with its own weights; give -pretrained_weights only at the start of a run")


@dataclass(frozen=True, kw_only=True)
class Result:
    """The run and its folds, the runs under further seeds, and the evaluation of a labelled cross-validation."""

    run: RunFolder
    folds: tuple[Fold, ...]
    further_seeds: Mapping[int, RunFolder] = field(default_factory=dict)
    evaluation: evaluate.Result | None = None


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A request with everything looked up that does not need the trainer: `folds` are numbers, or "all"."""

    request: Request
    dataset_folder: Path
    folds: tuple[Fold, ...]
    device: str  # "" where another machine trains, which chooses its own
    overrides: Mapping[str, Any]

    @property
    def run(self) -> RunFolder:
        request = self.request
        return RunFolder.of(self.dataset_folder.name, request.trainer, request.plans, request.configuration)

    @property
    def is_cross_validation(self) -> bool:
        return self.request.fold == "cv"

    @property
    def is_rehearsal(self) -> bool:
        return self.overrides.get("fast") is True

    @property
    def results(self) -> Path:
        """Where the run goes; what was trained in miniature or on permuted labels must not lie among results."""
        seed = self.overrides.get("permute_labels")
        results = results_dir() / FAST_FOLDER if self.is_rehearsal else results_dir()
        return results if seed is None else results / f"{PERMUTED_FOLDER}{seed}"

    @property
    def first_weights(self) -> dict[Path, list[Fold]]:
        """Files to begin with, and the folds that begin with each."""
        return _files_of(self.overrides, self.folds)


def train(
    request: Request, tell: Tell = say_nothing, show_scores: Callable[[evaluate.Result], None] | None = None
) -> Result:
    """Train, after a search for people on both sides of a fold or seen by the weights to begin with.

    Args:
        request: what to train.
        tell: is told what was found, which folds and seeds are next, and how they are.
        show_scores: as in `evaluate`.

    Raises:
        PathsError: a folder, the dataset, its plans, weights or a checkpoint are missing.
        SettingsError: a setting, the configuration or the fold does not exist.
        UnknownNameError: there is no such trainer.
        OtherDataError: the run was begun on other data than the dataset holds now.
        SplitError: a person or an image is on both sides of a fold, or held out and seen by the first weights.
        WeightsError: the weights are not for this network.
    """
    if (request.gpus or request.executor) and started_by_torchrun():
        raise SettingsError("--gpus and --executor start a process for each fold themselves; leave torchrun out")
    if is_for_segmentation(request):
        _refuse_loggers(request)
        request, folds = train_segmentation(request, tell)
        return Result(run=request.run, folds=folds)
    job = _look_up(request)
    require_processes(request.num_gpus, job.device)
    if is_follower():
        follow(job.device)
        return Result(run=job.run, folds=job.folds)
    settings = json.dumps(job.overrides)
    with environment_with(
        nnUNet_extTrainer=trainer_search_path(),
        ADNEXT_SETTINGS=settings,
        ADNEXT_LOGGERS=",".join(dict.fromkeys((*loggers_from_environment(), *request.loggers))),
        nnUNet_results=str(job.results),
    ):
        result = _run(job, tell, show_scores)
    if job.is_rehearsal:
        tell(
            f"This was a rehearsal, and its numbers are no results. It is in {job.results}; "
            f'export nnUNet_results="{job.results}" lets other commands find it'
        )
    return result


def _run(job: _Job, tell: Tell, show_scores: Callable[[evaluate.Result], None] | None) -> Result:
    request, run = job.request, job.run
    trainer = find_trainer(request.trainer)
    is_ours, is_labelled = check_settings(trainer, job.overrides)
    if not is_ours:
        _refuse_loggers(request)
        if job.device == "cpu" and (request.num_gpus > 1 or started_by_torchrun()):
            raise SettingsError(f"{request.trainer} is nnU-Net's own, which trains in several processes on GPUs only")
        _refuse_people_for_segmentation(job)
    executor = _executor(job)
    if executor is not None:
        executor.check()
    _refuse_other_data(job)
    if is_labelled and not request.resume and not request.only_validate:
        _refuse_absent_classes(job, trainer)
    if is_labelled and job.folds != ("all",):
        reason = job.overrides.get("skip_audit")
        if reason is None:
            are_other_people = job.overrides.get("other_people") is not None
            if are_other_people:
                note_reason(job.dataset_folder, f"--other-people, {run.path.name}", job.overrides["other_people"])
            refuse_what_leaks(request, job.first_weights, tell, are_other_people=are_other_people)
        else:
            tell(f"AUDIT SKIPPED: {reason}")
            note_reason(job.dataset_folder, f"--skip-audit, {run.path.name}", reason)
    if is_builtin(job.overrides.get("pretrained_weights")) and not is_ours:
        raise WeightsError(
            f"{request.trainer} is nnU-Net's own and cannot begin with {job.overrides['pretrained_weights']}"
        )
    if (request.seeds or 1) > 1 and not is_ours:
        raise SettingsError(f"--seeds: {request.trainer} takes no seed; use one of AD-NeXt's trainers")
    if executor is not None:
        further = _train_at_once(job, executor, tell)
    else:
        further = _train_in_turn(job, trainer if is_ours else None, tell)
    dismiss_followers(job.device)
    evaluation = None
    if job.is_cross_validation and is_labelled:
        which = evaluate.Request(
            dataset=job.dataset_folder.name,
            trainer=request.trainer,
            plans=request.plans,
            configuration=request.configuration,
        )
        evaluation = evaluate.evaluate(which, show_scores)
    return Result(run=run, folds=job.folds, further_seeds=further, evaluation=evaluation)


def _refuse_loggers(request: Request) -> None:
    if request.loggers:
        raise SettingsError(
            f"--logger: {request.trainer} is logged by nnU-Net, which knows Weights & Biases: "
            "export nnUNet_wandb_enabled=1"
        )


def train_fold(request: Request, tell: Tell = say_nothing) -> str:
    """Train one fold in the environment that `train` has made, and leave to it what is of the whole run.

    Args:
        request: whose fold is a number.
        tell: is told how far the fold is.

    Returns:
        What it was trained on.

    Raises:
        SettingsError: the device that was asked for, or so many GPUs, are not on this machine.
    """
    import torch

    job = _restarted_once(_look_up(request))
    require_processes(request.num_gpus, job.device)
    trainer = find_trainer(request.trainer)
    is_ours, _ = check_settings(trainer, job.overrides)
    _train_folds(job, trainer if is_ours else None, tell)
    return f"cuda, {torch.cuda.get_device_name()}" if job.device == "cuda" else job.device


def _train_in_turn(job: _Job, trainer: type | None, tell: Tell) -> dict[int, RunFolder]:
    """One fold after the other, then those of further seeds."""
    _train_folds(job, trainer, tell)
    further = {}
    for seed, variables in _further_seeds(job):
        tell(f"The same cross-validation with seed {seed}")
        with environment_with(**variables):
            _train_folds(job, trainer, tell)
            further[seed] = job.run
    return further


def _executor(job: _Job) -> "Executor | None":
    request = job.request
    if not request.gpus and request.executor is None:
        return None
    from adnext_plugin.workflows.executors import executor_of, folds_on_gpus

    if request.gpus:
        import torch

        return folds_on_gpus(request.gpus, torch.cuda.device_count())
    return executor_of(str(request.executor), results_dir().absolute() / "jobs")


def _train_at_once(job: _Job, executor: "Executor", tell: Tell) -> dict[int, RunFolder]:
    """All folds at once, then all folds of all further seeds: the first run knows what those have in common."""
    tell(f"{len(job.folds)} folds, {executor.manner}; each has its log in its own folder")
    if job.device == "cuda" and not job.request.gpus:
        tell("All of them share the first GPU; --gpus 0,1 instead of --executor gives each fold one of its own")

    def done(task: "FoldTask", device: str) -> None:
        tell(f"{task.name} is finished ({device})" if device else f"{task.name} is finished")

    executor.run(_tasks(job, ""), done)
    further, tasks = {}, []
    for seed, variables in _further_seeds(job):
        with environment_with(**variables):
            tasks += _tasks(job, f" of seed {seed}")
            further[seed] = job.run
    if tasks:
        tell(f"The same cross-validation with {len(further)} further seeds")
        executor.run(tasks, done)
    return further


def _tasks(job: _Job, which: str) -> "list[FoldTask]":
    from adnext_plugin.workflows.fold_tasks import FoldTask

    request = job.request
    # settings, which hold the first weights by now, come through the environment
    alone = replace(
        request,
        fold=0,
        settings={},
        pretrained_weights=None,
        seeds=None,
        gpus=(),
        executor=None,
        loggers=(),
        device=job.device or request.device,
    )
    return [
        FoldTask.of(
            f"fold {fold}{which}",
            asdict(replace(alone, fold=fold)),
            {EARLIER: json.dumps(_states(job, fold))} if request.restart else {},
        )
        for fold in job.folds
    ]


def _restarted_once(job: _Job) -> _Job:
    """Where none of the states is there any more that a restart was asked for, a fold that was killed goes on."""
    if not job.request.restart or EARLIER not in os.environ:
        return job
    earlier = json.loads(os.environ[EARLIER])
    is_there = any(state in earlier for state in _states(job, job.folds[0]))
    return replace(job, request=replace(job.request, restart=is_there))


def _states(job: _Job, fold: Fold) -> list[list[int]]:
    """What tells the states of a fold from those that take their places, on any machine that sees the folder."""
    found = [path.stat() for path in job.run.fold(fold).checkpoints]
    return [[status.st_size, status.st_mtime_ns] for status in found]


def _refuse_other_data(job: _Job) -> None:
    """A run has one folder and is of one state of the data: begun, continued and judged on that alone."""
    from adnext_plugin.prepared_data import PreparedData, refuse_other_data

    data = PreparedData.open(job.dataset_folder, job.request.plans, job.request.configuration)
    others = seed_runs(job.run).values() if job.request.seeds else ()
    for run in (job.run, *others):
        refuse_other_data(run.folds(), data, say_nothing)  # each fold that goes on has it in its own log


def _refuse_people_for_segmentation(job: _Job) -> None:
    """A dataset of ours has a target for each person, and no masks for nnU-Net's own trainers."""
    name = job.dataset_folder.name
    if BLOCK in read_object(job.dataset_folder / "dataset.json"):
        raise SettingsError(
            f"{job.request.trainer} learns segmentations, and {name} has labels of people; name one of AD-NeXt's "
            "trainers with -tr (adnext_list trainers), or none"
        )


def _refuse_absent_classes(job: _Job, trainer: Any) -> None:
    """Every fold is looked at before the first one is trained."""
    from adnext_plugin.records import to_json
    from adnext_plugin.trainers.fold_data import open_data

    request = job.request
    data = open_data(job.dataset_folder, request.plans, request.configuration)
    settings = trainer.settings_with((data.plan.training, request.plans), (job.overrides, "--set"))
    plan = data.plan.with_settings("training", to_json(settings))
    for fold in job.folds:
        replace(data, plan=plan, fold=fold).cases_to_train_on(settings)


def _look_up(request: Request) -> _Job:
    from adnext_plugin.plan import configuration_of, read_plans
    from adnext_plugin.training.loggers import require_loggers

    raw_dir(), results_dir()  # nnU-Net needs both to be set, and its own message is a traceback
    folder = request.dataset_folder
    path = plans_file(folder, request.plans)
    require_file(path, f"make it with adnext_plan_and_preprocess -d {request.dataset}")
    configuration_of(read_plans(path), request.configuration, f"plans {request.plans}")
    folds, overrides = _folds(request.fold, folder), _overrides(request)
    require_names(request.trainer, overrides)
    require_loggers((*loggers_from_environment(), *request.loggers))
    for first_weights in _files_of(overrides, folds):
        require_file(first_weights, "check -pretrained_weights")
    # the device comes last, as it takes torch, and torch takes seconds
    device = _device(request)
    return _Job(request=request, dataset_folder=folder, folds=folds, device=device, overrides=overrides)


def _device(request: Request) -> str:
    if request.executor is None:
        return choose_device(request.device)
    from adnext_plugin.workflows.executors import trains_elsewhere

    if trains_elsewhere(request.executor):
        return ""
    # folds at once would all take the first GPU, and each of them what is free there
    return choose_device(request.device or "cpu")


def _files_of(overrides: Mapping[str, Any], folds: Sequence[Fold]) -> dict[Path, list[Fold]]:
    files: dict[Path, list[Fold]] = {}
    if overrides.get("pretrained_weights") is not None:
        for fold in folds:
            files.setdefault(weights_file(overrides["pretrained_weights"], fold), []).append(fold)
    return files


def _folds(fold: Fold, dataset_folder: Path) -> tuple[Fold, ...]:
    if fold == "all":
        return ("all",)
    from adnext_plugin.cohort import Cohort

    count = len(Cohort.open(dataset_folder).splits)
    if fold == "cv":
        return tuple(range(count))
    number = whole_number(str(fold))
    if number is None or number >= count:
        raise SettingsError(f"there is no fold {fold}; give 0 to {count - 1}, 'all' or 'cv'")
    return (number,)


def _overrides(request: Request) -> dict[str, Any]:
    overrides = {**settings_from_environment(), **request.settings}
    if request.pretrained_weights:
        overrides["pretrained_weights"] = absolute(request.pretrained_weights)
    return overrides


def _further_seeds(job: _Job) -> Iterator[tuple[int, dict[str, str]]]:
    """Seeds after that of the run in its usual place, each with the environment that its own run is made in."""
    seeds = job.request.seeds or 1
    if seeds == 1:
        return
    # all of its settings, so that a resumed command need not repeat them and the seed alone differs
    settings = read_run_info(require_file(job.run.fold(0).run_file, "train the folds again")).settings
    if settings.get("pretrained_weights") is not None and job.overrides.get("pretrained_weights") is None:
        raise WeightsError(
            f"the run began with {settings['pretrained_weights']}, and so must further seeds, which need the file; "
            "give it again with -pretrained_weights"
        )
    for seed in range(settings["seed"] + 1, settings["seed"] + seeds):
        overrides = {**settings, **job.overrides, "seed": seed}
        results = results_dir() / f"{SEED_FOLDER}{seed}"
        yield seed, {"ADNEXT_SETTINGS": json.dumps(overrides), "nnUNet_results": str(results)}


def _train_folds(job: _Job, trainer: type | None, tell: Tell) -> None:
    """Train every fold that is not finished. `trainer`: None of one that is not ours, which knows no states of ours."""
    request = job.request
    asked = None
    if trainer is not None and not (
        request.resume or request.restart or request.only_validate or request.disable_checkpointing
    ):
        asked = AskedRun.of(trainer, plans_file(job.dataset_folder, request.plans), request.configuration)
    for fold in job.folds:
        standing = _standing(job, asked, fold)
        if standing.line is not None:
            tell(standing.line)
        if standing.state == "finished":
            continue
        try:
            with telling(tell):
                _train_fold(job, fold, trainer is not None, tell, goes_on=standing.state == "unfinished")
        except KeyboardInterrupt as error:
            if request.restart or trainer is None:
                error.add_note("without --restart" if request.restart else "with --c")
            raise


def _standing(job: _Job, asked: AskedRun | None, fold: Fold) -> Standing:
    """What is to be done about a fold: nothing, go on with it, or begin, as it is where no run `asked` can tell."""
    request, folder = job.request, job.run.fold(fold)
    if request.resume:
        if job.is_cross_validation and is_finished(folder):
            return Standing(state="finished", line=f"fold {fold} is finished already")
        return Standing(state="unfinished")
    if asked is None:
        return Standing(state="new")
    standing = asked.standing(folder)
    if standing.state == "finished" and request.validate_best:
        return Standing(state="unfinished")  # predicts the held-out part again
    return standing


def _train_fold(job: _Job, fold: Fold, is_ours: bool, tell: Tell, *, goes_on: bool) -> None:
    import torch

    request, folder = job.request, job.run.fold(fold)
    if job.device != "cpu":
        torch.set_num_threads(1)
    if request.only_validate and not folder.checkpoint_final.is_file():
        raise PathsError(f"{folder.path} has no checkpoint_final.pth; finish the training with --c first")
    if goes_on and is_ours:
        name_as_nnunet_does(folder)
    training = FoldTraining(
        device=job.device,
        arguments={
            "dataset_name_or_id": job.dataset_folder.name,
            "configuration": request.configuration,
            "fold": fold,
            "trainer_class_name": request.trainer,
            "plans_identifier": request.plans,
            # our trainers take the file as a setting: they check its coverage, nnU-Net's own loader cannot
            "pretrained_weights": None if is_ours else job.overrides.get("pretrained_weights"),
            "continue_training": goes_on,
            "only_run_validation": request.only_validate,
            "disable_checkpointing": request.disable_checkpointing,
            "val_with_best": request.validate_best,
        },
    )
    train_together(training, request.num_gpus, tell)
