"""nnU-Net's life of a run, as all our trainers have it: seeded, resumable to the bit, on whole scans.

nnU-Net constructs the class, calls `initialize`, `load_checkpoint` or `run_training`, and at the end
`perform_actual_validation`; those names and signatures are its contract. What is learned is up to subclasses.
"""

import time
from abc import ABC, abstractmethod
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from adnext_plugin.cpu_memory import keep_large_buffers
from adnext_plugin.data.augmentation import Augmentation
from adnext_plugin.data.loading import Batch, Change, EpochLoader
from adnext_plugin.environment import cpu_threads
from adnext_plugin.errors import AdnextError, WeightsError
from adnext_plugin.files import write_json
from adnext_plugin.partial_files import remove_abandoned
from adnext_plugin.paths import BLOCK, file_of_fold
from adnext_plugin.plan import NetworkSettings, plans_with
from adnext_plugin.preprocessing.chain import fitted_steps_of
from adnext_plugin.preprocessing.fitted import FittedSteps, read_states, with_states, write_states
from adnext_plugin.records import from_json, to_json
from adnext_plugin.run_folder import FoldFolder
from adnext_plugin.settings import RunSettings
from adnext_plugin.trainers.fold_data import FoldData
from adnext_plugin.training.checkpoints import set_earlier_run_aside, write_checkpoint
from adnext_plugin.training.corpus import describe_corpus, joined, key_home
from adnext_plugin.training.logger import RunLogger
from adnext_plugin.training.plan_resolution import (
    PlanKey,
    about_stock_data,
    resolve_plan,
    settings_for_resume,
)
from adnext_plugin.training.precision import autocast, uses_float16
from adnext_plugin.training.provenance import provenance
from adnext_plugin.training.schedule import EpochSchedule
from adnext_plugin.training.weights import load_encoder, read_checkpoint


