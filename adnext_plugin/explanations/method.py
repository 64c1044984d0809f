"""Which voxels an answer rests on: what a method is, and the network that it explains.

A method maps (network, image, target) to one number a voxel. Each is a class declared under the entry points
`adnext.explanations`, one a file.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from adnext_plugin.errors import SettingsError, UnknownNameError, nearest_names
from adnext_plugin.memory_shortage import FOR_PREDICTION, memory_that_may_run_out
from adnext_plugin.records import from_json, record
from adnext_plugin.registry import EXPLANATIONS, load, registered_names
from adnext_plugin.task import Task

Target = str | int | None
Progress = Callable[[int, int], None]  # is told how much is done, of how much

SMALLER = f"let the method take fewer images at once (its setting batch_size, if it has one), {FOR_PREDICTION}"


@record
class NoSettings:
    """Of a method that leaves no choice."""


@dataclass(frozen=True, kw_only=True)
class ExplainedNetwork:
    """A network that answers about one person, put into evaluation mode.

    `network` maps images (B, C, Z, Y, X), and covariates (B, N) where it takes some, to outputs (B, K) on `device`.
    `image_shape` is (C, Z, Y, X) of what goes in. `covariates_1n` are the person's, float32. `arithmetic` is entered
    for each forward pass and for what is differentiated of it.
    """

    network: nn.Module
    task: Task
    image_shape: tuple[int, int, int, int]
    covariates_1n: torch.Tensor | None = None
    arithmetic: Callable[[], AbstractContextManager[None]] = nullcontext

    def __post_init__(self) -> None:
        self.network.eval()
        if self.task.kind == "unlabelled":
            raise SettingsError("a network that was pre-trained answers nothing yet, so there is nothing to explain")

    @property
    def device(self) -> torch.device:
        """Where the network computes; that of a network without parameters is the CPU."""
        first = next(self.network.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    def tensor(self, image_czyx: np.ndarray) -> torch.Tensor:
        """An image as a batch of one, float32, on the network's device."""
        return torch.from_numpy(np.array(image_czyx, dtype=np.float32))[None].to(self.device)

    def scores(self, images_bczyx: torch.Tensor, target: int) -> torch.Tensor:
        """How much speaks for a target, (B,); gradients flow.

        Of a class its log-odds, ln p - ln(1 - p), which go on changing where a probability is close to 0 or 1; with two
        classes they are the difference of the logits. Of a quantity the network's output.
        """
        inputs = [images_bczyx]
        if self.covariates_1n is not None:
            inputs.append(self.covariates_1n.to(self.device).expand(len(images_bczyx), -1))
        with self.arithmetic():
            outputs = self.network(*inputs).float()
        if self.task.kind == "regression":
            return outputs[:, 0]
        others = [index for index in range(outputs.shape[1]) if index != target]
        return outputs[:, target] - outputs[:, others].logsumexp(dim=1)

    @torch.no_grad()
    def called(self, image_bczyx: torch.Tensor) -> str | None:
        """The class that is the most probable one of an image; None of a quantity."""
        if self.task.kind == "regression":
            return None
        scores = [float(self.scores(image_bczyx, index)[0]) for index in range(len(self.task.classes))]
        return self.task.classes[int(np.argmax(scores))]

    def target_index(self, target: Target) -> int:
        """Which output a target is.

        Args:
            target: a class by name or index; None is the last class, which of two is the positive one, and the quantity
                of a regression, which can also be named.

        Raises:
            UnknownNameError: there is no such class.
        """
        names = target_names(self.task)
        if target is None:
            return len(names) - 1
        if isinstance(target, str):
            if target not in names:
                raise UnknownNameError(f"the network knows no target {target!r}{nearest_names(target, names)}")
            return names.index(target)
        if not 0 <= target < len(names):
            raise UnknownNameError(f"the network has no output {target}; it has those of {', '.join(names)}, from 0 on")
        return target


def target_names(task: Task) -> tuple[str, ...]:
    """What the outputs of a network are called: classes, or the quantity."""
    return task.classes if task.kind == "classification" else (task.column,)


