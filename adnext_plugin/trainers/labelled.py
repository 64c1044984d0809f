"""The trainer that all others for labelled tasks derive from.

A variant changes a class attribute (`settings`, `network_settings`) or overrides one of `build_augmentation`,
`build_loss`, `build_network`, `build_optimizer`, `compute_loss`.
"""

from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import nn

from adnext_plugin.batch import Batch, Change
from adnext_plugin.data.augmentation import Augmentation
from adnext_plugin.data.centre import CentreCrop
from adnext_plugin.data.loading import Loader
from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.build import build_planned_network
from adnext_plugin.networks.recomputation import recompute_in
from adnext_plugin.networks.with_covariates import network_of_images
from adnext_plugin.plan import Plan
from adnext_plugin.run_records import FoldSummary, write_summary
from adnext_plugin.settings import TrainerSettings
from adnext_plugin.stamps import PEOPLE_NOT_KNOWN
from adnext_plugin.trainers.lifecycle import RunTrainer
from adnext_plugin.trainers.processes import of_first_process, wait_for_all
from adnext_plugin.training.covariates import CovariateScale, plain_columns
from adnext_plugin.training.layer_rates import parameter_groups
from adnext_plugin.training.predictions import Predictions, write_predictions
from adnext_plugin.training.task_kinds import TASK_KINDS, TaskKind


