"""The plan: how scans become inputs, which network takes them, and what a trainer is told."""

import copy
import math
from collections.abc import Mapping
from dataclasses import field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import SerializerFunctionWrapHandler, model_serializer

from adnext_plugin.choices import (
    AlignmentChoice,
    BiasCorrectionChoice,
    BrainExtractionChoice,
    FitWay,
    Interpolation,
)
from adnext_plugin.errors import SettingsError, nearest_names
from adnext_plugin.files import read_object
from adnext_plugin.names import require_file_name
from adnext_plugin.paths import BLOCK
from adnext_plugin.records import from_json, record, to_json
from adnext_plugin.task import Task

# what every scan goes through, in this order; a plan's further steps stand between these
STEP_ORDER = ("brain_extraction", "reorient", "bias_correction", "crop", "alignment", "clip", "z_score", "fit")


@record
class StepChoice:
    """A further step of preprocessing, declared under the entry points `adnext.steps`."""

    name: str
    # the step that it follows: its own choice by default; "fit" for steps that are fitted on the training part
    after: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    version: int | None = None  # of the step; filled in when a dataset is planned

    def __post_init__(self) -> None:
        if self.name in STEP_ORDER:
            raise SettingsError(f"steps: {self.name!r} is part of every plan; set the keys that a plan has for it")
        if self.after is not None and self.after not in STEP_ORDER:
            raise SettingsError(
                f"step {self.name!r}: there is no step {self.after!r}{nearest_names(self.after, STEP_ORDER)}"
            )


