"""Masked autoencoders: pre-training without labels, under the recipe of the AD-NeXt paper (Table 6)."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from adnext_plugin.data.loading import Batch
from adnext_plugin.files import write_json
from adnext_plugin.plan import NetworkSettings, plan_in
from adnext_plugin.pretraining.fill_in import fill_in
from adnext_plugin.pretraining.masked_autoencoder.fcmae import build_encoder, build_fcmae, masked_voxels, reconstruct
from adnext_plugin.pretraining.masked_autoencoder.sparse.backends import fastest_ways
from adnext_plugin.pretraining.masks import draw_visible, mask_voxels, patch_grid, visible_count
from adnext_plugin.records import from_json
from adnext_plugin.report.reconstruction import draw_reconstructions
from adnext_plugin.settings import PretrainingSettings
from adnext_plugin.trainers.lifecycle import RunTrainer
from adnext_plugin.training.precision import autocast

CASES_DRAWN = 4
FIXED = -1  # stands for the epoch in the seeds of masks that never change


class ADNeXtFCMAETrainer(RunTrainer):
    """Pre-trains the AD-NeXt encoder that the plan names (AD-NeXt-B if it names none)."""

    settings = PretrainingSettings()
    plan_key = "pretraining"
    score_names = {}  # noqa: RUF012  never changed

    @staticmethod
    def build_network_architecture(
        plans_manager,
        configuration_manager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> nn.Module:
        """Build the autoencoder of the plan's `adnext` block."""
        plan = plan_in(configuration_manager.configuration, "plans")
        settings = from_json(PretrainingSettings, plan.pretraining, "plans, adnext.pretraining")
        return build_fcmae(plan.network, settings, num_input_channels, plan.preprocessing.input_size_voxels)

    def initialize(self) -> None:
        """Build network, optimizer and schedule; before that, find out how to convolve if it is not settled.

        Raises:
            SettingsError: mask, patches and input do not go together.
        """
        self._grid = patch_grid(self.plan.preprocessing.input_size_voxels, self.settings.patch_size_voxels)
        visible_count(int(np.prod(self._grid)), self.settings.mask_ratio)
        if self.settings.sparse_backend == "gathered" and self.settings.sparse_convolution is None:
            self._use(replace(self.settings, sparse_convolution=self._fastest_ways()))
            self.print_to_log_file(f"Fastest here: sparse_convolution={json.dumps(self.settings.sparse_convolution)}")
        super().initialize()

    def on_train_start(self) -> None:
        """Write down, besides what any run does, whom the encoder will have seen."""
        super().on_train_start()
        if self.local_rank == 0:
            write_json(self._corpus, Path(self.output_folder) / "pretraining_data.json")

    def batch_loss(self, batch: Batch) -> torch.Tensor:
        """Mean squared error of the masked voxels."""
        visible = self._visible(batch.indices, self.current_epoch)
        predicted = self.network(batch.images, visible)
        return nn.functional.mse_loss(predicted, self._answers(batch.images, visible))

    def validation_step(self, batch: Batch) -> dict:
        """Mean squared error of each scan's masked voxels, under a mask that is its own and never changes."""
        images = batch.images.to(self.device, non_blocking=True)
        visible = self._visible(batch.indices, FIXED)
        with autocast(self.device):
            predicted = self.network(images, visible)
        errors = (predicted.float() - self._answers(images, visible)).square()
        return {"indices": batch.indices, "losses": errors.view(len(images), -1).mean(1).cpu()}

    def epoch_scores(self, outputs: list[dict]) -> dict[str, float]:
        """The mean over scans."""
        return {"loss": float(torch.cat([output["losses"] for output in outputs]).mean())}

    def rank_of_epoch(self, scores: dict[str, float]) -> tuple[float, float]:
        """The lower loss."""
        return -scores["loss"], 0.0

    @torch.no_grad()
    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Draw reconstructions by the last weights and, on a held-out fold, compare errors with simple ways to guess.

        Args:
            save_probabilities: nnU-Net's `--npz`; there are none.
        """
        folder = Path(self.output_folder) / "validation"
        parts = self._data.parts
        summary = {
            "trainer": type(self).__name__,
            "fold": self.fold,
            "epochs": self.settings.epochs,
            "seed": self.settings.seed,
            "cases": len(parts["val"]),
        }
        if parts["val"]:
            summary["mean_squared_error_of_masked_voxels"] = self._errors(parts["val"], parts["train"])
            self.print_to_log_file(f"Held-out fold {self.fold}: {summary['mean_squared_error_of_masked_voxels']}")
        if self.local_rank == 0:
            self._draw((parts["val"] or parts["train"])[:CASES_DRAWN], folder / "reconstructions.png")
            write_json(summary, folder / "summary.json")

    # ------------------------------------------------------------------ private

    def _visible(self, indices: torch.Tensor, epoch: int) -> torch.Tensor:
        seeds = [(self.settings.seed, epoch + 1, index) for index in indices.tolist()]
        return draw_visible(self._grid, self.settings.mask_ratio, seeds).to(self.device)

    def _answers(self, images_bczyx: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        return masked_voxels(images_bczyx, visible, normalise=self.settings.norm_pix_loss)

    def _fastest_ways(self) -> tuple[str, ...]:
        channels = len(self.dataset_json["channel_names"])
        encoder = build_encoder(self.plan.network, channels, self.plan.preprocessing.input_size_voxels)
        visible = self._visible(torch.arange(self.settings.batch_size), FIXED)
        ways = [fastest_ways(encoder.to(self.device), visible, self.settings.patch_size_voxels)]
        if self.is_ddp:
            dist.broadcast_object_list(ways)
        return ways[0]

    def _errors(self, cases: list[str], training_cases: list[str]) -> dict[str, float]:
        """Of the network and, where it predicts plain voxels, of the mean training scan and of filling in."""
        errors = {"network": self.epoch_scores(self._validate(self._loader(cases)))["loss"]}
        if self.settings.norm_pix_loss:
            return errors
        count, total = 0, 0.0
        for batch in self._batches(training_cases):
            count, total = count + len(batch.images), total + batch.images.double().sum(0)
        mean_scan = (total / count).numpy()
        guesses = {"mean_training_scan": [], "filled_in_from_visible": []}
        for batch in self._batches(cases):
            voxels_visible = mask_voxels(self._visible(batch.indices, FIXED).cpu(), batch.images.shape[2:]).numpy()
            for scan, seen in zip(batch.images.numpy(), voxels_visible, strict=True):
                hidden = ~seen
                guesses["mean_training_scan"].append(np.mean((scan - mean_scan)[:, hidden] ** 2))
                filled = np.stack([fill_in(channel, seen) for channel in scan])
                guesses["filled_in_from_visible"].append(np.mean((scan - filled)[:, hidden] ** 2))
        return {**errors, **{name: float(np.mean(values)) for name, values in guesses.items()}}

    def _batches(self, cases: list[str]) -> Iterator[Batch]:
        return self._loader(cases).batches(epoch=0)

    def _draw(self, cases: list[str], path: Path) -> None:
        network = self._plain_network().eval()
        drawn = []
        for batch in self._batches(cases):
            images, visible = batch.images.to(self.device), self._visible(batch.indices, FIXED)
            rebuilt = reconstruct(network, images, visible, normalised=self.settings.norm_pix_loss)
            seen = mask_voxels(visible, images.shape[2:]).unsqueeze(1)
            for scan in zip(images, images.masked_fill(~seen, float("nan")), rebuilt, strict=True):
                drawn.append(tuple(volume[0].cpu().numpy() for volume in scan))
        draw_reconstructions(drawn, path)


class ADNeXtFCMAETrainer_T(ADNeXtFCMAETrainer):
    """Pre-trains AD-NeXt-T."""

    network_settings = NetworkSettings(name="adnext_t")


class ADNeXtFCMAETrainer_S(ADNeXtFCMAETrainer):
    """Pre-trains AD-NeXt-S."""

    network_settings = NetworkSettings(name="adnext_s")


class ADNeXtFCMAETrainer_B(ADNeXtFCMAETrainer):
    """Pre-trains AD-NeXt-B."""

    network_settings = NetworkSettings(name="adnext_b")


class ADNeXtFCMAETrainer_L(ADNeXtFCMAETrainer):
    """Pre-trains AD-NeXt-L."""

    network_settings = NetworkSettings(name="adnext_l")
