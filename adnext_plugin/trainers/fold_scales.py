"""What a run keeps as learned from its data, beside weights, and what that should be.

Means and deviations of targets and covariates, which checkpoints hold, and arrays of fitted preprocessing steps.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from adnext_plugin.preprocessing.fitted import SEPARATOR, read_states
from adnext_plugin.records import to_json
from adnext_plugin.run_folder import FoldFolder
from adnext_plugin.settings import TrainerSettings
from adnext_plugin.trainers.fold_data import FoldData
from adnext_plugin.training.checkpoint_notes import CheckpointNotes, TargetScale
from adnext_plugin.training.covariates import CovariateScale
from adnext_plugin.training.task_kinds import TASK_KINDS


def scales_of(data: FoldData, settings: TrainerSettings) -> dict[str, float]:
    """Computed anew from the cases that the settings train on, and no others."""
    data = replace(data, plan=replace(data.plan, training=to_json(settings)))
    training, _ = data.cases_to_train_on(settings)
    task = data.plan.known_task
    block = TASK_KINDS[task.kind](task, data.targets(training)).notes()
    covariates = None
    if settings.covariates:
        covariates = CovariateScale.of(data.rows(training), settings.covariates, task)
    target = block.get("target_scale")
    return _by_name(None if target is None else TargetScale(**target), covariates)


def stored_scales(notes: CheckpointNotes) -> dict[str, float]:
    """Those that a checkpoint holds, by name."""
    return _by_name(notes.target_scale, notes.covariate_scale)


def arrays_of(data: FoldData, settings: TrainerSettings) -> dict[str, np.ndarray]:
    """What the plan's fitted steps learn anew from the cases that the settings train on, and no others."""
    training, _ = data.cases_to_train_on(settings)
    fitted = data.fit_steps(training)
    return {} if fitted is None else _by_words(fitted.arrays)


def stored_arrays(fold: FoldFolder) -> dict[str, np.ndarray]:
    """What they had learned when a fold was trained; nothing where there are no such steps."""
    return _by_words(read_states(fold.fitted_steps_file)) if fold.fitted_steps_file.is_file() else {}


def _by_words(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    parts = {name: name.partition(SEPARATOR) for name in arrays}
    return {f"{array} of step {step}": arrays[name] for name, (step, _, array) in parts.items()}


def _by_name(target: TargetScale | None, covariates: CovariateScale | None) -> dict[str, float]:
    numbers = {}
    if target is not None:
        numbers = {f"{name.replace('_', ' ')} of the target": value for name, value in to_json(target).items()}
    if covariates is None:
        return numbers
    for statistic, values in (("mean", covariates.means), ("deviation", covariates.deviations)):
        numbers |= {f"{statistic} of {name}": value for name, value in zip(covariates.names, values, strict=True)}
    return numbers
