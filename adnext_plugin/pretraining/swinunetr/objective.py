"""SwinUNETR's pre-training: tell how a scan was turned and which scan it is, and fill in what was cut out of it.

Source: Tang et al. 2022, CVPR (SwinUNETR), and its code; AMAES (Munk et al. 2024) is compared with it. Its length is
100,000 steps of two scans; here it is counted in epochs, which are chosen.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from adnext_plugin.batch import Batch
from adnext_plugin.errors import SettingsError
from adnext_plugin.plan import Plan
from adnext_plugin.pretraining.contrast.y_aware import losses as contrast_losses
from adnext_plugin.pretraining.fill_in import fill_in
from adnext_plugin.pretraining.objective import Evidence, Objective, Seeds, Steps
from adnext_plugin.pretraining.reconstruction import draw
from adnext_plugin.pretraining.swinunetr.cuts import AXES, cut, turned
from adnext_plugin.pretraining.swinunetr.network import QUARTER_TURNS, ThreeHeads, build_three_heads
from adnext_plugin.pretraining.swinunetr.options import SwinUNETROptions
from adnext_plugin.settings import PretrainingSettings

VIEWS = 2


class View(NamedTuple):
    """Scans turned, how often, the same with cut-outs, and where these are."""

    turned: torch.Tensor
    turns: torch.Tensor
    shown: torch.Tensor
    is_cut: torch.Tensor


class SwinUNETRObjective(Objective[SwinUNETROptions]):
    """Tell turns and scans, and fill in what was cut out (SwinUNETR; encoder: SwinUNETR's)."""

    settings = PretrainingSettings(
        objective="swinunetr",
        epochs=1000,
        warmup_epochs=5,
        schedule_unit="step",
        batch_size=4,
        learning_rate=4e-4,
        min_learning_rate=0.0,
        weight_decay=0.1,
        betas=(0.9, 0.999),
        augmentation="none",
    )
    options_type = SwinUNETROptions
    score_names: ClassVar[dict[str, str]] = {"turns_told": "share of turns told right"}

    # ------------------------------------------------------------------ before training

    def settled(
        self, plan: Plan, in_channels: int, settings: PretrainingSettings, device: torch.device
    ) -> SwinUNETROptions:
        """Make sure that a scan can be turned.

        Raises:
            SettingsError: it would be of another shape afterwards.
        """
        size = plan.preprocessing.input_size_voxels
        first, second = AXES[self.options.plane]
        if size[first] != size[second]:
            raise SettingsError(
                f"quarter turns in the plane {self.options.plane!r} need two equal edges, and the input has "
                f"{list(size)} voxels; set plane to one whose edges are equal, or plan again with another --input-size"
            )
        return self.options

    def build(self, plan: Plan, in_channels: int) -> ThreeHeads:
        """SwinUNETR's encoder with heads for the three tasks."""
        return build_three_heads(plan.network, in_channels, plan.preprocessing.input_size_voxels)

    # ------------------------------------------------------------------ steps and epochs

    def losses(self, network: nn.Module, batch: Batch, seeds: Seeds) -> torch.Tensor:
        """The weighted sum of the three losses of each scan, the mean over its two views."""
        return self._judged(network, batch, seeds)["losses"]

    def weight(self, batch: Batch) -> None:
        """No batch can be cut into parts, since its scans are cut into each other and told from each other."""

    def outputs(self, network: nn.Module, batch: Batch, seeds: Seeds) -> dict[str, torch.Tensor]:
        """Losses, and the share of views whose turn was told."""
        return {name: values.float().cpu() for name, values in self._judged(network, batch, seeds).items()}

    def scores(self, outputs: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, float]:
        """Their means."""
        loss, told = (float(torch.cat([output[name] for output in outputs]).mean()) for name in ("losses", "told"))
        return {"loss": loss, "turns_told": told}

    # ------------------------------------------------------------------ at the end

    def report(self, network: nn.Module, evidence: Evidence, folder: Path) -> dict[str, Any]:
        """Draw what was filled in, and compare held-out figures with chance and with simple ways to fill in."""
        views = (self._views(batch, seeds)[0] for batch, seeds in evidence.shown)
        draw(((view.turned, ~view.is_cut, network(view.shown).scans) for view in views), folder)
        if evidence.scores is None:
            return {}
        return {
            "share_of_turns_told": {"network": evidence.scores["turns_told"], "chance": 1 / QUARTER_TURNS},
            "mean_absolute_error_of_what_was_cut_out": self._errors(network, evidence.held_out),
        }

    # ------------------------------------------------------------------ private

    def _views(self, batch: Batch, seeds: Seeds) -> list[View]:
        """Two views of each scan, functions of its seed."""
        found = []
        for number in range(VIEWS):
            randoms = [np.random.default_rng((*seed, number)) for seed in seeds]
            turns = [int(random.integers(QUARTER_TURNS)) for random in randoms]
            images = turned(batch.images, turns, self.options.plane)
            shown, is_cut = cut(images, self.options.largest_cut, randoms)
            # without waiting for what a GPU has still to do
            told = torch.tensor(turns).to(images.device, non_blocking=True)
            found.append(View(images, told, shown, is_cut))
        return found

    def _judged(self, network: nn.Module, batch: Batch, seeds: Seeds) -> dict[str, torch.Tensor]:
        options, views = self.options, self._views(batch, seeds)
        answers = [network(view.shown) for view in views]
        first, second = (answer.projections.float() for answer in answers)
        alone = torch.eye(len(first), device=first.device)
        total = options.contrast_weight * contrast_losses(first, second, alone, options.temperature, "intended")
        told = torch.zeros_like(total)
        for view, answer in zip(views, answers, strict=True):
            turns = F.cross_entropy(answer.turns.float(), view.turns, reduction="none")
            scans = (answer.scans.float() - view.turned).abs().flatten(1).mean(1)
            total = total + (options.rotation_weight * turns + options.reconstruction_weight * scans) / VIEWS
            told = told + (answer.turns.argmax(1) == view.turns) / VIEWS
        return {"losses": total, "told": told}

    def _errors(self, network: nn.Module, held_out: Steps) -> dict[str, float]:
        found: dict[str, list[float]] = {"network": [], "left_as_it_is": [], "filled_in_from_visible": []}
        for batch, seeds in held_out:
            view = self._views(batch, seeds)[0]
            restored = network(view.shown).scans.float()
            scans = zip(view.turned, view.shown, restored, view.is_cut, strict=True)
            for scan, shown, answer, is_cut in (tuple(one.cpu().numpy() for one in four) for four in scans):
                if not is_cut.any():
                    continue
                filled = np.stack([fill_in(channel, ~is_cut) for channel in shown])
                for name, guess in zip(found, (answer, shown, filled), strict=True):
                    found[name].append(float(np.abs(guess - scan)[:, is_cut].mean()))
        return {name: float(np.mean(errors)) for name, errors in found.items() if errors}
