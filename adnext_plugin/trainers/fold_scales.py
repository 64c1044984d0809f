"""Means and deviations of targets and covariates: those a checkpoint holds, and what they should be."""

from dataclasses import replace

from adnext_plugin.records import to_json
from adnext_plugin.settings import TrainerSettings
from adnext_plugin.trainers.fold_data import FoldData
from adnext_plugin.training.covariates import CovariateScale
from adnext_plugin.training.objectives import OBJECTIVES


def scales_of(data: FoldData, settings: TrainerSettings) -> dict[str, float]:
    """Computed anew from the cases that the settings train on, and no others."""
    data = replace(data, plan=replace(data.plan, training=to_json(settings)))
    training, _ = data.cases_to_train_on(settings)
    task = data.plan.task
    block = OBJECTIVES[task.kind](task, data.targets(training)).notes()
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
