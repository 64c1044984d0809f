"""Which plan and settings a run uses: those of the trainer's class, then the plans file, then the command line."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Literal, TypeVar

from adnext_plugin.environment import settings_from_environment
from adnext_plugin.errors import SettingsError
from adnext_plugin.paths import BLOCK
from adnext_plugin.plan import NetworkSettings, Plan, configuration_of, plan_in
from adnext_plugin.records import to_json, with_overrides
from adnext_plugin.settings import AUTO, FAST_EPOCHS, REASONS, RunSettings
from adnext_plugin.task import task_of
from adnext_plugin.training.shared_settings import shared

SettingsType = TypeVar("SettingsType", bound=RunSettings)
PlanKey = Literal["training", "pretraining"]
Layer = tuple[Mapping[str, Any], str]  # settings as JSON, and where they stand

DEFAULT_NETWORK = "adnext_b"
COMMAND_LAYERS = ("ADNEXT_SETTINGS", "--set")  # where settings stand that a user gives to this very run
CHANGEABLE_ON_RESUME = {"epochs", "evaluate_with", *REASONS}


def resolve_plan(
    plans: dict,
    configuration: str,
    dataset_json: dict,
    class_network: NetworkSettings | None,
    settings_with: Callable[..., SettingsType],
    key: PlanKey,
    *,
    takes_network_options: bool = True,
) -> tuple[Plan, SettingsType]:
    """Combine what the trainer's class, the plans file and `ADNEXT_SETTINGS` say.

    Args:
        plans: content of a plans file, ours or nnU-Net's own; not modified.
        configuration: such as `3d_fullres`.
        dataset_json: content of `dataset.json`, with its `adnext` block.
        class_network: the network the trainer is for; None leaves it to the plan, or else to AD-NeXt-B.
        settings_with: gives the settings that the trainer brings along, under the layers it is given.
        key: where in the plan its settings stand.
        takes_network_options: whether what the plan says of the network is meant for the trainer's, too.

    Returns:
        The complete plan, which names network and task, and the settings. The plan holds all of them under `key`.

    Raises:
        SettingsError: an unknown or impossible value, a 2D configuration, a plan naming another network than the
            trainer, or a dataset without task.
    """
    planned = configuration_of(plans, configuration, f"plans {plans['plans_name']}")
    if len(planned["patch_size"]) != 3:
        raise SettingsError(f"configuration {configuration!r} is not 3D; use 3d_fullres")
    where = f"plans {plans['plans_name']}, configuration {configuration}"
    plan = plan_in(planned, where)
    where = f"{where}, {BLOCK}"
    settings = settings_with((getattr(plan, key), f"{where}.{key}"), (settings_from_environment(), "ADNEXT_SETTINGS"))
    planned_network = plan.network if takes_network_options else replace(plan.network, options={})
    network = merge_network(planned_network, class_network, where)
    task = plan.task or task_of(dataset_json, "dataset.json")
    plan = plan.with_settings(key, to_json(settings))
    return replace(plan, network=network, task=task), settings


def layered(settings: SettingsType, *layers: Layer) -> SettingsType:
    """Settings with those of layers in their place, the last first in authority.

    Raises:
        SettingsError: an unknown setting, or an impossible value.
    """
    for values, where in layers:
        values = _with_warmup_that_fits(settings, _with_few_epochs(settings, values))
        settings = with_overrides(settings, values, where)
    return settings


def _with_few_epochs(settings: RunSettings, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Whoever asks for a rehearsal, and for no number of epochs, has a few."""
    if values.get("fast") is not True or "epochs" in values:
        return values
    return {**values, "epochs": min(settings.epochs, FAST_EPOCHS)}


def _with_warmup_that_fits(settings: RunSettings, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of fewer epochs than the warmup has, which nobody has set, the warmup takes the share that it had of all."""
    epochs = values.get("epochs")
    if type(epochs) is not int or "warmup_epochs" in values or not 1 <= epochs <= settings.warmup_epochs:
        return values
    return {**values, "warmup_epochs": settings.warmup_epochs * epochs // settings.epochs}


def settings_for_resume(saved: SettingsType, where: str, fold: int | str) -> SettingsType:
    """The settings a run continues with: those it began with, save for changes asked for now.

    Raises:
        SettingsError: the change would make it another run.
    """
    # what a run was to decide when it began is decided
    asked = {name: value for name, value in settings_from_environment().items() if value != AUTO}
    continued = with_overrides(saved, asked, "ADNEXT_SETTINGS")
    # of the file to begin with, a run remembers name and content alone
    before, now = _flat(shared(saved, fold)), _flat(shared(continued, fold))
    changed = sorted(name for name in now if now[name] != before.get(name) and name not in CHANGEABLE_ON_RESUME)
    if changed:
        name = changed[0]
        raise SettingsError(
            f"{where} was trained with {name}={before.get(name)!r} and cannot continue with {name}={now[name]!r}; "
            "leave the setting out, or start anew without --c"
        )
    return continued


def _flat(settings: RunSettings) -> dict[str, Any]:
    """Settings by name, those of an objective among the others."""
    values = asdict(settings)
    return values.pop("options", {}) | values


def about_stock_data(plan: Plan, settings: RunSettings, plans: dict) -> str:
    """What a user should know who trains on data that nnU-Net's own planner prepared."""
    geometry = plan.preprocessing
    text = (
        f"The data were prepared by nnU-Net's own planner: volumes are fitted to {list(geometry.input_size_voxels)} "
        f"voxels of {list(geometry.spacing_mm)} mm when loaded; the batch size is the trainer's, {settings.batch_size}"
    )
    reader = plans["image_reader_writer"]
    if not reader.endswith("WithReorient"):
        text += f". WARNING: {reader} keeps each file's orientation, so left-right flips may mirror another axis"
    return text


def merge_network(planned: NetworkSettings, own: NetworkSettings | None, where: str) -> NetworkSettings:
    """The network of a run: the trainer's own, with options that the plan adds, or the plan's, or else AD-NeXt-B.

    Raises:
        SettingsError: plan and trainer name different ones.
    """
    if own is None:
        return planned if planned.name else replace(planned, name=DEFAULT_NETWORK)
    if planned.name not in (None, own.name):
        raise SettingsError(
            f"{where}.network asks for {planned.name!r}, but the trainer is for {own.name!r}; use -tr ADNeXtTrainer"
        )
    return NetworkSettings(name=own.name, options={**own.options, **planned.options})
