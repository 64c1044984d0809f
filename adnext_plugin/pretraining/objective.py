"""What an encoder can be pre-trained to do: the protocol of the entry-point group `adnext.objectives`.

`trainers.self_supervised` owns the loop, the corpus, checkpoints and the summary of a run; an objective says what is
built around the encoder, what is fed to it, what it is told to do, and how one sees whether it learned anything.

    before training   settled → build; fitted → labels; views
    each step         loss, on a batch of views and the seeds of its cases
    each epoch        outputs of every held-out batch → scores → rank
    at the end        report

An objective holds its options and what `fitted` found out, never a network, and never anything random that it carries
from step to step: whatever it draws comes from the seeds it is given, which are a function of (seed, epoch, case). So
any objective resumes to the bit.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import nn

from adnext_plugin.batch import Batch, Change
from adnext_plugin.errors import SettingsError, nearest_names
from adnext_plugin.plan import Plan
from adnext_plugin.records import from_json, record
from adnext_plugin.registry import OBJECTIVES, brought_by, load, registered_names
from adnext_plugin.settings import PretrainingSettings

Options = TypeVar("Options")
Seeds = Sequence[
    tuple[int, int, int]
]  # of each case of a batch: the run's seed, epoch + 1 (0: fixed), the case's index
Steps = Iterable[tuple[Batch, Seeds]]  # batches of unchanged cases under fixed seeds; can be gone through again


@record
class NoOptions:
    """Of an objective that leaves nothing to choose."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a report may look at. Batches lie on the network's device.

    `scores` are those of the held-out cases, from all processes; None, and `held_out` empty, where none are held out.
    `training` are the cases trained on, and `shown` a few to draw, held-out ones where there are any.
    """

    scores: Mapping[str, float] | None
    held_out: Steps
    training: Steps
    shown: Steps


class Objective(ABC, Generic[Options]):
    """One way to pre-train an encoder. Registered by name; made anew for every run.

    How to say what:
        two views of a scan (contrast): `views` draws both from the case's seed and stacks them, (2, C, Z, Y, X).
        input unlike the answer (augmentation reversed): `views` stacks the changed image and the one to restore.
        labels (age, sex, volumes): `columns` names them, `fitted` sees the training rows of subjects.csv, `labels`
            makes numbers of rows, NaN where one is unknown, and they arrive as `batch.covariates`.
        losses that belong to a batch, not to a case: override `loss`; to score all held-out cases together, `outputs`
            and `scores`. Across processes, `loss` gathers with `torch.distributed.nn`, which hands gradients back.
        token networks: `build` takes any registered network's encoder apart; masks are drawn from `seeds`.
        two objectives at once: build one's network and put what the other needs beside it, stack their views one after
            the other, and weigh the two losses, each on its own slice of the views (`pretraining.hybrid`).

    Args:
        options: an `options_type`, checked.
    """

    settings: ClassVar[PretrainingSettings]  # those of its paper; `objective` is its own name
    options_type: ClassVar[type]
    score_names: ClassVar[dict[str, str]] = {}  # what is logged of an epoch besides losses, and how it is called
    calls_network_once = False  # whether `loss` calls the network itself once, so that it may be recorded as a graph

    def __init__(self, options: Options) -> None:
        self.options = options

    # ------------------------------------------------------------------ before training

    def settled(self, plan: Plan, in_channels: int, settings: PretrainingSettings, device: torch.device) -> Options:
        """Options with what had been left open decided, and written down with the run; by default all as they are.

        Raises:
            SettingsError: options, network and input do not go together.
        """
        return self.options

    @abstractmethod
    def build(self, plan: Plan, in_channels: int) -> nn.Module:
        """The network to train, with fresh weights from torch's global generator.

        Its attribute `encoder` must be that of the plan's registered network, so that a classifier takes it over;
        whatever else it has, a decoder or a projector, is dropped then, and said to be.

        Raises:
            SettingsError: the plan's network cannot be pre-trained this way.
        """

    def views(self, augmentation: Change) -> Change:
        """What a training image becomes, given the run's augmentation: by default that."""
        return augmentation

    def unchanged_views(self, augmentation: Change) -> Change | None:
        """The like of `views` for held-out images, whose seeds never change; by default the image itself.

        Args:
            augmentation: the run's; for what can be judged only on changed images, such as whether two views of a scan
                are told from those of others.
        """
        return None

    def fitted(self, training_rows: pd.DataFrame) -> Self:
        """This objective, knowing the rows of subjects.csv that are trained on; by default it does not care.

        Raises:
            SettingsError: a column that it needs is not there, or too little in it.
        """
        return self

    def columns(self) -> tuple[str, ...]:
        """Columns of subjects.csv that `fitted` and `labels` read; a run is bound to what is in them."""
        return ()

    def labels(self, rows: pd.DataFrame) -> np.ndarray | None:
        """What the loss must know of cases besides their images, (N, K) float32; None: nothing."""
        return None

    # ------------------------------------------------------------------ steps and epochs

    @abstractmethod
    def losses(self, network: nn.Module, batch: Batch, seeds: Seeds) -> torch.Tensor:
        """Loss of each case, (B,).

        Args:
            network: what `build` returned.
            batch: on the network's device; `images` are what `views` or `unchanged_views` made.
            seeds: of the batch's cases.
        """

    def loss(self, network: nn.Module, batch: Batch, seeds: Seeds) -> torch.Tensor:
        """Loss of a training batch, a scalar; by default the mean over its cases."""
        return self.losses(network, batch, seeds).mean()

    def weight(self, batch: Batch) -> torch.Tensor | None:
        """What `loss` is a mean over: by default the number of cases. So parts of a batch add up to the whole of it.

        None: the loss is that of the batches of all processes already, and no batch can be cut into parts.
        """
        return torch.full((), float(len(batch.indices)), device=batch.images.device)

    def outputs(self, network: nn.Module, batch: Batch, seeds: Seeds) -> dict[str, torch.Tensor]:
        """What `scores` needs of a held-out batch, on the CPU; by default `losses`, in float32."""
        return {"losses": self.losses(network, batch, seeds).float().cpu()}

    def scores(self, outputs: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, float]:
        """`loss` and the scores of `score_names` from the outputs of all held-out batches; by default the mean loss."""
        return {"loss": float(torch.cat([output["losses"] for output in outputs]).mean())}

    def rank(self, scores: Mapping[str, float]) -> tuple[float, float]:
        """What epochs are compared by, the larger the better; by default the lower loss."""
        return -scores["loss"], 0.0

    # ------------------------------------------------------------------ at the end

    @abstractmethod
    def report(self, network: nn.Module, evidence: Evidence, folder: Path) -> dict[str, Any]:
        """Draw what was learned into `folder` and return figures for the summary, beside what trivial guesses get.

        It is called without gradients, the network in eval mode, and in the first process only.

        Returns:
            JSON, nothing in it about any one person; empty where nobody was held out.
        """

    def notes(self) -> dict[str, Any]:
        """What a checkpoint must say for its outputs to be read, such as the scale of labels."""
        return {}


