"""From a scan to the network's input: the steps of a plan in order.

Every plan goes through `STEP_ORDER`, with what its own keys switch on; further steps stand where the plan, or the step
itself, puts them. Voxels are interpolated once, by `fit`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from adnext_plugin.errors import ImageError, RegistryError, SettingsError, UnknownNameError
from adnext_plugin.images import Volume
from adnext_plugin.plan import STEP_ORDER, Plan, PreprocessingSettings, StepChoice
from adnext_plugin.preprocessing.step import AnyStep, FittedStep, NoSettings, Scan, Step
from adnext_plugin.preprocessing.steps.alignment import Alignment, AlignmentSettings
from adnext_plugin.preprocessing.steps.bias_correction import BiasCorrection, BiasCorrectionSettings
from adnext_plugin.preprocessing.steps.brain_extraction import BrainExtraction, BrainExtractionSettings
from adnext_plugin.preprocessing.steps.clip import Clip, ClipSettings
from adnext_plugin.preprocessing.steps.crop import Crop
from adnext_plugin.preprocessing.steps.fit import Fit, FitSettings
from adnext_plugin.preprocessing.steps.reorient import Reorient
from adnext_plugin.preprocessing.steps.z_score import ZScore
from adnext_plugin.records import from_json, to_json
from adnext_plugin.registry import STEPS, load

OWN = (BrainExtraction, Reorient, BiasCorrection, Crop, Alignment, Clip, ZScore, Fit)


@dataclass(frozen=True, kw_only=True)
class PlannedStep:
    """A step with the settings that a plan gives it; `is_own` where every plan has it."""

    step: AnyStep
    settings: Any
    is_own: bool = True

    @property
    def identity(self) -> tuple[str, int, str]:
        """What cases depend on: name, version, settings."""
        return self.step.name, self.step.version, repr(sorted(to_json(self.settings).items()))

    def describe(self) -> str:
        """What is done to a scan, in words."""
        return self.step.describe(self.settings)


@dataclass(frozen=True, kw_only=True)
class NetworkInput:
    """A prepared scan: `image_czyx` of the input size, float16, and what steps have noted on the way."""

    image_czyx: np.ndarray
    properties: Mapping[str, Any]

    @property
    def volume_zyx(self) -> np.ndarray:
        """The first channel."""
        return self.image_czyx[0]


def prepare(
    volume: Volume, settings: PreprocessingSettings, mask_file: Path | None = None, further: Sequence[Volume] = ()
) -> NetworkInput:
    """All steps in order, but for those that are fitted on the training part.

    Args:
        volume: a brain, or a head with the mask of its brain, in any orientation.
        settings: what to do.
        mask_file: of the brain, on the scan's grid.
        further: other images of the same head on the same grid, each a channel. The first shows where the brain is.

    Raises:
        ImageError: the scan has no foreground, or a constant one, or cannot be aligned; or a step refuses it.
        SettingsError: a further step is unknown or does not do as it should.
    """
    scan = Scan.of(volume, mask_file, further)
    names = tuple(f"image {place}" for place in range(scan.images))
    for planned in steps_of(settings):
        assert isinstance(planned.step, Step)
        scan = planned.step.apply(scan, planned.settings)
        if not planned.is_own:
            names = _channels_after(planned, names)
            _check(scan, planned.step.name, len(names))
    return NetworkInput(image_czyx=scan.image_czyx.astype(np.float16), properties=scan.notes)


def steps_of(settings: PreprocessingSettings) -> tuple[PlannedStep, ...]:
    """What is done to a scan before it is stored; the last step is `fit`.

    Raises:
        UnknownNameError: no such step is installed.
        SettingsError: a step is planned with another version than is installed, or has no such setting.
    """
    own = {
        step.name: PlannedStep(step=step, settings=chosen)
        for step, chosen in zip((one() for one in OWN), _own_settings(settings), strict=True)
        if chosen is not None
    }
    further = [
        (place, PlannedStep(step=step, settings=chosen, is_own=False))
        for place, step, chosen in _further(settings)
        if isinstance(step, Step)
    ]
    steps = []
    for name in STEP_ORDER:
        steps += [own[name]] if name in own else []
        steps += [planned for place, planned in further if place == name]
    return tuple(steps)


def channels_of(settings: PreprocessingSettings, names: Sequence[str]) -> tuple[str, ...]:
    """What the channels of a prepared image are called, in their order.

    Args:
        settings: what scans go through.
        names: of the images of a case, as `dataset.json` has them.

    Raises:
        UnknownNameError, SettingsError: as `steps_of`.
    """
    found = tuple(names)
    for planned in steps_of(settings):
        found = _channels_after(planned, found)
    return found


def fitted_steps_of(settings: PreprocessingSettings) -> tuple[PlannedStep, ...]:
    """What is fitted on the training part of a fold and done to prepared images when they are loaded.

    Raises:
        UnknownNameError, SettingsError: as `steps_of`.
    """
    return tuple(
        PlannedStep(step=step, settings=chosen, is_own=False)
        for _, step, chosen in _further(settings)
        if isinstance(step, FittedStep)
    )


def resolved(settings: PreprocessingSettings) -> PreprocessingSettings:
    """The settings with all that a further step's defaults and version say, so that a plan does not change with them.

    Raises:
        UnknownNameError, SettingsError: as `steps_of`.
    """
    choices = [
        StepChoice(name=step.name, after=place, settings=to_json(chosen), version=step.version)
        for place, step, chosen in _further(settings)
    ]
    return replace(settings, steps=tuple(choices))


def preparation_in_words(plan: Plan) -> tuple[str, ...]:
    """What is done to every scan, a few words for each step; of a step that is not installed any more, its name."""
    settings = plan.preprocessing
    plain = replace(settings, steps=())
    try:
        steps, fitted = steps_of(settings), fitted_steps_of(settings)
        further: tuple[str, ...] = ()
    except (UnknownNameError, SettingsError, RegistryError):
        steps, fitted = steps_of(plain), ()
        further = tuple(f"{choice.name}, a further step that is not installed here" for choice in settings.steps)
    stored: tuple[str, ...]
    if plan.prepared_by == "nnunet":
        stored = ("nnU-Net's own preprocessing", steps_of(plain)[-1].describe())
    else:
        stored = tuple(planned.describe() for planned in steps)
    return (*stored, *(planned.describe() for planned in fitted), *further)


def load_step(name: str) -> AnyStep:
    """A registered step.

    Raises:
        UnknownNameError: there is none of that name.
        SettingsError: what is registered is no step, or lacks what a step must have.
    """
    found = load(STEPS, name)
    if not isinstance(found, type) or not issubclass(found, (Step, FittedStep)):
        raise SettingsError(f"step {name!r} must be a class derived from Step or FittedStep, but is {found!r}")
    try:
        step = found()
    except TypeError as error:  # an abstract method is missing
        raise SettingsError(f"step {name!r} is not complete: {error}") from error
    if getattr(step, "name", None) != name or not isinstance(getattr(step, "version", None), int):
        raise SettingsError(f"step {name!r}: {found.__qualname__} needs name = {name!r} and a whole number as version")
    return step


def _own_settings(settings: PreprocessingSettings) -> Iterator[Any]:
    """What a plan's own keys mean for the steps of `OWN`; None switches a step off."""
    method, is_hdbet = settings.brain_extraction, settings.brain_extraction == "hdbet"
    yield (
        None
        if method == "none"
        else BrainExtractionSettings(
            method=method,
            hdbet_folds=settings.hdbet_folds if is_hdbet else None,
            hdbet_mirroring=settings.hdbet_mirroring if is_hdbet else None,
        )
    )
    yield NoSettings()
    yield (
        None
        if settings.bias_correction == "none"
        else BiasCorrectionSettings(shrink_factor=settings.n4_shrink_factor, iterations=settings.n4_iterations)
    )
    yield NoSettings()
    yield None if settings.alignment == "none" else AlignmentSettings(kind=settings.alignment)
    yield None if settings.clip_percentiles is None else ClipSettings(percentiles=settings.clip_percentiles)
    yield NoSettings() if settings.z_score else None
    yield FitSettings(
        spacing_mm=settings.spacing_mm,
        input_size_voxels=settings.input_size_voxels,
        fit=settings.fit,
        interpolation=settings.interpolation,
    )


