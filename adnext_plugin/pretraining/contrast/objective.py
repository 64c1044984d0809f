"""Tell views of a scan, and scans of people alike in age or sex, from those of others: y-aware contrast, and SimCLR.

Source: Dufumier et al. 2021, MICCAI; the recipe as in Dhinagar et al. 2023. Departures: prepared scans are standardised
already; every registered network will do, and DenseNet121 keeps the batch norm that ends its features.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from adnext_plugin.batch import Batch, Change, runs_on_device
from adnext_plugin.errors import SettingsError
from adnext_plugin.plan import Plan
from adnext_plugin.pretraining.columns import codes_in, numbers_in, require_known, words_in
from adnext_plugin.pretraining.contrast.figure import draw_contrast
from adnext_plugin.pretraining.contrast.options import ContrastiveOptions
from adnext_plugin.pretraining.contrast.y_aware import alike, losses
from adnext_plugin.pretraining.gather import rows_of_all_processes
from adnext_plugin.pretraining.nearest import coarse_voxels, errors_of_guesses_by
from adnext_plugin.pretraining.objective import Evidence, Objective, Seeds, Steps
from adnext_plugin.pretraining.projection import Projected, build_projected
from adnext_plugin.settings import PretrainingSettings

FIGURE = "similarities.png"
REMEDY = "import it with the scans, or train without: --set 'sigmas={}' --set 'categories=[]' is SimCLR"
Outputs = Mapping[str, torch.Tensor]


class TwoViews:
    """Two changed copies of an image, (2, C, Z, Y, X), each under a seed of its own."""

    def __init__(self, change: Change) -> None:
        self._change = change
        self.runs_on_device = runs_on_device(change)

    def __call__(self, image_czyx: torch.Tensor, seed: int) -> torch.Tensor:
        """Return the copies; equal seeds give equal copies."""
        seeds = np.random.SeedSequence(seed).generate_state(2)
        return torch.stack([self._change(image_czyx, int(one)) for one in seeds])


class ContrastiveObjective(Objective[ContrastiveOptions]):
    """Tell views of a scan, and people alike in age or sex, from others (y-aware contrast, SimCLR; every encoder)."""

    settings = PretrainingSettings(
        objective="contrastive",
        epochs=100,
        batch_size=64,
        optimizer="adam",
        learning_rate=1e-4,
        min_learning_rate=0.0,
        weight_decay=5e-5,
        betas=(0.9, 0.999),
        schedule="constant",
        warmup_epochs=0,
        augmentation="cutout",
    )
    options_type = ContrastiveOptions
    score_names: ClassVar[dict[str, str]] = {"matched": "views matched"}

    def __init__(self, options: ContrastiveOptions) -> None:
        super().__init__(options)
        self._words: dict[str, tuple[str, ...]] = {}

    # ------------------------------------------------------------------ before training

    def settled(
        self, plan: Plan, in_channels: int, settings: PretrainingSettings, device: torch.device
    ) -> ContrastiveOptions:
        """Make sure that there is something to contrast a scan with.

        Raises:
            SettingsError: batches are of one scan.
        """
        if settings.batch_size < 2:
            raise SettingsError("contrast is between the scans of a batch; give a batch_size of at least 2, got 1")
        return self.options

    def build(self, plan: Plan, in_channels: int) -> Projected:
        """The encoder of the plan's network, and a projector."""
        return build_projected(plan, in_channels, self.options.projector_widths, self.options.projector_norm)

    def views(self, augmentation: Change) -> Change:
        """Two views of each image."""
        return TwoViews(augmentation)

    def unchanged_views(self, augmentation: Change) -> Change:
        """Two views of each held-out image, too: there is nothing to tell apart in one."""
        return TwoViews(augmentation)

    def fitted(self, training_rows: pd.DataFrame) -> Self:
        """This objective, knowing which words the categories have.

        Raises:
            SettingsError: there is one person, or a column without anything known.
        """
        if training_rows["subject_id"].nunique() < 2:
            raise SettingsError(
                f"all {len(training_rows)} scans to train on are of one person; contrast needs at least two people"
            )
        known = type(self)(self.options)
        for column in self.options.sigmas:
            require_known(training_rows, column, ~np.isnan(numbers_in(training_rows, column)), "number", REMEDY)
        for column in self.options.categories:
            words = words_in(training_rows, column)
            require_known(training_rows, column, words != "", "word", REMEDY)
            known._words[column] = tuple(sorted({word for word in words if word}))
        return known

    def columns(self) -> tuple[str, ...]:
        """Those of the options, numbers first."""
        return self.options.columns

    def labels(self, rows: pd.DataFrame) -> np.ndarray:
        """Numbers, then categories as numbers, (N, K); NaN where one is unknown."""
        numbers = [numbers_in(rows, column) for column in self.options.sigmas]
        codes = [codes_in(rows, column, words) for column, words in self._words.items()]
        return np.stack([np.zeros(len(rows)), *numbers, *codes], axis=1)[:, 1:].astype(np.float32)

    # ------------------------------------------------------------------ steps and epochs

    def losses(self, network: nn.Module, batch: Batch, seeds: Seeds) -> torch.Tensor:
        """Loss of each scan among those of the batch."""
        return self._losses(*self._projections(network, batch), batch.covariates)

    def loss(self, network: nn.Module, batch: Batch, seeds: Seeds) -> torch.Tensor:
        """Mean loss of the scans of a batch, among those of all processes."""
        rows = torch.cat([*self._projections(network, batch), batch.covariates], dim=1)
        rows = rows_of_all_processes(rows)
        width = (rows.shape[1] - batch.covariates.shape[1]) // 2
        first, second, labels = rows.split([width, width, batch.covariates.shape[1]], dim=1)
        return self._losses(first, second, labels).mean()

    def weight(self, batch: Batch) -> None:
        """The loss is that of all processes."""

    def outputs(self, network: nn.Module, batch: Batch, seeds: Seeds) -> dict[str, torch.Tensor]:
        """Projections and labels."""
        first, second = self._projections(network, batch)
        return {"first": first.cpu(), "second": second.cpu(), "labels": batch.covariates.cpu()}

    def scores(self, outputs: Sequence[Outputs]) -> dict[str, float]:
        """The loss among all scans, and the share whose second view is the nearest one to the first."""
        return self._scores_of(_joined(outputs))

    # ------------------------------------------------------------------ at the end

    def report(self, network: nn.Module, evidence: Evidence, folder: Path) -> dict[str, Any]:
        """Draw who is near whom, and compare with voxels and with those who see no difference."""
        judged = self._seen(network, evidence.training if evidence.scores is None else evidence.held_out)
        named = {column: judged["labels"][:, place].numpy() for place, column in enumerate(self.options.columns)}
        draw_contrast(judged["first"].numpy(), judged["second"].numpy(), named, folder / FIGURE)
        if evidence.scores is None:
            return {}
        voxels = {**judged, "first": judged["first_voxels"], "second": judged["second_voxels"]}
        nothing = {
            **judged,
            "first": torch.ones(len(judged["first"]), 1),
            "second": torch.ones(len(judged["first"]), 1),
        }
        of_voxels = self._scores_of(voxels)
        guessed = self._guessed(self._seen(network, evidence.training), judged) if self.options.columns else {}
        contrast = {"network": evidence.scores["loss"], "voxels": of_voxels["loss"]}
        matched = {"network": evidence.scores["matched"], "voxels": of_voxels["matched"]}
        return {
            "contrast": contrast | {"all_alike": self._scores_of(nothing)["loss"]},
            "share_of_views_matched": matched | {"chance": 1 / len(judged["first"])},
            **guessed,
        }

    # ------------------------------------------------------------------ private

    def _projections(self, network: nn.Module, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """Of both views, (B, D) each. What else a network has besides encoder and projector does not matter."""
        parts = cast(Projected, network)
        projected = parts.projector(parts.encoder(batch.images.flatten(0, 1))).float()
        first, second = projected.view(len(batch.images), 2, -1).unbind(1)
        return first, second

    def _losses(self, first: torch.Tensor, second: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        options, numbers = self.options, len(self.options.sigmas)
        weights = alike(labels[:, :numbers], tuple(options.sigmas.values()), labels[:, numbers:])
        with torch.autocast(first.device.type, enabled=False):  # similarities over τ need the precision
            return losses(first, second, weights, options.temperature, options.form)

    def _scores_of(self, seen: Outputs) -> dict[str, float]:
        first, second = F.normalize(seen["first"], dim=1), F.normalize(seen["second"], dim=1)
        matched = (first @ second.T).argmax(dim=1) == torch.arange(len(first))
        loss = self._losses(first, second, seen["labels"]).mean()
        return {"loss": float(loss), "matched": float(matched.float().mean())}

    def _seen(self, network: nn.Module, steps: Steps) -> dict[str, torch.Tensor]:
        """Outputs of all batches, and the two views as coarse voxels."""
        found = []
        for batch, seeds in steps:
            first, second = (coarse_voxels(batch.images[:, view]) for view in (0, 1))
            found.append({**self.outputs(network, batch, seeds), "first_voxels": first, "second_voxels": second})
        return _joined(found)

    def _guessed(self, known: Outputs, judged: Outputs) -> dict[str, dict[str, float]]:
        """Errors of labels that are guessed from the nearest scans trained on, by projections and by voxels."""
        numbers, found = len(self.options.sigmas), {}
        for place, column in enumerate(self.options.columns):
            is_number = place < numbers
            answers = known["labels"][:, place], judged["labels"][:, place]
            if answers[1].isnan().all():
                continue
            seen = {"network": "first", "voxels": "first_voxels"}
            features = {who: (known[name], judged[name]) for who, name in seen.items()}
            name = "absolute_error" if is_number else "share_wrong"
            found[f"{name}_of_{column}"] = errors_of_guesses_by(features, *answers, is_number=is_number)
        return found


def _joined(outputs: Sequence[Outputs]) -> dict[str, torch.Tensor]:
    return {name: torch.cat([output[name] for output in outputs]) for name in outputs[0]}
