"""What is different between whole scans and segmentations when networks are trained under equal conditions."""

import copy
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from adnext_plugin.errors import SettingsError
from adnext_plugin.files import read_object, require_file, write_json
from adnext_plugin.findings import Estimate
from adnext_plugin.paths import BLOCK, DATASET_FILE, SEGMENTATION_BLOCK, plans_file
from adnext_plugin.plan import configuration_of, read_plan, read_plans
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.task import image_names
from adnext_plugin.workflows import compare as comparing
from adnext_plugin.workflows.common import DatasetRequest
from adnext_plugin.workflows.compare_segmentations import compare_segmentations
from adnext_plugin.workflows.segmentation_datasets import with_nnunets_plans

if TYPE_CHECKING:
    from adnext_plugin.evaluation.studies.backbones import BackbonePair
    from adnext_plugin.networks.segmentation.build import Decoder
    from adnext_plugin.trainers.segmentation.trainer import ADNeXtSegmentationTrainer

EPOCHS = 10  # of a segmentation, whose epochs may have any number of steps
WARMUP = 10  # at most one of so many epochs
COSTS = "adnext_backbones"  # key of plans


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a step of training is fed; `decoder` of a segmentation."""

    in_channels: int
    outputs: int
    size: tuple[int, ...]
    batch: int
    decoder: "Decoder | None" = None


@dataclass(frozen=True, kw_only=True)
class Arm:
    """A run to be trained: `settings` decide on its length, `steps` is how many it has in each fold."""

    run: RunFolder
    settings: Mapping[str, Any]
    steps: int


@dataclass(frozen=True, kw_only=True)
class Compared:
    """Scores in the order of the arms, and of every pair, by places in it, the difference and corrected p."""

    scores: Sequence[Estimate]
    differences: Mapping[tuple[int, int], tuple[Estimate, float | None]]
    warnings: tuple[str, ...]

    def pairs(self, names: Sequence[str]) -> "tuple[BackbonePair, ...]":
        """By name."""
        from adnext_plugin.evaluation.studies.backbones import BackbonePair

        return tuple(
            BackbonePair(first=names[one], second=names[other], difference=difference, p_holm=p)
            for (one, other), (difference, p) in self.differences.items()
        )


class Contest(Protocol):
    """A dataset on which networks are trained alike. `key` tells what is asked of them from other demands."""

    score: ClassVar[str]

    def __init__(self, request: DatasetRequest, settings: Mapping[str, Any], key: str) -> None:
        """Read the dataset and its plans."""

    def shape(self, network: str) -> Shape:
        """What the network is fed."""

    def plan(self, network: str, weights: str | None, steps: float, costs: Mapping[str, Any]) -> Arm:
        """Write plans for a network that is trained for about so many steps, and what they cost."""

    def is_trained(self, arm: Arm) -> bool:
        """Whether nothing is left to do."""

    def compared(self, arms: Sequence[Arm], resamples: int) -> Compared:
        """Score the arms on the same held-out people."""


class People:
    """Labels of people, which the networks tell apart, under the recipe of the plans."""

    score: ClassVar[str] = "AUC, mean of folds"

    def __init__(self, request: DatasetRequest, settings: Mapping[str, Any], key: str) -> None:
        from adnext_plugin.cohort import Cohort
        from adnext_plugin.trainers.labelled import ADNeXtTrainer

        self._request, self._settings, self._key, self._folder = request, settings, key, request.dataset_folder
        cohort = Cohort.open(self._folder)
        if cohort.task.kind != "classification":
            raise SettingsError(f"{cohort.name} is {cohort.task.kind}; networks are ranked by classes or segmentations")
        path = require_file(plans_file(self._folder, request.plans), "make it with adnext_plan_and_preprocess")
        self._plans = read_plans(path)
        plan = read_plan(path, request.configuration)
        layers = ((plan.training, f"plans {request.plans}"), (settings, "--set"))
        self._recipe = ADNeXtTrainer.settings_with(*layers)
        self._largest = max(len(fold["train"]) for fold in cohort.splits)
        channels = len(image_names(read_object(self._folder / DATASET_FILE), DATASET_FILE))
        self._shape = Shape(
            in_channels=channels,
            outputs=len(cohort.task.classes),
            size=plan.network_input_voxels,
            batch=self._recipe.batch_size,
        )

    def shape(self, network: str) -> Shape:
        """The plan's."""
        return self._shape

    def plan(self, network: str, weights: str | None, steps: float, costs: Mapping[str, Any]) -> Arm:
        """Whole epochs, as many as fit."""
        of_epoch = math.ceil(self._largest / self._shape.batch)
        epochs = int(steps // of_epoch)
        if epochs < 1:
            raise SettingsError(
                f"--budget lasts for {steps:.1f} steps of {network}, and an epoch of this dataset has {of_epoch}; "
                f"give at least {of_epoch / steps:.2g} times as much"
            )
        length = {"epochs": epochs, "warmup_epochs": min(self._recipe.warmup_epochs, epochs // WARMUP)}
        content = _copied(self._plans, plans_name(network, self._key, weights), costs)
        content["configurations"][self._request.configuration][BLOCK]["network"] = {"name": network}
        run = _written(self._request, content, "ADNeXtTrainer")
        return Arm(run=run, settings=_decided(length, self._settings), steps=epochs * of_epoch)

    def is_trained(self, arm: Arm) -> bool:
        """Whether it was evaluated, which comes last."""
        return arm.run.evaluation.metrics_file.is_file()

    def compared(self, arms: Sequence[Arm], resamples: int) -> Compared:
        """By the AUC, with the paired bootstrap's p."""
        found = comparing.compare(_comparison(self._request, arms, resamples))
        areas = [run.auc_mean_of_folds for run in found.comparison.runs]
        places = combinations(range(len(arms)), 2)
        return Compared(
            scores=[Estimate(value=one.value, low=one.low, high=one.high, note=one.note) for one in areas],
            differences={
                place: (pair.tests.auc_difference, pair.p_holm.bootstrap)
                for place, pair in zip(places, found.comparison.pairs, strict=True)
            },
            warnings=found.warnings,
        )


class Segmentations:
    """Segmentations, by the trainers that there are for the networks."""

    score: ClassVar[str] = "Dice, mean of classes"

    def __init__(self, request: DatasetRequest, settings: Mapping[str, Any], key: str) -> None:
        from adnext_plugin.trainers.segmentation.plan import refuse_other_tasks
        from adnext_plugin.trainers.segmentation.variants import TRAINERS

        self._request, self._settings, self._key = with_nnunets_plans(request), settings, key
        folder = self._request.dataset_folder
        path = plans_file(folder, self._request.plans)
        self._plans = read_plans(require_file(path, "make it with nnUNetv2_plan_and_preprocess"))
        self._planned = configuration_of(self._plans, request.configuration, f"plans {self._request.plans}")
        dataset = read_object(folder / DATASET_FILE)
        refuse_other_tasks(self._planned, request.configuration, dataset)
        self._channels = len(image_names(dataset, DATASET_FILE))
        self._outputs = sum(name != "ignore" for name in dataset["labels"])
        self._trainers = {trainer.network_settings.name: trainer for trainer in TRAINERS.values()}

    def shape(self, network: str) -> Shape:
        """The plan's patch, rounded up to what the network can take."""
        from adnext_plugin.trainers.segmentation.plan import rounded_up

        trainer = self._trainer(network)
        settings = trainer.settings_with((self._settings, "--set"))
        patch = rounded_up(self._planned["patch_size"], settings.patch_scale, trainer.network_settings)
        return Shape(
            in_channels=self._channels,
            outputs=self._outputs,
            size=settings.patch_voxels or patch,
            batch=self._settings.get("batch_size") or self._planned["batch_size"],
            decoder=trainer.decoder,
        )

    def plan(self, network: str, weights: str | None, steps: float, costs: Mapping[str, Any]) -> Arm:
        """Ten epochs, or fewer of one step."""
        if steps < 1:
            raise SettingsError(
                f"--budget does not last for a single step of {network}; give at least {1 / steps:.2g} times as much"
            )
        trainer = self._trainer(network)
        epochs = min(EPOCHS, int(steps))
        of_epoch = int(steps // epochs)
        warmup = min(trainer.settings_with((self._settings, "--set")).warmup_epochs, epochs // WARMUP)
        length = {"epochs": epochs, "steps_per_epoch": of_epoch, "validation_steps": max(1, of_epoch // 10)}
        length |= {"batch_size": self.shape(network).batch, "warmup_epochs": warmup}
        content = _copied(self._plans, plans_name(network, self._key, weights), costs)
        planned = content["configurations"][self._request.configuration]
        planned[SEGMENTATION_BLOCK] = {"settings": _decided(length, self._settings)}
        run = _written(self._request, content, trainer.__name__)
        return Arm(run=run, settings=_decided(length, self._settings), steps=epochs * of_epoch)

    def is_trained(self, arm: Arm) -> bool:
        """Never: what is finished is found fold by fold, in no time."""
        return False

    def compared(self, arms: Sequence[Arm], resamples: int) -> Compared:
        """By the Dice of classes, with Wilcoxon's p."""
        found = compare_segmentations(_comparison(self._request, arms, resamples))
        places = combinations(range(len(arms)), 2)
        return Compared(
            scores=[classes[-1].mean for classes in found.runs.values()],
            differences={
                place: (pair.classes[-1].difference, pair.classes[-1].wilcoxon_p_holm)
                for place, pair in zip(places, found.pairs, strict=True)
            },
            warnings=found.warnings,
        )

    def _trainer(self, network: str) -> "type[ADNeXtSegmentationTrainer]":
        if network not in self._trainers:
            known = ", ".join(sorted(str(name) for name in self._trainers))
            raise SettingsError(f"{network} has no trainer of segmentation; networks that have one: {known}")
        return self._trainers[network]


def plans_name(network: str, key: str, weights: str | None) -> str:
    """Of an arm; other weights are another arm."""
    parts = ["Backbones", network, key]
    return "_".join([*parts, digest(weights)] if weights is not None else parts)


def digest(content: Any) -> str:
    """A few characters that are others for other content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:8]


def stored_costs(request: DatasetRequest, network: str, key: str) -> Mapping[str, Any] | None:
    """What a step cost when the same command ran before."""
    path = plans_file(request.dataset_folder, plans_name(network, key, None))
    return read_object(path).get(COSTS) if path.is_file() else None


def _copied(plans: Mapping[str, Any], name: str, costs: Mapping[str, Any]) -> dict[str, Any]:
    """Plans under another name, which share the prepared volumes."""
    return {**copy.deepcopy(dict(plans)), "plans_name": name, COSTS: dict(costs)}


def _written(request: DatasetRequest, plans: dict[str, Any], trainer: str) -> RunFolder:
    """Write plans; the folder of their run."""
    name = str(plans["plans_name"])
    write_json(plans, plans_file(request.dataset_folder, name))
    return RunFolder.of(request.dataset_folder.name, trainer, name, request.configuration)


def _decided(length: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """How long is trained, and what the user has settled otherwise."""
    return {**length, **settings}


def _comparison(request: DatasetRequest, arms: Sequence[Arm], resamples: int) -> comparing.Request:
    return comparing.Request(
        dataset=request.dataset,
        configuration=request.configuration,
        runs=tuple(arm.run.path.name for arm in arms),
        resamples=resamples,
    )
