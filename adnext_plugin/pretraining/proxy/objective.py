"""Tell age, sex and volumes from scans, all at once: supervised, but with what is known without a diagnosis.

Of N scans and K columns, the loss is the mean over all that is known: squared error of numbers, in standard deviations
of those trained on, and cross-entropy of words. What is not known of somebody is left out, and the rest still teaches.

Sources: Dhinagar et al. 2023 (sex of synthetic scans as a proxy); NeuroFM (2026; age, sex and two volumes together).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import nn

from adnext_plugin.batch import Batch
from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.features import encoder_of
from adnext_plugin.paths import REGION_VOLUME
from adnext_plugin.plan import Plan
from adnext_plugin.pretraining.columns import codes_in, numbers_in, require_known
from adnext_plugin.pretraining.nearest import coarse_voxels, errors_of_guesses_by
from adnext_plugin.pretraining.objective import Evidence, Objective, Seeds, Steps
from adnext_plugin.pretraining.proxy.figure import draw_answers
from adnext_plugin.pretraining.proxy.options import ProxyOptions
from adnext_plugin.settings import PretrainingSettings

FIGURE = "answers.png"


class ProxyObjective(Objective[ProxyOptions]):
    """Tell age, sex and volumes from scans at once, as far as they are known (supervised; every network)."""

    # the recipe for cohorts of a few hundred scans, docs/recipes.md
    settings = PretrainingSettings(
        objective="proxy",
        epochs=20,
        batch_size=8,
        learning_rate=3e-3,
        min_learning_rate=0.0,
        weight_decay=0.05,
        betas=(0.9, 0.999),
        warmup_epochs=2,
        augmentation="inside",
    )
    options_type = ProxyOptions
    calls_network_once = True

    def __init__(self, options: ProxyOptions) -> None:
        super().__init__(options)
        self._scales: dict[str, tuple[float, float]] = {}  # mean and standard deviation of each number

    # ------------------------------------------------------------------ before training

    def build(self, plan: Plan, in_channels: int) -> nn.Module:
        """The plan's network, with an output for each number and each word.

        Raises:
            SettingsError: the network is told such things instead of telling them.
        """
        size = plan.preprocessing.input_size_voxels
        network = build_network(plan.network, in_channels, sum(self.options.outputs), size)
        encoder_of(network, plan.network.name)
        told: tuple[str, ...] = getattr(network, "columns", ())
        if told:
            raise SettingsError(
                f"network {plan.network.name} is told {', '.join(told)} beside the scan and would learn nothing of it "
                "from the scan; switch that off in the network's options"
            )
        return network

    def fitted(self, training_rows: pd.DataFrame) -> Self:
        """This objective, knowing the scale of numbers.

        Raises:
            SettingsError: a column is not there, or nothing in it is known.
        """
        known = type(self)(self.options)
        for column in self.options.numbers:
            found = numbers_in(training_rows, column)
            first = "run adnext_regions" if column.endswith(REGION_VOLUME) else "import it with the scans"
            remedy = f"{first}, or name the columns there are: --set 'numbers=[...]', without {column}"
            require_known(training_rows, column, ~np.isnan(found), "number", remedy)
            known._scales[column] = float(np.nanmean(found)), float(np.nanstd(found)) or 1.0
        for column, words in self.options.categories.items():
            remedy = "import it with the scans, or name columns and words that there are: --set 'categories={...}'"
            codes = codes_in(training_rows, column, words)
            require_known(training_rows, column, ~np.isnan(codes), f"word of {', '.join(words)}", remedy)
        return known

    def columns(self) -> tuple[str, ...]:
        """Those of the options, numbers first."""
        return self.options.columns

    def labels(self, rows: pd.DataFrame) -> np.ndarray:
        """Standardised numbers, then places of words, (N, K); NaN where one is unknown."""
        numbers = [(numbers_in(rows, column) - mean) / spread for column, (mean, spread) in self._scales.items()]
        codes = [codes_in(rows, column, words) for column, words in self.options.categories.items()]
        return np.stack([*numbers, *codes], axis=1).astype(np.float32)

    def notes(self) -> dict[str, Any]:
        """Mean and standard deviation of each number, of those trained on."""
        return {"scales": {column: list(scale) for column, scale in self._scales.items()}}

    # ------------------------------------------------------------------ steps and epochs

    def losses(self, network: nn.Module, batch: Batch, seeds: Seeds) -> torch.Tensor:
        """Mean loss of what is known of each scan, 0 where nothing is."""
        errors, known = self._errors(network(batch.images), batch.covariates)
        return errors.sum(dim=1) / known.sum(dim=1).clamp(min=1)

    def loss(self, network: nn.Module, batch: Batch, seeds: Seeds) -> torch.Tensor:
        """Mean loss of all that is known in a batch, 0 where nothing is."""
        errors, known = self._errors(network(batch.images), batch.covariates)
        return errors.sum() / known.sum().clamp(min=1)

    def weight(self, batch: Batch) -> torch.Tensor:
        """How much is known in a batch."""
        return (~batch.covariates.isnan()).sum().float()

    def outputs(self, network: nn.Module, batch: Batch, seeds: Seeds) -> dict[str, torch.Tensor]:
        """Errors, and what was known."""
        errors, known = self._errors(network(batch.images), batch.covariates)
        return {"errors": errors.cpu(), "known": known.cpu()}

    def scores(self, outputs: Any) -> dict[str, float]:
        """The loss over all that is known of all scans."""
        errors, known = (torch.cat([output[name] for output in outputs]) for name in ("errors", "known"))
        return {"loss": float(errors.sum() / known.sum().clamp(min=1))}

    # ------------------------------------------------------------------ at the end

    def report(self, network: nn.Module, evidence: Evidence, folder: Path) -> dict[str, Any]:
        """Draw answers beside what is right, and compare errors with those of guesses."""
        judged = self._seen(network, evidence.training if evidence.scores is None else evidence.held_out)
        draw_answers(self._named(judged), folder / FIGURE)
        if evidence.scores is None:
            return {}
        known, figures = self._seen(network, evidence.training), {}
        for place, (column, right, answers) in enumerate(self._named(judged)):
            has_label = ~np.isnan(right)
            if not has_label.any():
                continue
            # guesses are of standardised numbers
            is_number = column in self._scales
            unit = self._scales[column][1] if is_number else 1.0
            name = "absolute_error" if is_number else "share_wrong"
            labels = known["labels"][:, place], judged["labels"][:, place]
            features = {"voxels": (known["voxels"], judged["voxels"])}
            guesses = errors_of_guesses_by(features, *labels, is_number=is_number)
            wrong = np.abs(answers - right) if is_number else answers.argmax(axis=1) != right
            figures[f"{name}_of_{column}"] = {
                "network": float(np.mean(wrong[has_label])),
                **{who: unit * error for who, error in guesses.items()},
            }
        return figures

    # ------------------------------------------------------------------ private

    def _errors(self, outputs: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Of each scan and column, (N, K), 0 where it is unknown; and where it is known."""
        known = ~labels.isnan()
        answers = torch.where(known, labels, 0)
        errors = []
        for place, of_column in enumerate(outputs.float().split(self.options.outputs, dim=1)):
            if place < len(self.options.numbers):
                errors.append((of_column[:, 0] - answers[:, place]).square())
            else:
                errors.append(F.cross_entropy(of_column, answers[:, place].long(), reduction="none"))
        return torch.stack(errors, dim=1) * known, known

    def _seen(self, network: nn.Module, steps: Steps) -> dict[str, torch.Tensor]:
        found: dict[str, list[torch.Tensor]] = {"outputs": [], "labels": [], "voxels": []}
        for batch, _ in steps:
            found["outputs"].append(network(batch.images).float().cpu())
            found["labels"].append(batch.covariates.cpu())
            found["voxels"].append(coarse_voxels(batch.images))
        return {name: torch.cat(parts) for name, parts in found.items()}

    def _named(self, seen: dict[str, torch.Tensor]) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        """Of each column: its name, what is right, and what is answered; numbers (N,) in their own unit, of words
        the places (N,) and the probabilities (N, words)."""
        parts = seen["outputs"].split(self.options.outputs, dim=1)
        for place, (column, of_column) in enumerate(zip(self.options.columns, parts, strict=True)):
            right = seen["labels"][:, place].numpy()
            if column in self._scales:
                mean, spread = self._scales[column]
                yield column, right * spread + mean, of_column[:, 0].numpy() * spread + mean
            else:
                yield column, right, of_column.softmax(dim=1).numpy()
