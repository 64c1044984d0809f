"""AMAES: fill in small masked blocks of a scan, and undo what was done to its intensities.

Source: Munk et al. 2024 (AMAES). Where the paper's recipe and the released code differ, the settings here are the
paper's; `released` in `trainers.variants.amaes` has the code's.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import nn

from adnext_plugin.batch import Batch, Change
from adnext_plugin.named_transforms import named_transforms
from adnext_plugin.plan import Plan
from adnext_plugin.pretraining.amaes.network import MaskedRestorer, build_restorer
from adnext_plugin.pretraining.amaes.options import AMAESOptions
from adnext_plugin.pretraining.amaes.views import RestorationViews, UnchangedViews
from adnext_plugin.pretraining.masks import draw_visible, mask_voxels, token_grid, visible_count
from adnext_plugin.pretraining.objective import Evidence, Objective, Seeds
from adnext_plugin.pretraining.reconstruction import draw, errors_of_guesses
from adnext_plugin.settings import PretrainingSettings

INPUT, TARGET = 0, 1


class AMAESObjective(Objective[AMAESOptions]):
    """Fill in masked blocks and undo changes of intensity (AMAES; encoders: U-Nets, MedNeXt, ResEnc-L, AD-NeXt)."""

    settings = PretrainingSettings(
        objective="amaes",
        epochs=100,
        warmup_epochs=5,
        batch_size=16,
        learning_rate=1e-4,
        min_learning_rate=0.0,
        weight_decay=3e-5,
        betas=(0.9, 0.999),
        amsgrad=True,
        augmentation="amaes_spatial",
    )
    options_type = AMAESOptions
    calls_network_once = True
    score_names: ClassVar[dict[str, str]] = {"masked_error": "squared error of masked voxels"}

    # ------------------------------------------------------------------ before training

    def settled(
        self, plan: Plan, in_channels: int, settings: PretrainingSettings, device: torch.device
    ) -> AMAESOptions:
        """Make sure that blocks and input go together.

        Raises:
            SettingsError: they do not, or there is nothing to mask, or nothing to see, or the augmentation to be undone
                turns what cannot be turned.
            UnknownNameError: there is no augmentation of the name to be undone.
        """
        grid = token_grid(self._size(plan), self.options.token_voxels)
        visible_count(int(np.prod(grid)), self.options.mask_ratio)
        named_transforms(self.options.reversed, self._size(plan))
        return self.options

    def build(self, plan: Plan, in_channels: int) -> MaskedRestorer:
        """The plan's encoder with a decoder."""
        return build_restorer(plan.network, in_channels, self._size(plan), self.options.decoder, self.options.skips)

    def views(self, augmentation: Change) -> Change:
        """What the network sees and what it is asked for, (2, C, Z, Y, X)."""
        return RestorationViews(augmentation, self.options.reversed, self.options.patch_voxels)

    def unchanged_views(self, augmentation: Change) -> Change:
        """The scan, or its middle, twice."""
        return UnchangedViews(self.options.patch_voxels)

    # ------------------------------------------------------------------ steps and epochs

    def losses(self, network: nn.Module, batch: Batch, seeds: Seeds) -> torch.Tensor:
        """Mean squared error of each scan."""
        errors = self._errors(network, batch, seeds)
        return errors[self.options.loss_on]

    def outputs(self, network: nn.Module, batch: Batch, seeds: Seeds) -> dict[str, torch.Tensor]:
        """Errors of each scan, of all its voxels and of those masked."""
        errors = self._errors(network, batch, seeds)
        return {name: values.float().cpu() for name, values in errors.items()}

    def scores(self, outputs: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, float]:
        """Their means; `loss` is the one that is trained on."""
        means = {name: float(torch.cat([output[name] for output in outputs]).mean()) for name in ("all", "masked")}
        return {"loss": means[self.options.loss_on], "masked_error": means["masked"], "error": means["all"]}

    # ------------------------------------------------------------------ at the end

    def report(self, network: nn.Module, evidence: Evidence, folder: Path) -> dict[str, Any]:
        """Draw restored scans, and compare held-out errors with those of simple ways to guess."""

        def restored(batch: Batch, seeds: Seeds) -> torch.Tensor:
            return network(batch.images[:, INPUT], self._visible(batch, seeds))

        draw(
            ((_targets(batch), self._visible(batch, seeds), restored(batch, seeds)) for batch, seeds in evidence.shown),
            folder,
        )
        if evidence.scores is None:
            return {}
        guesses = errors_of_guesses(evidence.held_out, evidence.training, self._visible, _targets)
        return {
            "mean_squared_error_of_masked_voxels": {"network": evidence.scores["masked_error"], **guesses},
            "mean_squared_error_of_all_voxels": evidence.scores["error"],
        }

    # ------------------------------------------------------------------ private

    def _size(self, plan: Plan) -> tuple[int, int, int]:
        return self.options.patch_voxels or plan.preprocessing.input_size_voxels

    def _visible(self, batch: Batch, seeds: Seeds) -> torch.Tensor:
        """Visible voxels, (B, Z, Y, X)."""
        size = batch.images.shape[-3:]
        visible = draw_visible(token_grid(size, self.options.token_voxels), self.options.mask_ratio, seeds)
        return mask_voxels(visible.to(batch.images.device), size)

    def _errors(self, network: nn.Module, batch: Batch, seeds: Seeds) -> dict[str, torch.Tensor]:
        visible = self._visible(batch, seeds)
        predicted = network(batch.images[:, INPUT], visible)
        squares = (predicted.float() - batch.images[:, TARGET]).square().mean(dim=1).flatten(1)
        masked = (~visible).flatten(1)
        # every scan has as many masked voxels
        return {"all": squares.mean(1), "masked": (squares * masked).sum(1) / masked.sum(1)}


def _targets(batch: Batch) -> torch.Tensor:
    return batch.images[:, TARGET]