class ADNeXtTrainer(RunTrainer):
    """Trains the network that the plan names (AD-NeXt-B if it names none) under the AD-NeXt paper's recipe."""

    settings = TrainerSettings()
    plan_key = "training"

    @property
    def score_names(self) -> dict[str, str]:
        """AUC and accuracy, or the error and R² of a regression."""
        return {} if self.task.kind == "unlabelled" else TASK_KINDS[self.task.kind].score_names

    # ------------------------------------------------------------------ what a variant may override

    def build_augmentation(self) -> Change:
        """Random changes to each training image, cut to size first where the settings say so."""
        return Augmentation(self.settings.augmentation, self.plan.network_input_voxels, self.settings.crop_voxels)

    def build_loss(self, training_targets: np.ndarray) -> nn.Module:
        """A module that maps outputs (B, K) and targets (B,) to a scalar; by default the task's own.

        Args:
            training_targets: class indices, or numbers, (N,).
        """
        return TASK_KINDS[self.task.kind](self.task, training_targets).loss(self.settings)

    def compute_loss(self, outputs: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Loss of one batch, a scalar."""
        return self.loss(outputs, batch.targets)

    # ------------------------------------------------------------------ what a run asks for

    def initialize(self) -> None:
        """Build network, optimizer and schedule.

        Raises:
            SettingsError: the dataset has no target, the volumes are smaller than the cut from them, or the network
                cannot compute parts of itself again.
        """
        if self.task.kind == "unlabelled":
            raise SettingsError(
                f"dataset {self.task.name} was imported without a target, so there is nothing to classify; pre-train "
                "on it with adnext_pretrain, or import it with --target"
            )
        size, crop = self.plan.preprocessing.input_size_voxels, self.settings.crop_voxels
        if crop is not None and any(cut > there for cut, there in zip(crop, size, strict=True)):
            raise SettingsError(f"crop_voxels {list(crop)} is larger than the stored volumes, {list(size)}")
        super().initialize()
        if self.settings.recompute and not recompute_in(self._plain_network()):
            raise SettingsError(
                f"recompute: network {self.plan.network.name} has no parts that it can compute again; leave it out, or "
                "take an AD-NeXt, a MedNeXt, a U-Net or ResEnc-L"
            )

    def require_trainable(self) -> None:
        """Refuse single cases for a head that normalises over those that it is given at once.

        Raises:
            SettingsError: batches, or their parts, are too small for the network.
        """
        super().require_trainable()
        batch, parts = self._cases_of_batch, self.settings.accumulate
        # of several processes, each part has a case in every one, and what normalises in them sees all of those
        if batch // parts > 1 or not any(isinstance(module, nn.BatchNorm1d) for module in self.network.modules()):
            return
        if self.settings.batch_size == 1:
            raise SettingsError("batch_size 1: the network's head normalises over the batch; make it 2 or more")
        if batch == 1:
            raise SettingsError("there is 1 case to train on, and the network's head normalises over several")
        larger = f", or batch_size at least {2 * parts}" if batch == self.settings.batch_size else ""
        raise SettingsError(
            f"accumulate={parts}: the smallest part of a batch of {batch} has 1 case, and the network's head "
            f"normalises over a part; make accumulate at most {batch // 2}{larger}"
        )

    @classmethod
    def build_network(cls, plan: Plan, in_channels: int) -> nn.Module:
        """The registered network that the plan names, with its task's outputs and a place for its covariates."""
        return build_planned_network(plan, in_channels)

    @property
    def network_input_voxels(self) -> tuple[int, int, int]:
        """(Z, Y, X) of the stored volumes, or of what training cuts from them."""
        return self.plan.network_input_voxels

    def parameter_groups(self) -> list[dict]:
        """All parameters, those of layers nearer to the input at lower rates where the settings say so."""
        if self.settings.layer_decay == 1:
            return super().parameter_groups()
        network = self.network_of_images()
        encoder = getattr(network, str(network.key_to_encoder))
        return parameter_groups(self._plain_network(), encoder, self.settings.layer_decay)

    def network_of_images(self) -> nn.Module:
        """The network without what covariates add."""
        return network_of_images(self._plain_network())

    def prepare_loss(self) -> None:
        """Let the loss know the targets there are to train on."""
        self.loss = self.build_loss(self._kind.training_targets).to(self.device)

    def covariates(self, cases: list[str]) -> np.ndarray | None:
        """The settings' covariates, standardised by the training cases, or those that the network itself takes."""
        return self._covariates_of(self._data.rows(cases))

    def columns_told(self) -> tuple[str, ...]:
        """The settings' covariates, or those that the network itself takes."""
        return tuple(getattr(self._plain_network(), "columns", ())) or self.settings.covariates

    def unchanged_view(self) -> Change | None:
        """The middle of the volume where training cuts from it."""
        return None if self.settings.crop_voxels is None else CentreCrop(self.settings.crop_voxels)

    def batch_loss(self, batch: Batch) -> torch.Tensor:
        """Loss of one batch, a scalar; override `compute_loss` instead."""
        return self.compute_loss(self._outputs(batch), batch)

    def loss_is_of_tensors(self) -> bool:
        """That of a task is; somebody's own may not be."""
        ways = ("batch_loss", "compute_loss", "build_loss", "_outputs")
        return all(getattr(type(self), name) is getattr(ADNeXtTrainer, name) for name in ways)

    def loss_weight(self, batch: Batch) -> torch.Tensor:
        """The sum of the weights of the cases' classes where the loss has such, else the number of cases."""
        weights = getattr(self.loss, "weight", None)
        if not isinstance(weights, torch.Tensor) or batch.targets.is_floating_point():
            return torch.full((), float(len(batch.indices)), device=self.device)
        return weights[batch.targets].sum()

    def about_run(self) -> list[str]:
        """The stamps of what makes results unlike those of an honest run, and what any run says."""
        return [*self._stamps(), *super().about_run()]

    def _stamps(self) -> tuple[str, ...]:
        """Those of the settings, and whether it is known whom the first weights have seen; of the first process."""
        is_known = self._first_weights() is None or (self._corpus is not None and self._corpus.complete)
        return self.settings.warnings if is_known else (*self.settings.warnings, PEOPLE_NOT_KNOWN)

    def do_split(self) -> tuple[list[str], list[str]]:
        """Cases to train on, and cases to choose the epoch on: `selection`, or under the paper's protocol `val`.

        Raises:
            SplitError: the splits do not fit the data, or there is no such fold.
        """
        return self._data.cases_to_train_on(self.settings)

    def compared_on(self) -> str:
        """Under the paper's protocol, the very cases that are held out."""
        return "held-out fold" if self.settings.protocol == "paper" else "selection"

    def validation_step(self, batch: Batch) -> dict:
        """Outputs of one batch, in float32."""
        batch = batch.to(self.device)
        with self.arithmetic():
            outputs = self._outputs(batch)
        return {"indices": batch.indices, "outputs": outputs.float()}

    def epoch_scores(self, outputs: list[dict]) -> dict[str, float]:
        """Loss and the scores of the task."""
        return self._predictions(self._selection_cases, outputs).summary()

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """Log how well the epoch does on the cases epochs are compared on, and where asked to, meter it."""
        super().on_validation_epoch_end(val_outputs)
        if self.settings.inflation_meter and self._data.parts["val"] and not self.disable_checkpointing:
            self._meter_epoch()

    def rank_of_epoch(self, scores: dict[str, float]) -> tuple[float, float]:
        """What the task compares epochs by."""
        return self._kind.rank(scores, self.settings.protocol)

    def checkpoint_notes(self) -> dict:
        """What outputs and covariates are relative to."""
        notes = self._kind.notes()
        if self.settings.covariates:
            notes["covariate_scale"] = self._covariate_scale.to_json()
        return notes

    # ------------------------------------------------------------------ the held-out fold

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Predict the held-out fold, and `selection` for thresholds, into `validation/`.

        Args:
            save_probabilities: nnU-Net's `--npz`; probabilities are always saved.
        """
        wait_for_all()
        best = self._folder.checkpoint_best
        # of several machines' views of a file system one may lag behind
        use_best = of_first_process(self.settings.evaluate_with == "best" and best.is_file())
        if use_best:
            self.load_checkpoint(str(best))
        split = self._data.parts
        held_out = ("val", "selection") if self.settings.protocol == "honest" else ("val",)
        parts = {part: self._predict(split[part]) for part in held_out if split[part]}
        if self.local_rank != 0:
            return
        summary = FoldSummary(
            trainer=type(self).__name__,
            protocol=self.settings.protocol,
            fold=self.fold,
            epochs=self.settings.epochs,
            best_epoch=self._best_epoch,
            evaluated_checkpoint=(best if use_best else self._folder.checkpoint_final).name,
            seed=self.settings.seed,
            metrics={part: dict(predictions.summary()) for part, predictions in parts.items()},
            warning="; ".join(self._stamps()) or None,
            permute_labels=self.settings.permute_labels,
        )
        if parts:
            write_predictions(parts, self.fold, self._data.subjects, self.task, self._folder.predictions_file)
            scores = parts["val"].summary()
            found = ", ".join(f"{title} {scores[name]:.3f}" for name, title in self.score_names.items())
            self.print_to_log_file(
                f"Held-out fold {self.fold}: {found} "
                f"({scores['cases']} cases, by weights of {self._epoch_in_words(is_best=use_best)})"
            )
        write_summary(summary, self._folder.summary_file)

    # ------------------------------------------------------------------ private

    def _epoch_in_words(self, *, is_best: bool) -> str:
        """Which epoch's weights the held-out part is predicted with."""
        if self._best_epoch is None:
            return "the last epoch"
        best, where = f"epoch {self._best_epoch + 1}", f"the best on {self.compared_on()}"
        return f"{best}, {where}" if is_best else f"the last epoch; {where} was {best}"

    @cached_property
    def _kind(self) -> TaskKind:
        training, _ = self.do_split()
        return TASK_KINDS[self.task.kind](self.task, self._data.targets(training))

    @cached_property
    def _covariate_scale(self) -> CovariateScale:
        training, _ = self.do_split()
        return CovariateScale.of(self._data.rows(training), self.settings.covariates, self.task)

    def _covariates_of(self, rows: pd.DataFrame) -> np.ndarray | None:
        columns = getattr(self._plain_network(), "columns", ())
        if columns:
            return plain_columns(rows, columns, self.task, self.plan.network.name or "of the plan")
        return self._covariate_scale.apply(rows) if self.settings.covariates else None

    def _meter_epoch(self) -> None:
        """Write down what this epoch's network says of the held-out fold, and forget it: no choice may rest on it."""
        cases = self._data.parts["val"]
        gpus = [torch.cuda.current_device()] if self.device.type == "cuda" else []
        with torch.random.fork_rng(gpus):  # loaders draw from the generator of the whole process
            predictions = self._predictions(cases, self._validate(self._held_out_loader))
        if self.local_rank == 0:
            # one file per epoch: an epoch that is trained again after an interruption replaces its own
            path = self._folder.metered_file(self.current_epoch)
            write_predictions({"val": predictions}, self.fold, self._data.subjects, self.task, path)

    @cached_property
    def _held_out_loader(self) -> Loader:
        return self._loader(self._data.parts["val"])

    def _outputs(self, batch: Batch) -> torch.Tensor:
        plain = self._plain_network()
        # to predict, processes need not agree on how many batches they have
        network = plain if self.is_ddp and not plain.training else self.network_launched()
        return network(batch.images, batch.covariates) if batch.covariates.shape[1] else network(batch.images)

    def _predictions(self, cases: list[str], outputs: list[dict]) -> Predictions:
        return self._kind.predictions(cases, outputs, self._data.targets(cases))

    def _predict(self, cases: list[str]) -> Predictions:
        return self._predictions(cases, self._validate(self._loader(cases)))