def find_objective(name: str) -> type[Objective[Any]]:
    """An objective by name.

    Raises:
        UnknownNameError: there is none.
        SettingsError: what is registered is something else.
    """
    found = load(OBJECTIVES, name)
    if not (isinstance(found, type) and issubclass(found, Objective)):
        (package,) = brought_by(OBJECTIVES, name)
        raise SettingsError(f"objective {name!r} of the package {package} is no {Objective.__name__}: {found!r}")
    return found


def objective_of(settings: PretrainingSettings, where: str) -> Objective[Any]:
    """The objective that settings ask for, with its options checked.

    Args:
        settings: of the run.
        where: the settings stand, for messages.

    Raises:
        UnknownNameError: there is no such objective.
        SettingsError: none is named, or it has no such option or value.
    """
    if settings.objective is None:
        known = ", ".join(registered_names(OBJECTIVES))
        raise SettingsError(
            f"{where}: no objective is named; give one (--set objective=NAME, or in the preset), of {known}"
        )
    kind = find_objective(settings.objective)
    options = {field.name for field in fields(kind.options_type)}
    for name in settings.options:
        if name not in options:
            known_names = [*options, *(field.name for field in fields(settings))]
            raise SettingsError(f"{where}: unknown key {name!r}{nearest_names(name, known_names)}")
    return kind(from_json(kind.options_type, settings.options, where))