class RunTrainer(nnUNetTrainer, ABC):
    """A run on one fold. Subclasses say which network, which loss, and how epochs are scored."""

    settings: RunSettings
    plan_key: PlanKey  # where in the plan the settings stand
    score_names: dict[str, str]  # what is logged of an epoch besides losses, and how it is called
    network_settings: NetworkSettings | None = None

    # ------------------------------------------------------------------ what a subclass says

    @abstractmethod
    def batch_loss(self, batch: Batch) -> torch.Tensor:
        """Loss of one training batch on the run's device, a scalar."""

    @abstractmethod
    def validation_step(self, batch: Batch) -> dict:
        """What `epoch_scores` needs to know of one batch, on the CPU, with `indices` of its cases."""

    @abstractmethod
    def epoch_scores(self, outputs: list[dict]) -> dict[str, float]:
        """`loss` and the scores of `score_names`, from the validation steps of the cases epochs are compared on."""

    @abstractmethod
    def rank_of_epoch(self, scores: dict[str, float]) -> tuple[float, float]:
        """What epochs are compared by, the larger the better."""

    def prepare_loss(self) -> None:
        """Build what `batch_loss` needs."""

    def covariates(self, cases: list[str]) -> np.ndarray | None:
        """What is known of cases besides their images, (N, K) float32."""

    def unchanged_view(self) -> Change | None:
        """What is done to images that are predicted; None: nothing."""

    def about_run(self) -> list[str]:
        """Lines for the beginning of the log."""
        return []

    def checkpoint_notes(self) -> dict:
        """Further content of the checkpoint's `adnext` block."""
        return {}

    # ------------------------------------------------------------------ what a variant may override

    def build_augmentation(self) -> Augmentation:
        """Random changes to each training image."""
        return Augmentation(self.settings.augmentation, self.plan.preprocessing.input_size_voxels)

    def build_optimizer(self) -> torch.optim.Optimizer:
        """The settings' optimizer over every parameter."""
        settings = self.settings
        shared = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
        if settings.optimizer == "sgd":
            return torch.optim.SGD(self.parameter_groups(), momentum=settings.momentum, **shared)
        kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
        return kind(self.parameter_groups(), betas=settings.betas, **shared)

    def parameter_groups(self) -> list[dict]:
        """What `build_optimizer` gives the optimizer: all parameters, in groups that may differ in rate."""
        return [{"params": list(self.network.parameters())}]

    # ------------------------------------------------------------------ construction

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int | str,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008  nnU-Net's signature
    ) -> None:
        plan, settings = resolve_plan(
            plans, configuration, dataset_json, self.network_settings, self.settings, self.plan_key
        )
        plans = plans_with(plans, configuration, plan)
        # nnU-Net demands the key when it trains and leaves it out when it predicts
        plans.setdefault("continue_training", False)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.plan = plan
        self.task = plan.task
        self.logger.local_logger = RunLogger(self.score_names)
        self._use(settings)
        self.enable_deep_supervision = False
        self._best = (float("-inf"), float("-inf"))
        self._best_epoch: int | None = None
        self._corpus: dict | None = None  # whom the network has seen; of the first process only
        if self.device.type == "cpu":
            keep_large_buffers()
            torch.set_num_threads(cpu_threads())
        if not uses_float16(self.device):
            self.grad_scaler = None

    def initialize(self) -> None:
        """Build network, optimizer and schedule; weights are drawn from the run's seed."""
        self._seed_torch(epoch=-1)
        self.batch_size = self.settings.batch_size
        self.num_input_channels = len(self.dataset_json["channel_names"])
        self.network = self.build_network_architecture(
            self.plans_manager, self.configuration_manager, self.num_input_channels, self.task.num_outputs, False
        ).to(self.device)
        self.optimizer, self.lr_scheduler = self.configure_optimizers()
        if self.is_ddp:
            self.network = DistributedDataParallel(self.network, device_ids=[self.local_rank])
        self.dataset_class = nnUNetDatasetBlosc2
        self.was_initialized = True

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, EpochSchedule]:
        """nnU-Net's hook; override `build_optimizer` instead."""
        optimizer = self.build_optimizer()
        return optimizer, EpochSchedule(optimizer, self.settings)

    # ------------------------------------------------------------------ data

    def do_split(self) -> tuple[list[str], list[str]]:
        """Cases to train on, and cases to compare epochs on.

        Raises:
            SplitError: the splits do not fit the data, or there is no such fold.
        """
        return self._data.parts["train"], self._data.parts["selection"]

    def get_dataloaders(self) -> tuple[EpochLoader, EpochLoader]:
        """Loaders of the training cases and of those the epoch is chosen on."""
        training, selection = self.do_split()
        self._selection_cases = selection
        self.prepare_loss()
        self.print_to_log_file(f"{len(training)} cases to train on, {len(selection)} to choose the epoch on")
        train_loader = self._loader(training, augmentation=self.build_augmentation())
        selection_loader = self._loader(selection)
        self.num_iterations_per_epoch = len(train_loader)
        self.num_val_iterations_per_epoch = len(selection_loader)
        return train_loader, selection_loader

    # ------------------------------------------------------------------ the loop's hooks

    def on_train_start(self) -> None:
        """Set an earlier run's files aside, prepare the data, write down what this run is."""
        folder, weights = Path(self.output_folder), self._first_weights()
        if weights is not None and weights.resolve().parent == folder.resolve():
            raise WeightsError(f"{weights} lies in the folder of the run that is to begin with it; give a copy of it")
        if self.local_rank == 0:
            remove_abandoned(folder, deep=True)
        if self.current_epoch == 0 and self.local_rank == 0 and not self.disable_checkpointing:
            aside = set_earlier_run_aside(folder)
            if aside is not None:
                self.print_to_log_file(f"Files of an earlier run are now in {aside}")
        super().on_train_start()
        # nnU-Net switches benchmarking on just before this, which makes results depend on timing
        torch.backends.cudnn.benchmark = False
        torch.backends.cudnn.deterministic = True
        if weights is not None and self.current_epoch == 0:
            self.print_to_log_file(f"Weights from {weights}: {load_encoder(self.network_of_images(), weights)}")
        if self.plan.prepared_by == "nnunet":
            self.print_to_log_file(about_stock_data(self.plan, self.settings, self.plans_manager.plans))
        if self.local_rank == 0:
            self._corpus = self._corpus or self._describe_corpus()
        for line in self.about_run():
            self.print_to_log_file(line)
        if self.local_rank == 0:
            write_json({"settings": to_json(self.settings), **provenance()}, folder / "run.json")

    def run_training(self) -> None:
        """nnU-Net's loop, left early where the settings' patience is at an end."""
        self.on_train_start()
        while self.current_epoch < self.num_epochs and not self._is_out_of_patience():
            self.run_epoch()
        if self._is_out_of_patience():
            patience = self.settings.patience_epochs
            self.print_to_log_file(f"Stopped after epoch {self.current_epoch}: none of the last {patience} was better")
        self.on_train_end()

    def run_epoch(self) -> None:
        """Train on every batch, score the cases epochs are compared on, save."""
        self.on_epoch_start()
        self.on_train_epoch_start()
        outputs = [self.train_step(next(self.dataloader_train)) for _ in range(self.num_iterations_per_epoch)]
        self.on_train_epoch_end(outputs)
        with torch.no_grad():
            self.on_validation_epoch_start()
            steps = range(self.num_val_iterations_per_epoch)
            self.on_validation_epoch_end([self.validation_step(next(self.dataloader_val)) for _ in steps])
        self.on_epoch_end()

    def on_train_epoch_start(self) -> None:
        """Seed the epoch, so that it comes out the same whether or not the run was interrupted before it."""
        self.network.train()
        self.dataloader_train.start(self.current_epoch)
        # last, because starting worker processes draws from the same generator
        self._seed_torch(self.current_epoch)
        self.lr_scheduler.step(self.current_epoch)
        self.logger.log("lrs", self.optimizer.param_groups[0]["lr"], self.current_epoch)

    def train_step(self, batch: Batch) -> dict:
        """One optimizer step.

        Raises:
            AdnextError: the loss is no longer finite.
        """
        batch = Batch(*(tensor.to(self.device, non_blocking=True) for tensor in batch))
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.device):
            loss = self.batch_loss(batch)
        if not torch.isfinite(loss):
            raise AdnextError(f"the loss became {loss.item()} in epoch {self.current_epoch}; lower the learning rate")
        if self.grad_scaler is None:
            loss.backward()
            self.optimizer.step()
        else:
            self.grad_scaler.scale(loss).backward()
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
        return {"loss": float(loss.detach())}

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """Log the mean training loss."""
        losses = [output["loss"] for output in self._from_all_processes(train_outputs)]
        self.logger.log("train_losses", float(np.mean(losses)), self.current_epoch)

    def on_validation_epoch_start(self) -> None:
        """Start over with the cases that the epoch is chosen on."""
        self.network.eval()
        self.dataloader_val.start(self.current_epoch)

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """Log how well the epoch does on the cases epochs are compared on."""
        scores = dict.fromkeys(("loss", *self.score_names), float("nan"))
        if self._selection_cases:
            scores = self.epoch_scores(self._from_all_processes(val_outputs))
        self.logger.log("val_losses", scores["loss"], self.current_epoch)
        for name in self.score_names:
            self.logger.log(f"val_{name}", scores[name], self.current_epoch)
        self._scores = scores

    def on_epoch_end(self) -> None:
        """Report, and save: first the best so far, then the state to resume from."""
        self.logger.log("epoch_end_timestamps", time.time(), self.current_epoch)
        self.print_to_log_file(self.logger.local_logger.describe_epoch(self.num_epochs, self.compared_on()))
        folder = Path(self.output_folder)
        if self._selection_cases and self.rank_of_epoch(self._scores) > self._best:
            self._best, self._best_epoch = self.rank_of_epoch(self._scores), self.current_epoch
            self.save_checkpoint(str(folder / "checkpoint_best.pth"))
        self.save_checkpoint(str(folder / "checkpoint_latest.pth"))
        if self.local_rank == 0:
            self.logger.plot_progress_png(self.output_folder)
        self.current_epoch += 1

    def compared_on(self) -> str:
        """What the cases epochs are compared on are called."""
        return "selection"

    # ------------------------------------------------------------------ checkpoints

    def save_checkpoint(self, filename: str) -> None:
        """Write everything a resumed run needs, in nnU-Net's layout plus an `adnext` block, in one piece."""
        if self.local_rank != 0 or self.disable_checkpointing:
            return
        checkpoint = {
            "network_weights": self._plain_network().state_dict(),
            "optimizer_state": self.optimizer.state_dict(),
            "grad_scaler_state": self.grad_scaler.state_dict() if self.grad_scaler is not None else None,
            "logging": self.logger.get_checkpoint(),
            "_best_ema": self._best[0],
            "current_epoch": self.current_epoch + 1,
            "init_args": self.my_init_kwargs,
            "trainer_name": type(self).__name__,
            "inference_allowed_mirroring_axes": None,
            "adnext": {
                "settings": to_json(self.settings),
                "best": list(self._best),
                "best_epoch": self._best_epoch,
                "pretraining_data": self._corpus,  # to whoever begins with these weights
                **self.checkpoint_notes(),
                **provenance(),
            },
        }
        write_checkpoint(checkpoint, Path(filename))

    def load_checkpoint(self, filename_or_checkpoint: str | dict) -> None:
        """Continue from a checkpoint of this trainer.

        Raises:
            WeightsError: it was made by another kind of trainer or for another network.
            SettingsError: the settings asked for now would make it another run.
        """
        where = "the checkpoint" if isinstance(filename_or_checkpoint, dict) else filename_or_checkpoint
        checkpoint = filename_or_checkpoint
        if not isinstance(checkpoint, dict):
            checkpoint = read_checkpoint(Path(checkpoint), self.device)
        if "adnext" not in checkpoint:
            raise WeightsError(f"{where} was not made by an AD-NeXt trainer; use it with -pretrained_weights")
        saved = from_json(type(self.settings), checkpoint["adnext"]["settings"], f"{where}, settings")
        self._use(settings_for_resume(saved, str(where)))
        if not self.was_initialized:
            self.initialize()
        try:
            self._plain_network().load_state_dict(checkpoint["network_weights"])
        except RuntimeError as error:
            raise WeightsError(f"{where} is of another network than the plan's {self.plan.network.name}") from error
        self.optimizer.load_state_dict(checkpoint["optimizer_state"])
        if self.grad_scaler is not None and checkpoint["grad_scaler_state"] is not None:
            self.grad_scaler.load_state_dict(checkpoint["grad_scaler_state"])
        self.logger.load_checkpoint(checkpoint["logging"])
        self.current_epoch = checkpoint["current_epoch"]
        self._best = tuple(checkpoint["adnext"]["best"])
        self._best_epoch = checkpoint["adnext"]["best_epoch"]
        self._corpus = checkpoint["adnext"].get("pretraining_data")

    # ------------------------------------------------------------------ hooks of nnU-Net that mean nothing here

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        """There is no decoder to supervise."""

    def plot_network_architecture(self) -> None:
        """nnU-Net's own always fails."""

    def _do_i_compile(self) -> bool:
        return False

    def _save_debug_information(self) -> None:
        # nnU-Net's writes every attribute as text, labels included; run.json says what is needed
        pass

    # ------------------------------------------------------------------ private

    def _use(self, settings: RunSettings) -> None:
        self.settings = settings
        self.plan = replace(self.plan, **{self.plan_key: to_json(settings)})
        # goes into plans.json and into checkpoints, from where a model is built again, and into nnU-Net's copy of it
        block = to_json(self.plan)
        self.plans_manager.plans["configurations"][self.configuration_name][BLOCK] = block
        self.configuration_manager.configuration[BLOCK] = block
        self.num_epochs = settings.epochs
        self.initial_lr, self.weight_decay = settings.learning_rate, settings.weight_decay
        if self.was_initialized:
            self.lr_scheduler = EpochSchedule(self.optimizer, settings)

    def network_of_images(self) -> nn.Module:
        """The part of the network that `-pretrained_weights` is for."""
        return self._plain_network()

    def _plain_network(self) -> nn.Module:
        return self.network.module if isinstance(self.network, DistributedDataParallel) else self.network

    def _describe_corpus(self) -> dict:
        """Those the network learns from and those its epoch is chosen on, and whom its first weights had seen."""
        cases = [*self._data.parts["train"], *self._data.parts["selection"]]
        corpus = describe_corpus(self._data.rows(cases), self.plans_manager.dataset_name, key_home())
        weights = self._first_weights()
        if weights is None:
            return corpus
        earlier = read_checkpoint(weights).get("adnext", {}) if weights.is_file() else {}
        return joined(corpus, earlier.get("pretraining_data"))

    def _first_weights(self) -> Path | None:
        path = self.settings.pretrained_weights
        return file_of_fold(path, self.fold) if path else None

    @cached_property
    def _data(self) -> FoldData:
        return FoldData(
            dataset_folder=Path(self.preprocessed_dataset_folder_base),
            images=Path(self.preprocessed_dataset_folder),
            fold=self.fold,
            plan=self.plan,
            stored_spacing_mm=tuple(self.configuration_manager.spacing),
        )

    @cached_property
    def _fitted_steps(self) -> FittedSteps | None:
        """The plan's fitted steps: fitted on the training part when a run begins, and kept while it goes on."""
        settings, path = self.plan.preprocessing, FoldFolder(Path(self.output_folder)).fitted_steps_file
        if not fitted_steps_of(settings):
            return None
        if self.current_epoch > 0:
            return with_states(settings, read_states(path), str(path))
        training, _ = self.do_split()
        fitted = self._data.fit_steps(training)
        if fitted is not None and self.local_rank == 0 and not self.disable_checkpointing:
            write_states(fitted, path)
        return fitted

    def _loader(self, cases: list[str], augmentation: Augmentation | None = None) -> EpochLoader:
        return self._data.loader(
            cases,
            self.settings,
            change=self.unchanged_view() if augmentation is None else augmentation,
            shuffle=augmentation is not None,
            covariates=self.covariates(cases),
            fitted=self._fitted_steps,
            on_gpu=self.device.type == "cuda",
            rank=self.local_rank,
            processes=dist.get_world_size() if self.is_ddp else 1,
        )

    @torch.no_grad()
    def _validate(self, loader: EpochLoader) -> list[dict]:
        """Outputs of validation steps for the cases of a loader, in their order."""
        self.network.eval()
        return self._from_all_processes([self.validation_step(batch) for batch in loader.batches(epoch=0)])

    def _from_all_processes(self, outputs: list[dict]) -> list[dict]:
        if not self.is_ddp:
            return outputs
        gathered: list = [None] * dist.get_world_size()
        dist.all_gather_object(gathered, outputs)
        return [output for of_process in gathered for output in of_process]

    def _seed_torch(self, epoch: int) -> None:
        # rank apart, so that processes drop different residual branches
        seeds = np.random.SeedSequence((self.settings.seed, epoch + 1, self.local_rank if epoch >= 0 else 0))
        torch.manual_seed(int(seeds.generate_state(1)[0]))

    def _is_out_of_patience(self) -> bool:
        patience = self.settings.patience_epochs
        if patience is None or self._best_epoch is None:
            return False
        # a function of what a checkpoint holds, so that a resumed run stops where an uninterrupted one does
        return self.current_epoch - 1 - self._best_epoch >= patience