def target_name(task: Task, wanted: str | None, who: str) -> str:
    """The class or quantity that is asked for, or the last of them.

    Args:
        task: of the network.
        wanted: its name; None for the last.
        who: has the network, for the message.

    Raises:
        UnknownNameError: there is no such target.
    """
    names = target_names(task)
    if wanted is not None and wanted not in names:
        raise UnknownNameError(f"{who} knows no target {wanted!r}{nearest_names(wanted, names)}")
    return wanted or names[-1]


class Explanation(ABC):
    """A method. Call it with a network, an image and a target.

    `name` is that of the entry point. `settings_type` is a record with a default for every field.
    """

    name: ClassVar[str]
    settings_type: ClassVar[type] = NoSettings

    def __init__(self, settings: Any = None) -> None:
        self.settings = self.settings_type() if settings is None else settings

    def __call__(
        self, network: ExplainedNetwork, image: np.ndarray, target: Target = None, progress: Progress | None = None
    ) -> np.ndarray:
        """How much each voxel speaks for the target, (Z, Y, X) float32, in the grid of the image.

        Args:
            network: to be explained.
            image: prepared as the network was trained, (C, Z, Y, X), or (Z, Y, X) of one channel; not modified.
            target: a class or a quantity, as in `ExplainedNetwork.target_index`.
            progress: is told how far long work has come.

        Raises:
            UnknownNameError: there is no such target.
            SettingsError: the image is not of the shape that the network takes, or not finite; settings do not fit it.
            AdnextError: memory ran out.
        """
        image_czyx = image[None] if image.ndim == 3 else image
        if image_czyx.shape != tuple(network.image_shape):
            raise SettingsError(
                f"the image has shape {image.shape}, but the network takes {tuple(network.image_shape)} "
                "(channel, z, y, x); prepare it as the network's training data were"
            )
        if not np.isfinite(image_czyx).all():
            raise SettingsError("the image has voxels that are not finite; is the scan damaged?")
        index = network.target_index(target)
        with memory_that_may_run_out(SMALLER):
            map_zyx = np.asarray(self.compute(network, image_czyx, index, progress or _say_nothing), dtype=np.float32)
        if map_zyx.shape != image_czyx.shape[1:] or not np.isfinite(map_zyx).all():
            raise SettingsError(
                f"explanation {self.name!r} gave a map of shape {map_zyx.shape} of an image of "
                f"{image_czyx.shape[1:]}, or one that is not finite everywhere"
            )
        return map_zyx

    def cost_in_words(self, image_czyx: np.ndarray) -> str | None:
        """What a map of such an image takes, where that is much; is said before it starts."""
        return None

    @abstractmethod
    def compute(self, network: ExplainedNetwork, image_czyx: np.ndarray, target: int, progress: Progress) -> np.ndarray:
        """The map (Z, Y, X) of a checked image and target; what `__call__` gives."""


def explanation_names() -> list[str]:
    """Names of all methods that are installed, sorted."""
    return registered_names(EXPLANATIONS)


def load_explanation(name: str, settings: Mapping[str, Any] | None = None) -> Explanation:
    """A method by name.

    Args:
        name: as registered.
        settings: fields of its settings that are not to be the default.

    Raises:
        UnknownNameError: there is none of that name; the message suggests the nearest.
        SettingsError: it has no such setting, or cannot take the value; or what is registered is no method.
    """
    found = load(EXPLANATIONS, name)
    if not isinstance(found, type) or not issubclass(found, Explanation):
        raise SettingsError(f"explanation {name!r} must be a class derived from Explanation, but is {found!r}")
    chosen: Any = from_json(found.settings_type, dict(settings or {}), f"explanation {name}, settings")
    try:
        return found(chosen)
    except TypeError as error:  # an abstract method is missing
        raise SettingsError(f"explanation {name!r} is not complete: {error}") from error


def _say_nothing(done: int, of: int) -> None:
    pass
