"""What a segmentation run is, written into nnU-Net's plans, so that prediction builds the same network."""

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from adnext_plugin.environment import settings_from_environment
from adnext_plugin.errors import AdnextError, SegmentationError
from adnext_plugin.networks.segmentation.build import FEWEST, Decoder, coarsest_stride, require_patch
from adnext_plugin.paths import BLOCK, SEGMENTATION_BLOCK
from adnext_plugin.plan import NetworkSettings, configuration_of
from adnext_plugin.records import from_json, record, to_json, with_overrides
from adnext_plugin.settings import AUTO, SegmentationSettings

CHANGEABLE_ON_RESUME = ("epochs", "pretrained_weights")


@record
class SegmentationPlan:
    """Network and settings of a run."""

    network: NetworkSettings
    decoder: Decoder
    settings: SegmentationSettings

    def with_settings(self, settings: SegmentationSettings) -> "SegmentationPlan":
        """The same network with other settings, whose options of the network it has."""
        network = replace(self.network, options={**self.network.options, **settings.network_options})
        return replace(self, network=network, settings=settings)


def plan_of_run(
    own: SegmentationPlan, plans: Mapping[str, Any], configuration: str, dataset_json: Mapping[str, Any]
) -> SegmentationPlan:
    """Combine what the trainer's class, the plans file and `ADNEXT_SETTINGS` say, the last first in authority.

    Args:
        own: of the trainer's class.
        plans: content of nnU-Net's plans file.
        configuration: such as 3d_fullres.
        dataset_json: content of dataset.json.

    Raises:
        SegmentationError: a setting is unknown or impossible, or the dataset is none that the networks can segment.
    """
    where = f"plans {plans.get('plans_name')}, configuration {configuration}"
    try:
        planned = configuration_of(plans, configuration, f"plans {plans.get('plans_name')}")
        refuse_other_tasks(planned, configuration, dataset_json)
        block = planned.get(SEGMENTATION_BLOCK, {})
        settings = with_overrides(own.settings, block.get("settings", {}), f"{where}, {SEGMENTATION_BLOCK}.settings")
        settings = with_overrides(settings, settings_from_environment(), "ADNEXT_SETTINGS")
        return own.with_settings(settings)
    except SegmentationError:
        raise
    except AdnextError as error:
        raise SegmentationError(str(error)) from error


def refuse_other_tasks(planned: Mapping[str, Any], configuration: str, dataset_json: Mapping[str, Any]) -> None:
    """Refuse what the networks are not for.

    Raises:
        SegmentationError: the dataset is one of people's labels, its labels are regions, or the configuration is 2D or
            refines the segmentation of another.
    """
    if BLOCK in dataset_json:
        raise SegmentationError(
            "this dataset has labels of people, and no segmentations to learn from; train with one of AD-NeXt's "
            "classifiers or regressors, or prepare a dataset with labelsTr by nnUNetv2_plan_and_preprocess"
        )
    if len(planned["patch_size"]) != 3:
        raise SegmentationError(f"configuration {configuration!r} is not 3D; use 3d_fullres")
    if planned.get("previous_stage") is not None:
        raise SegmentationError(
            f"configuration {configuration!r} refines the segmentation of {planned['previous_stage']}, for which these "
            "networks have no input; use 3d_fullres"
        )
    regions = [name for name, label in dataset_json.get("labels", {}).items() if isinstance(label, list | tuple)]
    if regions:
        raise SegmentationError(
            f"dataset.json defines {regions[0]!r} as a region, and these networks give each voxel one class; number "
            "the classes in dataset.json instead, or use nnU-Net's own trainers"
        )


def plans_of_run(plans: Mapping[str, Any], configuration: str, plan: SegmentationPlan) -> dict[str, Any]:
    """A copy of plans with the run's patch, batch and block.

    Raises:
        SegmentationError: the network cannot take the patch.
    """
    content = copy.deepcopy(dict(plans))
    planned = configuration_of(content, configuration, f"plans {plans.get('plans_name')}")
    settings = plan.settings
    try:
        patch = settings.patch_voxels or rounded_up(planned["patch_size"], settings.patch_scale, plan.network)
        require_patch(plan.network, patch)
    except AdnextError as error:
        raise SegmentationError(str(error)) from error
    content["configurations"][configuration] |= {
        "patch_size": list(patch),
        "batch_size": settings.batch_size or planned["batch_size"],
    }
    return with_block(content, configuration, plan)


def with_block(plans: Mapping[str, Any], configuration: str, plan: SegmentationPlan) -> dict[str, Any]:
    """A copy of plans that says what the run is."""
    content = copy.deepcopy(dict(plans))
    content["configurations"][configuration][SEGMENTATION_BLOCK] = to_json(plan)
    return content


def rounded_up(patch_voxels: list[int], scale: float, network: NetworkSettings) -> tuple[int, ...]:
    """The nearest larger patch that a network can take."""
    multiple = coarsest_stride(network)
    # a hair less, so that 1.1 × 160 is no more than 176
    return tuple(max(FEWEST, math.ceil(edge * scale / multiple - 1e-9)) * multiple for edge in patch_voxels)


def plan_in_configuration(configuration: Mapping[str, Any], where: str) -> SegmentationPlan | None:
    """The block of a configuration that a run has filled in; None where there is none.

    Raises:
        SettingsError: a value in it is unknown or of the wrong kind.
    """
    block = configuration.get(SEGMENTATION_BLOCK)
    if block is None or "network" not in block:
        return None
    return from_json(SegmentationPlan, block, f"{where}, {SEGMENTATION_BLOCK}")


def plan_to_go_on_with(saved: SegmentationPlan, where: str) -> SegmentationPlan:
    """The plan that a run continues with: its own, save for more or fewer epochs, if they are asked for now.

    Raises:
        SegmentationError: what is asked for now would make it another run.
    """
    try:
        asked = {name: value for name, value in settings_from_environment().items() if value != AUTO}
        settings = with_overrides(saved.settings, asked, "ADNEXT_SETTINGS")
    except AdnextError as error:
        raise SegmentationError(str(error)) from error
    before, now = to_json(saved.settings), to_json(settings)
    for name in now:
        if now[name] != before[name] and name not in CHANGEABLE_ON_RESUME:
            raise SegmentationError(
                f"{where} was trained with {name}={before[name]!r} and cannot continue with {name}={now[name]!r}; "
                "leave the setting out, or start anew without --c"
            )
    return replace(saved, settings=replace(settings, pretrained_weights=saved.settings.pretrained_weights))
