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
from adnext_plugin.training.covariates import CovariateScale
from adnext_plugin.training.task_kinds import TASK_KINDS


def scales_of(data: FoldData, settings: TrainerSettings) -> dict[str, float]:
    """Computed anew from the cases that the settings train on, and no others."""
    data = replace(data, plan=replace(data.plan, training=to_json(settings)))
    training, _ = data.cases_to_train_on(settings)
    task = data.plan.task
    block = TASK_KINDS[task.kind](task, data.targets(training)).notes()
    if settings.covariates:
        block["covariate_scale"] = CovariateScale.of(data.rows(training), settings.covariates, task).to_json()
    return stored_scales(block)


def stored_scales(block: dict) -> dict[str, float]:
    """Those in the `adnext` block of a checkpoint, by name."""
    target, covariates = block.get("target_scale", {}), block.get("covariate_scale", {})
    numbers = {f"{name.replace('_', ' ')} of the target": value for name, value in target.items()}
    for statistic in ("means", "deviations"):
        for name, value in zip(covariates.get("names", ()), covariates.get(statistic, ()), strict=True):
            numbers[f"{statistic.removesuffix('s')} of {name}"] = value
    return numbers


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