@record
class PreprocessingSettings:
    """How a scan becomes the network's input. Axis order z, y, x."""

    spacing_mm: tuple[float, float, float] = (1.75, 1.75, 1.75)
    input_size_voxels: tuple[int, int, int] = (128, 128, 128)
    fit: FitWay = "pad_crop"  # stretch the foreground box to the cube, or keep true size
    interpolation: Interpolation = "linear"  # cubic is more faithful to the scan, linear never overshoots
    clip_percentiles: tuple[float, float] | None = (0.5, 99.5)  # of the foreground; None leaves intensities alone
    # of scans with a skull; those without are left alone
    brain_extraction: BrainExtractionChoice = "deepbet"
    brain_mask_files: str | None = None  # folder, or pattern with {case_id}, {subject_id}, {session_id}
    hdbet_folds: int = 5  # how many of HD-BET's five networks are averaged
    hdbet_mirroring: bool = True  # average each over the eight mirrorings of the scan
    bias_correction: BiasCorrectionChoice = "none"
    n4_shrink_factor: int = 4
    n4_iterations: tuple[int, ...] = (50, 50, 50, 50)  # at most, per level of the field's control points
    alignment: AlignmentChoice = "none"  # to MNI152
    z_score: bool = True  # of the foreground, each scan by itself; off where a further step sets the scale
    steps: tuple[StepChoice, ...] = ()  # further ones; of several with one place, in the order given

    def __post_init__(self) -> None:
        if not all(0 < length < math.inf for length in self.spacing_mm):
            raise SettingsError(f"spacing_mm must be positive, got {list(self.spacing_mm)}")
        if min(self.input_size_voxels) < 1:
            raise SettingsError(f"input_size_voxels must be at least 1, got {list(self.input_size_voxels)}")
        if self.clip_percentiles is not None:
            low, high = self.clip_percentiles
            if not 0 <= low < high <= 100:
                raise SettingsError(f"clip_percentiles must rise within 0 to 100, got {[low, high]}")
        if (self.brain_extraction == "mask_files") != (self.brain_mask_files is not None):
            raise SettingsError("brain_extraction mask_files and brain_mask_files (--brain-masks) need each other")
        if not 1 <= self.hdbet_folds <= 5:
            raise SettingsError(f"hdbet_folds must be 1 to 5, got {self.hdbet_folds}")
        if self.n4_shrink_factor < 1 or not self.n4_iterations or min(self.n4_iterations) < 1:
            raise SettingsError(
                "n4_shrink_factor and all n4_iterations must be at least 1, "
                f"got {self.n4_shrink_factor} and {list(self.n4_iterations)}"
            )
        names = [step.name for step in self.steps]
        if len(set(names)) < len(names):
            raise SettingsError(f"steps: {max(names, key=names.count)!r} stands there twice; a step is taken once")

    @model_serializer(mode="wrap")
    def _without_what_is_new(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As version 0.1.0 wrote it where nothing is new, so that it can read such plans and bundles."""
        content = handler(self)
        if not content["steps"]:
            del content["steps"]
        if content["z_score"]:
            del content["z_score"]
        return content


@record
class NetworkSettings:
    """Which network to build; a missing name leaves the choice to the trainer."""

    name: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@record
class Plan:
    """The `adnext` block of a configuration in the plans file."""

    preprocessing: PreprocessingSettings = PreprocessingSettings()
    network: NetworkSettings = NetworkSettings()
    # overrides of a trainer's settings, checked by the trainer: of a labelled task, and of pre-training
    training: dict[str, Any] = field(default_factory=dict)
    pretraining: dict[str, Any] = field(default_factory=dict)
    prepared_by: Literal["adnext", "nnunet"] = "adnext"  # nnunet: volumes of any size, fitted when loaded
    task: Task | None = None  # filled in by the trainer, so that a saved model knows its outputs

    def with_settings(self, key: Literal["training", "pretraining"], settings: dict[str, Any]) -> "Plan":
        """The plan with other settings of labelled tasks, or of pre-training."""
        return replace(self, training=settings) if key == "training" else replace(self, pretraining=settings)

    @property
    def known_task(self) -> Task:
        """The task, of a plan that a trainer has filled in.

        Raises:
            SettingsError: nobody has.
        """
        if self.task is None:
            raise SettingsError("the plan does not say what is to be learned; use the plans.json of a trained run")
        return self.task

    @property
    def network_input_voxels(self) -> tuple[int, int, int]:
        """(Z, Y, X) of what the network is fed: the stored volumes, or what training cuts from them."""
        return tuple(self.training.get("crop_voxels") or self.preprocessing.input_size_voxels)


def configuration_of(plans: Mapping[str, Any], name: str, where: str) -> dict[str, Any]:
    """A configuration of a plans file, with what it inherits from others there.

    Args:
        plans: content of the file, ours or nnU-Net's own.
        name: such as `3d_fullres`.
        where: the file, for messages.

    Raises:
        SettingsError: there is no such configuration, or a name in the plans would lead to another folder.
    """
    known = plans.get("configurations", {})
    if name not in known:
        raise SettingsError(f"{where} has no configuration {name!r}{nearest_names(name, known)}")
    content, seen = _object(known[name], where, name), {name}
    while (parent := content.pop("inherits_from", None)) is not None:
        if not isinstance(parent, str) or parent not in known or parent in seen:
            raise SettingsError(
                f"{where}: configuration {name!r} inherits from {parent!r}, which is missing or a circle"
            )
        seen.add(parent)
        content = {**_object(known[parent], where, parent), **content}
    _check_names(plans, content, where)
    return content


def _object(configuration: Any, where: str, name: str) -> dict[str, Any]:
    if not isinstance(configuration, dict):
        raise SettingsError(f"{where}: configuration {name!r} is not an object; plan the dataset again")
    return dict(configuration)


def _check_names(plans: Mapping[str, Any], configuration: Mapping[str, Any], where: str) -> None:
    """What plans call folders and files must not lead out of those that they are in."""
    for content, key in ((plans, "dataset_name"), (plans, "plans_name"), (configuration, "data_identifier")):
        if key in content:
            require_file_name(content[key], f"{where}: {key}")


def data_identifier(configuration: Mapping[str, Any], where: str) -> str:
    """Name of the folder of stored volumes, inside that of the preprocessed dataset.

    Raises:
        SettingsError: the configuration does not say it.
    """
    if "data_identifier" not in configuration:
        raise SettingsError(f"{where} does not say where its volumes are (data_identifier); plan the dataset again")
    return require_file_name(configuration["data_identifier"], f"{where}: data_identifier")


def folder_of_volumes(dataset_folder: Path, plans: Path, configuration: str) -> Path:
    """The folder of stored volumes of a preprocessed dataset.

    Args:
        dataset_folder: of the preprocessed dataset.
        plans: the file of plans.
        configuration: of the plans.

    Raises:
        PathsError: the file is damaged.
        SettingsError: it has no such configuration, or does not say where its volumes are.
    """
    where = str(plans)
    return dataset_folder / data_identifier(configuration_of(read_plans(plans), configuration, where), where)


def plan_in(configuration: Mapping[str, Any], where: str) -> Plan:
    """The plan in a configuration; one without our block was made, and its data prepared, by nnU-Net's own planner.

    Raises:
        SettingsError: a value in the block is unknown or of the wrong kind.
    """
    if BLOCK not in configuration:
        return Plan(prepared_by="nnunet")
    return from_json(Plan, configuration[BLOCK], f"{where}, {BLOCK}")


def plan_of(plans: Mapping[str, Any], configuration: str, where: str) -> Plan:
    """The plan of a configuration of a plans file.

    Args:
        plans: content of the file.
        configuration: its name.
        where: the file, for messages.

    Raises:
        SettingsError: there is no such configuration, or a value in its block is unknown or of the wrong kind.
    """
    return plan_in(configuration_of(plans, configuration, where), f"{where}, configuration {configuration}")


def read_plan(path: Path, configuration: str) -> Plan:
    """The plan of a configuration in a plans file, as `plan_of`.

    Raises:
        PathsError: there is no such file, or it is damaged.
        SettingsError: it holds no such plan.
    """
    return plan_of(read_plans(path), configuration, str(path))


def read_plans(path: Path) -> dict[str, Any]:
    """Content of a plans file.

    Raises:
        PathsError: there is no such file, or it is damaged.
        SettingsError: it is something else.
    """
    content = read_object(path)
    if not isinstance(content.get("configurations"), dict):
        raise SettingsError(f"{path} is not a plans file: it has no configurations; plan the dataset again")
    return content


def plans_with(plans: dict[str, Any], configuration: str, plan: Plan) -> dict[str, Any]:
    """A copy of a plans file's content whose configuration holds `plan`."""
    plans = copy.deepcopy(plans)
    plans["configurations"][configuration][BLOCK] = to_json(plan)
    return plans


def require_same_preparation(theirs: Plan, own: Plan, where: Path) -> None:
    """Make sure that a dataset was prepared as the one that a network was trained on.

    Raises:
        SettingsError: it was not; names the plans file `where`.
    """
    if (theirs.preprocessing, theirs.prepared_by) != (own.preprocessing, own.prepared_by):
        raise SettingsError(
            f"{where}: the dataset was prepared differently from the one trained on; give both the same --preset"
        )
