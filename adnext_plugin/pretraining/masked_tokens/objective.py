"""Predict masked blocks of a scan by an encoder that works on tokens.

Sources: Xie et al. 2022 (SimMIM) as Dhinagar et al. 2023 use it; He et al. 2022 (MAE). The optimiser, its rate and its
schedule are open in the first two, and taken from nnssl's SimMIM of brain scans (Wald et al. 2025).
"""

from abc import abstractmethod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from adnext_plugin.batch import Batch
from adnext_plugin.plan import Plan
from adnext_plugin.pretraining.masked_tokens.networks import MAE, SimMIM, build_mae, build_simmim
from adnext_plugin.pretraining.masked_tokens.options import MAEOptions, SimMIMOptions
from adnext_plugin.pretraining.masks import (
    draw_visible,
    join_patches,
    mask_voxels,
    split_into_patches,
    token_grid,
    visible_count,
)
from adnext_plugin.pretraining.objective import Evidence, Objective, Seeds
from adnext_plugin.pretraining.reconstruction import draw, errors_of_guesses
from adnext_plugin.settings import PretrainingSettings

SIMMIM = PretrainingSettings(
    objective="simmim",
    epochs=1000,
    warmup_epochs=50,
    batch_size=8,
    learning_rate=3e-4,
    min_learning_rate=0.0,
    weight_decay=0.05,
    betas=(0.9, 0.98),
    schedule="poly",
    augmentation="none",
)
EPS = 1e-6
TokenOptions = TypeVar("TokenOptions", SimMIMOptions, MAEOptions)


class MaskedTokens(Objective[TokenOptions]):
    """What both have in common: blocks are drawn, and errors are those of masked voxels."""

    def settled(
        self, plan: Plan, in_channels: int, settings: PretrainingSettings, device: torch.device
    ) -> TokenOptions:
        """Make sure that blocks and input go together.

        Raises:
            SettingsError: they do not, or there is nothing to mask, or nothing to see.
        """
        grid = token_grid(plan.preprocessing.input_size_voxels, self.options.token_voxels)
        visible_count(int(np.prod(grid)), self.options.mask_ratio)
        return self.options

    def losses(self, network: nn.Module, batch: Batch, seeds: Seeds) -> torch.Tensor:
        """Mean error of each scan's masked voxels."""
        visible = self._visible(batch, seeds)
        predicted = network(batch.images, visible).float()
        counted = ~mask_voxels(visible, batch.images.shape[2:])
        if self.options.loss_on == "masked_brain":
            counted = counted & _has_brain(batch.images, self.options.token_voxels)
        errors = self._error(predicted, self._answers(batch)).mean(dim=1)
        return (errors * counted).flatten(1).sum(1) / counted.flatten(1).sum(1).clamp(min=1)

    def report(self, network: nn.Module, evidence: Evidence, folder: Path) -> dict[str, Any]:
        """Draw predictions, and compare held-out errors with those of simple ways to guess."""

        def restored(batch: Batch, seeds: Seeds) -> torch.Tensor:
            predicted = self._in_units_of_scan(network(batch.images, self._visible(batch, seeds)).float(), batch)
            return torch.where(self._visible_voxels(batch, seeds).unsqueeze(1), batch.images, predicted)

        draw(
            (
                (batch.images, self._visible_voxels(batch, seeds), restored(batch, seeds))
                for batch, seeds in evidence.shown
            ),
            folder,
        )
        if evidence.scores is None:
            return {}
        errors: list[float] = []
        for batch, seeds in evidence.held_out:
            squares = (restored(batch, seeds) - batch.images).square().mean(dim=1)
            hidden = zip(squares, ~self._visible_voxels(batch, seeds), strict=True)
            errors += [float(square[masked].mean()) for square, masked in hidden]
        guesses = errors_of_guesses(evidence.held_out, evidence.training, self._visible_voxels)
        return {
            "mean_squared_error_of_masked_voxels": {"network": float(np.mean(errors)), **guesses},
            "loss": evidence.scores["loss"],
        }

    # ------------------------------------------------------------------ private

    @abstractmethod
    def _error(self, predicted: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        """Of each voxel."""

    def _answers(self, batch: Batch) -> torch.Tensor:
        return batch.images

    def _in_units_of_scan(self, predicted: torch.Tensor, batch: Batch) -> torch.Tensor:
        return predicted

    def _visible(self, batch: Batch, seeds: Seeds) -> torch.Tensor:
        """Visible blocks, (B, gz, gy, gx)."""
        grid = token_grid(batch.images.shape[2:], self.options.token_voxels)
        return draw_visible(grid, self.options.mask_ratio, seeds).to(batch.images.device)

    def _visible_voxels(self, batch: Batch, seeds: Seeds) -> torch.Tensor:
        return mask_voxels(self._visible(batch, seeds), batch.images.shape[2:])


class SimMIMObjective(MaskedTokens[SimMIMOptions]):
    """Predict masked blocks, the encoder seeing all tokens (SimMIM; encoders: ViT, Swin3D-T)."""

    settings = SIMMIM
    options_type = SimMIMOptions

    def build(self, plan: Plan, in_channels: int) -> SimMIM:
        """The plan's encoder with a mask token and a decoder."""
        return build_simmim(plan.network, self.options, in_channels, plan.preprocessing.input_size_voxels)

    def _error(self, predicted: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        return (predicted - answers).abs()


class MAEObjective(MaskedTokens[MAEOptions]):
    """Predict masked blocks, the encoder seeing visible tokens alone (MAE; encoders: ViT)."""

    settings = PretrainingSettings(
        objective="mae",
        epochs=1000,
        warmup_epochs=50,
        batch_size=8,
        learning_rate=1.5e-4,
        min_learning_rate=0.0,
        weight_decay=0.05,
        betas=(0.9, 0.95),
        augmentation="none",
    )
    options_type = MAEOptions

    def build(self, plan: Plan, in_channels: int) -> MAE:
        """The plan's ViT with a decoder."""
        return build_mae(plan.network, self.options, in_channels, plan.preprocessing.input_size_voxels)

    def _error(self, predicted: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
        return (predicted - answers).square()

    def _answers(self, batch: Batch) -> torch.Tensor:
        if not self.options.norm_pix_loss:
            return batch.images
        mean, deviation = _moments(batch.images, self.options.token_voxels)
        return (batch.images - mean) / deviation

    def _in_units_of_scan(self, predicted: torch.Tensor, batch: Batch) -> torch.Tensor:
        if not self.options.norm_pix_loss:
            return predicted
        mean, deviation = _moments(batch.images, self.options.token_voxels)
        return predicted * deviation + mean


def _has_brain(images_bczyx: torch.Tensor, token_voxels: int) -> torch.Tensor:
    """Voxels (B, Z, Y, X) of blocks that are not all background, which is exactly 0."""
    size = images_bczyx.shape[2:]
    blocks = split_into_patches(images_bczyx, token_grid(size, token_voxels))
    return mask_voxels((blocks != 0).flatten(4).any(-1), size)


def _moments(images_bczyx: torch.Tensor, token_voxels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each voxel's block, (B, C, Z, Y, X)."""
    blocks = split_into_patches(images_bczyx, token_grid(images_bczyx.shape[2:], token_voxels))
    variance, mean = torch.var_mean(blocks.flatten(4), dim=-1)
    spread = (variance + EPS).sqrt()
    mean, spread = (each.view(*each.shape, 1, 1, 1, 1).expand(blocks.shape) for each in (mean, spread))
    return join_patches(mean), join_patches(spread)
