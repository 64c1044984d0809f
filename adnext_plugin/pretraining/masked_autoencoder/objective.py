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
from adnext_plugin.pretraining.objective import Evidence, Objective, Seeds
from adnext_plugin.pretraining.reconstruction import draw, errors_of_guesses
from adnext_plugin.settings import PretrainingSettings


class FCMAEObjective(Objective[FCMAEOptions]):
    """Predict masked patches of a scan from the visible ones (AD-NeXt; encoders: AD-NeXt)."""

    settings = PretrainingSettings(objective="fcmae")
    options_type = FCMAEOptions
    calls_network_once = True

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
        visible = draw_visible(grid, options.mask_ratio, seeds)
        return replace(options, sparse_convolution=fastest_ways(encoder, visible, options.patch_size_voxels, device))

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

        def restored(batch: Batch, seeds: Seeds) -> torch.Tensor:
            visible = self._visible(batch.images, seeds)
            return reconstruct(network, batch.images, visible, normalised=self.options.norm_pix_loss)

        draw(
            (
                (batch.images, self._voxels_visible(batch, seeds), restored(batch, seeds))
                for batch, seeds in evidence.shown
            ),
            folder,
        )
        if evidence.scores is None:
            return {}
        errors = {"network": evidence.scores["loss"]}
        # what is normalised patch by patch cannot be guessed in the scan's own intensities
        if not self.options.norm_pix_loss:
            errors |= errors_of_guesses(evidence.held_out, evidence.training, self._voxels_visible)
        return {"mean_squared_error_of_masked_voxels": errors}

    # ------------------------------------------------------------------ private

    def _predicted(
        self, network: nn.Module, images_bczyx: torch.Tensor, seeds: Seeds
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Masked voxels as the network predicts them and as they are."""
        visible = self._visible(images_bczyx, seeds)
        answers = masked_voxels(images_bczyx, visible, normalise=self.options.norm_pix_loss)
        return network(images_bczyx, visible.to(images_bczyx.device, non_blocking=True)), answers

    def _visible(self, images_bczyx: torch.Tensor, seeds: Seeds) -> torch.Tensor:
        grid = patch_grid(images_bczyx.shape[2:], self.options.patch_size_voxels)
        return draw_visible(grid, self.options.mask_ratio, seeds)  # on the CPU: layers send what they need of it

    def _voxels_visible(self, batch: Batch, seeds: Seeds) -> torch.Tensor:
        return mask_voxels(self._visible(batch.images, seeds).to(batch.images.device), batch.images.shape[2:])
