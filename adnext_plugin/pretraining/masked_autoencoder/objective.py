"""Reconstruct masked patches: the objective of a fully convolutional masked autoencoder.

Source: AD-NeXt, section 3.2 and Table 6; Woo et al. 2023 (ConvNeXt V2).
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from adnext_plugin.batch import Batch
from adnext_plugin.plan import Plan
from adnext_plugin.pretraining.fill_in import fill_in
from adnext_plugin.pretraining.masked_autoencoder.fcmae import (
    FCMAE,
    build_encoder,
    build_fcmae,
    masked_voxels,
    reconstruct,
)
from adnext_plugin.pretraining.masked_autoencoder.options import FCMAEOptions
from adnext_plugin.pretraining.masked_autoencoder.sparse.backends import fastest_ways
from adnext_plugin.pretraining.masks import draw_visible, mask_voxels, patch_grid, visible_count
from adnext_plugin.pretraining.objective import Evidence, Objective, Seeds, Steps
from adnext_plugin.pretraining.reconstruction_figure import draw_reconstructions
from adnext_plugin.settings import PretrainingSettings

FIGURE = "reconstructions.png"


class FCMAEObjective(Objective[FCMAEOptions]):
    """Predict masked patches of a scan from the visible ones (AD-NeXt; encoders: AD-NeXt)."""

    settings = PretrainingSettings(objective="fcmae")
    options_type = FCMAEOptions

    def settled(
        self, plan: Plan, in_channels: int, settings: PretrainingSettings, device: torch.device
    ) -> FCMAEOptions:
        """Find out how to convolve, if it is not settled.

        Raises:
            SettingsError: mask, patches and input do not go together.
        """
        options, size = self.options, plan.preprocessing.input_size_voxels
        grid = patch_grid(size, options.patch_size_voxels)
        visible_count(int(np.prod(grid)), options.mask_ratio)
        if options.sparse_backend != "gathered" or options.sparse_convolution is not None:
            return options
        encoder = build_encoder(plan.network, in_channels, size).to(device)
        seeds = [(settings.seed, 0, index) for index in range(settings.batch_size)]
        visible = draw_visible(grid, options.mask_ratio, seeds).to(device)
        return replace(options, sparse_convolution=fastest_ways(encoder, visible, options.patch_size_voxels))

    def build(self, plan: Plan, in_channels: int) -> FCMAE:
        """The autoencoder around the plan's AD-NeXt encoder."""
        return build_fcmae(plan.network, self.options, in_channels, plan.preprocessing.input_size_voxels)

    def losses(self, network: nn.Module, batch: Batch, seeds: Seeds) -> torch.Tensor:
        """Mean squared error of each scan's masked voxels."""
        predicted, answers = self._predicted(network, batch.images, seeds)
        return (predicted.float() - answers).square().view(len(batch.images), -1).mean(1)

    def loss(self, network: nn.Module, batch: Batch, seeds: Seeds) -> torch.Tensor:
        """Mean squared error of the masked voxels."""
        return nn.functional.mse_loss(*self._predicted(network, batch.images, seeds))

    def report(self, network: nn.Module, evidence: Evidence, folder: Path) -> dict[str, Any]:
        """Draw reconstructions, and compare held-out errors with those of simple ways to guess."""
        assert isinstance(network, FCMAE)
        self._draw(network, evidence.shown, folder / FIGURE)
        if evidence.scores is None:
            return {}
        errors = {"network": evidence.scores["loss"]}
        # what is normalised patch by patch cannot be guessed in the scan's own intensities
        if not self.options.norm_pix_loss:
            errors |= self._guesses(evidence.held_out, evidence.training)
        return {"mean_squared_error_of_masked_voxels": errors}

    # ------------------------------------------------------------------ private

    def _predicted(
        self, network: nn.Module, images_bczyx: torch.Tensor, seeds: Seeds
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Masked voxels as the network predicts them and as they are."""
        visible = self._visible(images_bczyx, seeds)
        answers = masked_voxels(images_bczyx, visible, normalise=self.options.norm_pix_loss)
        return network(images_bczyx, visible), answers

    def _visible(self, images_bczyx: torch.Tensor, seeds: Seeds) -> torch.Tensor:
        grid = patch_grid(images_bczyx.shape[2:], self.options.patch_size_voxels)
        return draw_visible(grid, self.options.mask_ratio, seeds).to(images_bczyx.device)

    def _guesses(self, held_out: Steps, training: Steps) -> dict[str, float]:
        """Errors of the mean training scan, and of filling in from what is visible."""
        count, total = 0, torch.zeros((), dtype=torch.float64)
        for batch, _ in training:
            images = batch.images.cpu()
            count, total = count + len(images), total + images.double().sum(0)
        mean_scan = (total / count).numpy()
        guesses: dict[str, list[float]] = {"mean_training_scan": [], "filled_in_from_visible": []}
        for batch, seeds in held_out:
            images = batch.images.cpu()
            voxels_visible = mask_voxels(self._visible(images, seeds), images.shape[2:]).numpy()
            for scan, seen in zip(images.numpy(), voxels_visible, strict=True):
                hidden = ~seen
                guesses["mean_training_scan"].append(np.mean((scan - mean_scan)[:, hidden] ** 2))
                filled = np.stack([fill_in(channel, seen) for channel in scan])
                guesses["filled_in_from_visible"].append(np.mean((scan - filled)[:, hidden] ** 2))
        return {name: float(np.mean(values)) for name, values in guesses.items()}

    def _draw(self, network: FCMAE, shown: Steps, path: Path) -> None:
        drawn: list[tuple[np.ndarray, ...]] = []
        for batch, seeds in shown:
            images, visible = batch.images, self._visible(batch.images, seeds)
            rebuilt = reconstruct(network, images, visible, normalised=self.options.norm_pix_loss)
            seen = mask_voxels(visible, images.shape[2:]).unsqueeze(1)
            for scan in zip(images, images.masked_fill(~seen, float("nan")), rebuilt, strict=True):
                drawn.append(tuple(volume[0].cpu().numpy() for volume in scan))
        draw_reconstructions(drawn, path)
