"""Steps that are fitted on the training part of a fold, at work on prepared images; the file of what they learned."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, overload

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from adnext_plugin.errors import SettingsError, WeightsError
from adnext_plugin.files import replacing, require_file
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.chain import PlannedStep, fitted_steps_of
from adnext_plugin.preprocessing.grid.geometry import fit_stock_volume
from adnext_plugin.preprocessing.step import FittedStep, State

SEPARATOR = "/"  # between step and array in the file


@dataclass(frozen=True, kw_only=True, eq=False)
class FittedSteps:
    """The fitted steps of a plan, in order, with what each has learned; called with an image, they change it."""

    steps: tuple[PlannedStep, ...]
    states: tuple[State, ...]

    def __call__(self, image_czyx: np.ndarray) -> np.ndarray:
        """The changed image (C, Z, Y, X) of a prepared one, float32.

        Raises:
            SettingsError: a step changes its shape, or makes what is not finite.
        """
        for planned, state in zip(self.steps, self.states, strict=True):
            changed = _fitted(planned).apply(image_czyx, planned.settings, state)
            if changed.shape != image_czyx.shape or not np.isfinite(changed).all():
                raise SettingsError(
                    f"step {planned.step.name!r} made an image of shape {changed.shape} of one of {image_czyx.shape}, "
                    "or one that is not finite everywhere"
                )
            image_czyx = changed
        return image_czyx

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """All that was learned, by step and name."""
        return {
            f"{planned.step.name}{SEPARATOR}{name}": array
            for planned, state in zip(self.steps, self.states, strict=True)
            for name, array in state.items()
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class StoredToInput:
    """What happens to a stored image when it is loaded.

    `stock_spacing_mm` (z, y, x) is that of images that nnU-Net's own preprocessing has stored, in any size; None of
    images of the input size.
    """

    settings: PreprocessingSettings
    stock_spacing_mm: tuple[float, ...] | None = None
    fitted: FittedSteps | None = None

    def __call__(self, image_czyx: np.ndarray) -> np.ndarray:
        """The network's input of a stored image (C, Z, Y, X), float32."""
        if self.stock_spacing_mm is not None:
            fitted_zyx = fit_stock_volume(image_czyx[0], self.stock_spacing_mm, self.settings)
            # rounded like images that are stored ready, so that fitted steps see the same in training and prediction
            image_czyx = fitted_zyx[None].astype(np.float16).astype(np.float32)
        return image_czyx if self.fitted is None else self.fitted(image_czyx)


class Images(Protocol):
    """Images that are read when asked for."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> np.ndarray: ...


def fit_steps(settings: PreprocessingSettings, training: Images) -> FittedSteps | None:
    """Fit a plan's fitted steps, each on what those before it make of the images; None where the plan has none.

    Args:
        settings: of the plan.
        training: prepared images (C, Z, Y, X) of the training part and of no others.

    Raises:
        SettingsError: a step does not return arrays by name.
    """
    steps = fitted_steps_of(settings)
    fitted = FittedSteps(steps=(), states=())
    for planned in steps:
        state = _fitted(planned).fit(_Changed(training, fitted), planned.settings)
        fitted = FittedSteps(
            steps=(*fitted.steps, planned), states=(*fitted.states, _checked(state, planned.step.name))
        )
    return fitted if steps else None


def with_states(settings: PreprocessingSettings, arrays: Mapping[str, np.ndarray], where: str) -> FittedSteps | None:
    """A plan's fitted steps with what they have learned before; None where the plan has none.

    Args:
        settings: of the plan.
        arrays: as `FittedSteps.arrays`.
        where: the file, for messages.

    Raises:
        WeightsError: the arrays are not those of the plan's steps.
    """
    steps = fitted_steps_of(settings)
    states: dict[str, dict[str, np.ndarray]] = {planned.step.name: {} for planned in steps}
    for key, array in arrays.items():
        step, _, name = key.partition(SEPARATOR)
        if step not in states:
            raise WeightsError(f"{where} is of step {step!r}, which the plan does not have; train again")
        states[step][name] = array
    empty = [step for step, state in states.items() if not state]
    if empty:
        raise WeightsError(f"{where} does not say what step {empty[0]!r} has learned; train again")
    return FittedSteps(steps=steps, states=tuple(states.values())) if steps else None


def write_states(fitted: FittedSteps, path: Path) -> None:
    """Write what was learned, so that a reader sees the old file or the whole new one."""
    with replacing(path) as temporary:
        arrays = {name: np.array(array, order="C") for name, array in fitted.arrays.items()}
        temporary.write_bytes(safetensors.numpy.save(arrays))


def read_states(path: Path) -> dict[str, np.ndarray]:
    """What was learned, as `FittedSteps.arrays`.

    Raises:
        PathsError: there is no such file.
        WeightsError: it is damaged.
    """
    require_file(path, "it holds what the plan's fitted steps have learned; train the fold again")
    try:
        arrays: dict[str, np.ndarray] = safetensors.numpy.load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is damaged ({error}); train the fold again") from error
    return arrays


class _Changed(Sequence[np.ndarray]):
    """Images as the steps so far make them, each read and made when asked for."""

    def __init__(self, images: Images, fitted: FittedSteps) -> None:
        self._images = images
        self._fitted = fitted

    def __len__(self) -> int:
        return len(self._images)

    @overload
    def __getitem__(self, index: int) -> np.ndarray: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[np.ndarray]: ...
    def __getitem__(self, index: int | slice) -> np.ndarray | Sequence[np.ndarray]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        return self._fitted(self._images[index].astype(np.float32))


def _fitted(planned: PlannedStep) -> FittedStep:
    assert isinstance(planned.step, FittedStep)
    return planned.step


def _checked(state: State, name: str) -> State:
    if not isinstance(state, Mapping) or not state or not all(isinstance(one, np.ndarray) for one in state.values()):
        raise SettingsError(f"step {name!r}: fit must return arrays by name, and at least one")
    return dict(state)
