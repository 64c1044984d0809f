"""Reading a trained model from a run's folder, TRAINER__PLANS__CONFIGURATION. The dataset is not needed."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from adnext_plugin.csv_files import read_csv
from adnext_plugin.errors import PathsError, SettingsError, WeightsError
from adnext_plugin.evaluation.scores.calibration import fit_temperature
from adnext_plugin.evaluation.subjects.predictions import subject_means
from adnext_plugin.files import require_file
from adnext_plugin.findings import Temperature
from adnext_plugin.paths import BLOCK
from adnext_plugin.plan import Plan, configuration_of, plan_in, read_plans
from adnext_plugin.prediction.description import FoldDescription, ModelDescription
from adnext_plugin.prediction.model import FoldModel, Model
from adnext_plugin.preprocessing.chain import channels_of, fitted_steps_of
from adnext_plugin.preprocessing.fitted import read_states
from adnext_plugin.records import to_json
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.run_metrics import read_metrics
from adnext_plugin.run_records import FoldSummary, read_fold_summary
from adnext_plugin.stamps import stamps_of
from adnext_plugin.task import Task, image_names_in
from adnext_plugin.training.checkpoint_notes import CheckpointNotes, notes_of
from adnext_plugin.training.weights import read_checkpoint

SETTINGS = ("covariates", "crop_voxels")  # of a trainer, that change what goes into its network


def read_run(run: RunFolder, folds: Sequence[str] | None = None, *, calls: bool = True) -> Model:
    """Read the folds of a run, each with the checkpoint that it was evaluated with.

    Temperatures are fitted on each fold's `selection` part; thresholds are those of `adnext_evaluate`, brought to the
    scale of calibrated probabilities, which changes no call.

    Args:
        run: the folder.
        folds: numbers, or "all"; None for every numbered fold there is, or else "all".
        calls: whether people are to be called one class or the other, for which the run must have been evaluated; else
            thresholds are 0.5.

    Raises:
        PathsError: it is no such folder, or a file is missing.
        WeightsError: a checkpoint cannot be read safely, or is not of this run.
        SettingsError: the run learned no task.
    """
    if len(run.path.name.split("__")) != 3 or not run.plans_file.is_file():
        raise PathsError(
            f"{run.path} is not a trained model: give a folder TRAINER__PLANS__CONFIGURATION of nnUNet_results, or an "
            "installed bundle (adnext_install)"
        )
    plans = read_plans(run.plans_file)
    configuration = configuration_of(plans, run.configuration, str(run.plans_file))
    if BLOCK not in configuration:  # which every trainer of ours that learns of people fills in
        raise SettingsError(
            f"{run.path} is a run of segmentation, not of people's labels; predict with nnUNetv2_predict -d "
            f"{plans['dataset_name']} -c {run.configuration} -tr {run.trainer} -p {run.plans}"
        )
    plan = _portable(plan_in(configuration, str(run.plans_file)))
    task, names_of_images = plan.known_task, image_names_in(run.dataset_file)
    names = tuple(folds) if folds else _finished_folds(run)
    summaries = {name: _summary(run, name) for name in names}
    checkpoints = {name: _checkpoint(run, name, summaries[name], plan) for name in names}
    notes = {name: notes_of(checkpoints[name], f"{run.path.name}, checkpoint of fold {name}") for name in names}
    description = ModelDescription(
        dataset=plans["dataset_name"],
        trainer=run.trainer,
        plans_name=run.plans,
        configuration=run.configuration,
        protocol="paper" if "paper" in {summary.protocol for summary in summaries.values()} else "honest",
        plan=plan,
        in_channels=len(channels_of(plan.preprocessing, names_of_images)),
        images=names_of_images if len(names_of_images) > 1 else None,
        stored_spacing_mm=tuple(configuration["spacing"]),
        folds=tuple(_describe(run, name, task, notes[name], calls=calls) for name in names),
        ranges={},
        stamps=stamps_of(summary.warning for summary in summaries.values()),
        trained_with=_made_by([to_json(notes[name].provenance) for name in names]),
    )
    models = tuple(
        FoldModel(weights=checkpoints[name]["network_weights"], learned=_learned(run, name, plan)) for name in names
    )
    seen = tuple(notes[name].pretraining_data for name in names)
    return Model(description=description, folds=models, seen=seen)


def _made_by(folds: Sequence[dict[str, str]]) -> dict[str, str]:
    """Versions and devices of all folds, each once."""
    return {key: ", ".join(dict.fromkeys(fold[key] for fold in folds)) for key in folds[0]}


def _learned(run: RunFolder, name: str, plan: Plan) -> dict[str, np.ndarray]:
    """What the plan's fitted steps have learned from a fold's training part."""
    return read_states(run.fold(name).fitted_steps_file) if fitted_steps_of(plan.preprocessing) else {}


def _portable(plan: Plan) -> Plan:
    """A plan of what prediction needs: no rates, and no files that weights began with."""
    options = {name: value for name, value in plan.network.options.items() if not name.endswith("_weights")}
    training = {name: plan.training[name] for name in SETTINGS if plan.training.get(name)}
    return replace(plan, network=replace(plan.network, options=options), training=training, pretraining={})


def _finished_folds(run: RunFolder) -> tuple[str, ...]:
    found = [fold.name for fold in run.folds() if fold.summary_file.is_file()]
    numbered = tuple(name for name in found if name.isdigit())
    if not found:
        raise PathsError(f"{run.path} has no finished fold; train with adnext_train, or go on with --c")
    return numbered or ("all",)


def _summary(run: RunFolder, name: str) -> FoldSummary:
    return read_fold_summary(require_file(run.fold(name).summary_file, "train the fold, or leave it out of --folds"))


def _checkpoint(run: RunFolder, name: str, summary: FoldSummary, plan: Plan) -> dict:
    # only the name, so that a summary from elsewhere cannot point outside of the run
    path = run.fold(name).path / Path(summary.evaluated_checkpoint).name
    checkpoint = read_checkpoint(path)
    settings = notes_of(checkpoint, path).settings
    for key in SETTINGS:
        if (settings.get(key) or None) != (plan.training.get(key) or None):
            raise WeightsError(
                f"{path} was trained with {key} = {settings.get(key)}, but plans.json says {plan.training.get(key)}; "
                "train all folds alike"
            )
    return checkpoint


def _describe(run: RunFolder, name: str, task: Task, notes: CheckpointNotes, *, calls: bool) -> FoldDescription:
    fold = FoldDescription(
        name=name,
        precision=notes.precision,
        target_scale=notes.target_scale,
        covariate_scale=notes.covariate_scale,
    )
    if task.kind == "regression":
        return fold
    temperature = _temperature(run, name, task)
    threshold = (_threshold(run, name) if calls else 0.5) if len(task.classes) == 2 else None
    if threshold is not None:
        threshold = temperature.threshold(threshold)
    return replace(fold, temperature=temperature.value, temperature_at_limit=temperature.at_limit, threshold=threshold)


def _temperature(run: RunFolder, name: str, task: Task) -> Temperature:
    if name == "all":  # every case was trained on
        return Temperature(value=1.0)
    path = require_file(run.fold(name).predictions_file, "train the fold again")
    columns = [f"prob_{one}" for one in task.classes]
    texts = ("subject_id", "target")
    table = read_csv(path, texts=texts, needed=[*texts, "part", "fold"], numbers=columns, remedy="train the fold again")
    rows = table[table["part"] == "selection"]
    if not rows["target"].isin(task.classes).all():
        raise PathsError(f"{path} is not of classes {', '.join(task.classes)}; train the fold again")
    # as in the evaluation, several scans of one subject are averaged first
    means = subject_means(rows, task)
    logarithms = np.log(np.clip(means[columns].to_numpy(), np.finfo(float).tiny, 1))
    return fit_temperature(logarithms, means["target"].map(task.classes.index).to_numpy(dtype=int))


def _threshold(run: RunFolder, name: str) -> float:
    if name == "all":
        return 0.5
    path = run.evaluation.metrics_file
    metrics = read_metrics(require_file(path, "it holds the thresholds: score the run with adnext_evaluate"))
    threshold = {str(fold.fold): fold.threshold for fold in metrics.folds}.get(name)
    if threshold is None:
        raise PathsError(f"{path} has no threshold of fold {name}; score the run again with adnext_evaluate")
    return threshold
