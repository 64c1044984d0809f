"""Fill in what is masked, and tell views apart, by one encoder at once.

    scan ─ run's augmentation ─ the masked objective's views ─┐
         └ contrast_augmentation, twice ─ two views ──────────┤ stacked, (V + 2, C, Z, Y, X)
                                                              ▼
    masked objective's network, first V views                 weight · its loss
    its encoder and a projector beside it, last two views   + weight · contrast

The masked objective is any registered one that builds a network around an encoder: it keeps its own masks, decoder,
scores and report. Ours, after what did best at classification in FOMO25 (arXiv 2604.11679): hybrids of both.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import nn

from adnext_plugin.batch import Batch, Change, runs_on_device
from adnext_plugin.errors import SettingsError
from adnext_plugin.named_transforms import named_transforms
from adnext_plugin.plan import Plan
from adnext_plugin.pretraining.contrast.objective import ContrastiveObjective
from adnext_plugin.pretraining.gather import share_of_all_processes
from adnext_plugin.pretraining.hybrid.options import HybridOptions
from adnext_plugin.pretraining.named_changes import NamedChange
from adnext_plugin.pretraining.objective import Evidence, Objective, Seeds, Steps, objective_of
from adnext_plugin.pretraining.projection import projector_for
from adnext_plugin.records import to_json
from adnext_plugin.settings import PretrainingSettings

Value = TypeVar("Value")

VIEWS = 2  # of contrast, the last ones


class StackedViews:
    """What the masked objective is fed and after it the two views of contrast, (V + 2, C, Z, Y, X)."""

    def __init__(self, masked: Change | None, contrast: Change) -> None:
        self._masked, self._contrast = masked, contrast
        self.runs_on_device = runs_on_device(masked) and runs_on_device(contrast)

    def __call__(self, image_czyx: torch.Tensor, seed: int) -> torch.Tensor:
        """Return them; equal seeds give equal views."""
        own, others = (int(one) for one in np.random.SeedSequence(seed).generate_state(2))
        fed = image_czyx if self._masked is None else self._masked(image_czyx, own)
        fed = fed[None] if fed.ndim == image_czyx.ndim else fed
        views = self._contrast(image_czyx, others)
        if fed.shape[1:] != views.shape[1:]:
            raise SettingsError(
                f"the masked objective is fed {list(fed.shape[2:])} voxels, and contrast the whole scan of "
                f"{list(views.shape[2:])}; let it take whole scans, too"
            )
        return torch.cat([fed, views])


class HybridObjective(Objective[HybridOptions]):
    """Fill in masked patches and tell views apart at once (every encoder that the masked objective takes)."""

    settings = PretrainingSettings(objective="hybrid", batch_size=16)
    options_type = HybridOptions
    score_names: ClassVar[dict[str, str]] = {"reconstruction": "reconstruction loss", "matched": "views matched"}

    def __init__(self, options: HybridOptions) -> None:
        super().__init__(options)
        asked = PretrainingSettings(objective=options.masked, options=options.masked_options)
        self._masked: Objective[Any] = objective_of(asked, f"masked_options of {options.masked}")
        self._contrast = ContrastiveObjective(options)
        self.calls_network_once = self._masked.calls_network_once  # contrast calls encoder and projector

    # ------------------------------------------------------------------ before training

    def settled(
        self, plan: Plan, in_channels: int, settings: PretrainingSettings, device: torch.device
    ) -> HybridOptions:
        """What either of the two settles.

        Raises:
            SettingsError: scans, network and options do not go together, or the augmentation for contrast turns what
                cannot be turned.
            UnknownNameError: there is no augmentation of the name for contrast.
        """
        named_transforms(self.options.contrast_augmentation, plan.preprocessing.input_size_voxels)
        self._contrast.settled(plan, in_channels, settings, device)
        found = to_json(self._masked.settled(plan, in_channels, settings, device))
        return replace(self.options, masked_options=found)

    def build(self, plan: Plan, in_channels: int) -> nn.Module:
        """The masked objective's network, with a projector beside it.

        Raises:
            SettingsError: either cannot be built around the plan's network.
        """
        network = self._masked.build(plan, in_channels)
        if hasattr(network, "projector"):
            raise SettingsError(f"masked: {self.options.masked!r} has a projector of its own and cannot be a part")
        widths, norm = self.options.projector_widths, self.options.projector_norm
        network.projector = projector_for(plan, in_channels, widths, norm)
        return network

    def views(self, augmentation: Change) -> Change:
        """Of both, one after the other."""
        return StackedViews(self._masked.views(augmentation), self._contrast.views(self._change()))

    def unchanged_views(self, augmentation: Change) -> Change:
        """Of both, one after the other."""
        contrast = self._contrast.unchanged_views(self._change())
        return StackedViews(self._masked.unchanged_views(augmentation), contrast)

    def fitted(self, training_rows: pd.DataFrame) -> Self:
        """Both, knowing the rows.

        Raises:
            SettingsError: one of them cannot learn from these people.
        """
        known = type(self)(self.options)
        known._masked = self._masked.fitted(training_rows)
        known._contrast = self._contrast.fitted(training_rows)
        return known

    def columns(self) -> tuple[str, ...]:
        """Those of both."""
        return tuple(dict.fromkeys([*self._contrast.columns(), *self._masked.columns()]))

    def labels(self, rows: pd.DataFrame) -> np.ndarray:
        """Those of contrast, then those of the masked objective, (N, K)."""
        of_contrast, of_masked = self._contrast.labels(rows), self._masked.labels(rows)
        return of_contrast if of_masked is None else np.concatenate([of_contrast, of_masked], axis=1)

    def notes(self) -> dict[str, Any]:
        """Those of the masked objective."""
        return self._masked.notes()

    # ------------------------------------------------------------------ steps and epochs

    def losses(self, network: nn.Module, batch: Batch, seeds: Seeds) -> torch.Tensor:
        """Both losses of each scan, weighed."""
        masked, contrast = self._parts(batch)
        return self._weighed(
            self._masked.losses(network, masked, seeds), self._contrast.losses(network, contrast, seeds)
        )

    def loss(self, network: nn.Module, batch: Batch, seeds: Seeds) -> torch.Tensor:
        """Both losses of a batch, weighed."""
        masked, contrast = self._parts(batch)
        weight = self._masked.weight(masked)
        reconstruction = self._masked.loss(network, masked, seeds)
        if weight is not None:
            reconstruction = reconstruction * share_of_all_processes(weight)
        return self._weighed(reconstruction, self._contrast.loss(network, contrast, seeds))

    def weight(self, batch: Batch) -> None:
        """The loss is that of all processes."""

    def outputs(self, network: nn.Module, batch: Batch, seeds: Seeds) -> dict[str, torch.Tensor]:
        """Those of both, under names that say whose they are."""
        masked, contrast = self._parts(batch)
        return {
            **_named("masked", self._masked.outputs(network, masked, seeds)),
            **_named("contrast", self._contrast.outputs(network, contrast, seeds)),
        }

    def scores(self, outputs: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, float]:
        """The weighed loss of all held-out cases, the reconstruction's alone, and what contrast scores."""
        masked = self._masked.scores([_of("masked", output) for output in outputs])
        contrast = self._contrast.scores([_of("contrast", output) for output in outputs])
        named = {"matched": contrast["matched"], "reconstruction": masked["loss"]}
        return {
            "loss": self._weighed(masked["loss"], contrast["loss"]),
            **named,
            **_named("masked", masked),
            **_named("contrast", contrast),
        }

    # ------------------------------------------------------------------ at the end

    def report(self, network: nn.Module, evidence: Evidence, folder: Path) -> dict[str, Any]:
        """What both report, each in its own figure and figures."""
        return {
            **self._masked.report(network, self._evidence(evidence, "masked"), folder),
            **self._contrast.report(network, self._evidence(evidence, "contrast"), folder),
        }

    # ------------------------------------------------------------------ private

    def _change(self) -> Change:
        return NamedChange(self.options.contrast_augmentation, stream=0)

    def _weighed(self, reconstruction: Any, contrast: Any) -> Any:
        return self.options.reconstruction_weight * reconstruction + self.options.contrast_weight * contrast

    def _parts(self, batch: Batch) -> tuple[Batch, Batch]:
        """The batch as the masked objective and as contrast know it: with their own views and labels."""
        fed, views = batch.images[:, :-VIEWS], batch.images[:, -VIEWS:]
        columns = len(self._contrast.options.columns)
        labels, others = batch.covariates[:, :columns], batch.covariates[:, columns:]
        masked = batch._replace(images=fed[:, 0] if fed.shape[1] == 1 else fed, covariates=others)
        return masked, batch._replace(images=views, covariates=labels)

    def _evidence(self, evidence: Evidence, part: str) -> Evidence:
        """What there is to look at, as one of the two knows it."""
        place = ("masked", "contrast").index(part)

        def steps_of(steps: Steps) -> Steps:
            return _Steps(steps, lambda batch: self._parts(batch)[place])

        return Evidence(
            scores=None if evidence.scores is None else _of(part, evidence.scores),
            held_out=steps_of(evidence.held_out),
            training=steps_of(evidence.training),
            shown=steps_of(evidence.shown),
        )


@dataclass(frozen=True)
class _Steps:
    """Steps with each batch changed; can be gone through again."""

    steps: Steps
    change: Callable[[Batch], Batch]

    def __iter__(self) -> Iterator[tuple[Batch, Seeds]]:
        for batch, seeds in self.steps:
            yield self.change(batch), seeds


def _named(part: str, values: Mapping[str, Value]) -> dict[str, Value]:
    return {f"{part} {name}": value for name, value in values.items()}


def _of(part: str, values: Mapping[str, Value]) -> dict[str, Value]:
    prefix = f"{part} "
    return {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