def _further(settings: PreprocessingSettings) -> Iterator[tuple[str, AnyStep, Any]]:
    """The plan's further steps with what they stand after and their settings, in the order given."""
    for choice in settings.steps:
        step = load_step(choice.name)
        if choice.version not in (None, step.version):
            raise SettingsError(
                f"step {choice.name!r} is planned with version {choice.version}, but version {step.version} is "
                "installed; plan and preprocess the dataset again, or install the package as it was"
            )
        chosen: Any = from_json(step.settings_type, choice.settings, f"step {choice.name}, settings")
        yield _place(step, choice), step, chosen


def _place(step: AnyStep, choice: StepChoice) -> str:
    if isinstance(step, FittedStep):
        if choice.after not in (None, "fit"):
            raise SettingsError(
                f"step {step.name!r} is fitted on prepared images, so that it stands after 'fit', not {choice.after!r}"
            )
        return "fit"
    assert isinstance(step, Step)
    place = choice.after or step.after
    if place not in STEP_ORDER[:-1]:
        raise SettingsError(
            f"step {step.name!r} cannot stand after {place!r}, for voxels are interpolated once, by 'fit'; put it "
            f"after one of {', '.join(STEP_ORDER[:-1])}"
        )
    return place


def _channels_after(planned: PlannedStep, names: tuple[str, ...]) -> tuple[str, ...]:
    assert isinstance(planned.step, Step)
    found = tuple(planned.step.channels(names, planned.settings))
    if not found or len(set(found)) < len(found):
        raise SettingsError(f"step {planned.step.name!r} must name each channel that it makes, but named {list(found)}")
    return found


def _check(scan: Any, name: str, channels: int) -> None:
    if not isinstance(scan, Scan):
        raise SettingsError(f"step {name!r} must return a Scan, but returned {type(scan).__name__}")
    if len(scan.image_czyx) != channels:
        raise SettingsError(f"step {name!r} names {channels} channels, but made {len(scan.image_czyx)}")
    if scan.image_czyx.ndim != 4 or not np.isfinite(scan.image_czyx).all():
        raise ImageError(f"step {name!r} made an image that is not (C, Z, Y, X), or not finite everywhere")
