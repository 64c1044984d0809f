"""nnU-Net's life of a run, as all our trainers have it: seeded, resumable to the bit, on whole scans.

nnU-Net constructs the class, calls `initialize`, `load_checkpoint` or `run_training`, and at the end
`perform_actual_validation`; those names and signatures are its contract. What is learned is up to subclasses.

    checkpointing.ResumableRun   settings and state, written down and found again
    fold_run.FoldRun             the data of the fold
    run_memory.MemoryOfRun       what it takes of a GPU's memory
    RunTrainer                   the loop
    labelled, self_supervised    what is learned
"""

import math
import time
from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.utilities.helpers import empty_cache
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from adnext_plugin.batch import Batch
from adnext_plugin.builtin.weights import name_of_file
from adnext_plugin.data.loading import Loader
from adnext_plugin.environment import LaunchSetting, launch_setting, loggers_from_environment
from adnext_plugin.errors import SettingsError, WeightsError
from adnext_plugin.log import is_told
from adnext_plugin.memory_shortage import advising
from adnext_plugin.networks.kernels.choice import fastest_plans, layers_by_shape, plans_from_json, use_plans
from adnext_plugin.networks.kernels.triton_here import switch
from adnext_plugin.networks.recomputation import parts_computed_again
from adnext_plugin.partial_files import remove_abandoned
from adnext_plugin.paths import without_links
from adnext_plugin.pretraining.gather import share_of_all_processes
from adnext_plugin.progress import EpochProgress
from adnext_plugin.records import to_json
from adnext_plugin.run_records import RunInfo, write_run_info
from adnext_plugin.trainers.processes import (
    from_all_processes,
    number_of_processes,
    of_first_process,
    seed_torch,
    sharing_gradients,
    wait_for_all,
)
from adnext_plugin.trainers.run_memory import MemoryOfRun
from adnext_plugin.training.batch_norm import batch_norms, settle_batch_norms, share_batch_norms
from adnext_plugin.training.checkpoints import set_earlier_run_aside
from adnext_plugin.training.launching import LaunchedNetwork, launch_of
from adnext_plugin.training.loggers import Watchers
from adnext_plugin.training.plan_resolution import about_stock_data
from adnext_plugin.training.precision import HALF, Arithmetic, chosen
from adnext_plugin.training.schedule import EpochSchedule
from adnext_plugin.training.states import mend_best
from adnext_plugin.training.step_results import numbers, on_cpu, require_finite
from adnext_plugin.training.weights import load_encoder

SECONDS_BETWEEN_FIGURES = 60  # a figure of progress takes as long as an epoch of a small cohort


class RunTrainer(MemoryOfRun):
    """A run on one fold. Subclasses say which network, which loss, and how epochs are scored.

    What a subclass must say is abstract: `settings`, `plan_key`, `score_names`, `build_network`, `batch_loss`,
    `validation_step`, `epoch_scores`, `rank_of_epoch`, `prepare_loss`, `perform_actual_validation`.
    """

    _losses: Sequence[torch.Tensor | float] = ()  # of the epoch's steps, until they are logged

    # ------------------------------------------------------------------ what a subclass says

    @abstractmethod
    def batch_loss(self, batch: Batch) -> torch.Tensor:
        """Loss of one training batch on the run's device, a scalar."""

    def loss_weight(self, batch: Batch) -> torch.Tensor | None:
        """What `batch_loss` is a mean over, a scalar: by default the number of cases.

        Parts of a batch, those of other processes among them, add up to the loss of the whole by it. None: the loss is
        that of all processes already, and a batch cannot be cut into parts.
        """
        return torch.full((), float(len(batch.indices)), device=self.device)

    @abstractmethod
    def validation_step(self, batch: Batch) -> dict:
        """What `epoch_scores` needs to know of one batch, with `indices` of its cases; on whatever device."""

    @abstractmethod
    def epoch_scores(self, outputs: list[dict]) -> dict[str, float]:
        """`loss` and the scores of `score_names`, from the validation steps of the cases epochs are compared on."""

    @abstractmethod
    def rank_of_epoch(self, scores: dict[str, float]) -> tuple[float, float]:
        """What epochs are compared by, the larger the better."""

    @abstractmethod
    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Judge what was learned, into `validation/`; nnU-Net calls this last.

        Args:
            save_probabilities: nnU-Net's `--npz`.
        """

    def network_of_images(self) -> nn.Module:
        """The part of the network that `-pretrained_weights` is for."""
        return self._plain_network()

    def network_in_processes(self) -> nn.Module:
        """What of several processes' networks `DistributedDataParallel` wraps, and `batch_loss` then calls."""
        return self.network

    def network_launched(self) -> nn.Module:
        """The network for a step that calls it once; its kernels are launched together if that helps."""
        if self._launched.network is self.network and (self.network.training or self.loss_is_of_tensors()):
            return cast(nn.Module, self._launched)
        return self.network

    def loss_is_of_tensors(self) -> bool:
        """Whether `batch_loss` is a function of a batch's images, targets and covariates, and of weights.

        It may not depend on anything else that changes, such as the epoch or which cases there are, nor on values read
        from the device; then a GPU is given the whole step at once.
        """
        return False

    def about_run(self) -> list[str]:
        """Lines for the beginning of the log: what memory a GPU will need."""
        return [self.about_memory()] if self.device.type == "cuda" else []

    def require_trainable(self) -> None:
        """Refuse what cannot be trained although network and loaders could be built; called before anything is touched.

        Raises:
            AdnextError: it cannot.
        """
        processes, parts = number_of_processes(), self.settings.accumulate
        smallest_share = self._cases_of_batch // processes
        if processes > 1 and parts > smallest_share and batch_norms(self._plain_network()):
            # with each part they exchange statistics, and would wait for a process that has no part left
            raise SettingsError(
                f"accumulate={parts}: of a batch of {self._cases_of_batch} a process of {processes} has as few as "
                f"{smallest_share}, and those of a network with batch norm need equally many parts; make accumulate at "
                f"most {smallest_share}, batch_size at least {parts * processes}, or use fewer GPUs (--num-gpus)"
            )

    # ------------------------------------------------------------------ what a variant may override

    def build_optimizer(self) -> torch.optim.Optimizer:
        """The settings' optimizer over every parameter."""
        settings = self.settings
        shared: dict[str, Any] = {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
        if settings.optimizer == "sgd":
            return torch.optim.SGD(self.parameter_groups(), momentum=settings.momentum, **shared)
        kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
        if self.device.type in ("cpu", "cuda"):
            shared["fused"] = True  # one pass over each parameter, and on a GPU one kernel for all
        return kind(self.parameter_groups(), betas=settings.betas, amsgrad=settings.amsgrad, **shared)

    def parameter_groups(self) -> list[dict]:
        """What `build_optimizer` gives the optimizer: all parameters, in groups that may differ in rate."""
        return [{"params": list(self.network.parameters())}]

    # ------------------------------------------------------------------ construction

    def initialize(self) -> None:
        """Build network, optimizer and schedule; weights are drawn from the run's seed."""
        if self.settings.batch_size < number_of_processes():
            raise SettingsError(
                f"batch_size {self.settings.batch_size} is less than the {number_of_processes()} processes that share "
                "a batch; make it larger, or use fewer GPUs (--num-gpus)"
            )
        seed_torch(self.settings.seed, -1, self.local_rank)
        self.batch_size = self.settings.batch_size
        self.num_input_channels = len(self.channel_names)
        self.network = self.build_network(self.plan, self.num_input_channels).to(self.device)
        if self._arithmetic is None:
            self._choose_precision()
        self._choose_kernels()
        if self.is_ddp:
            share_batch_norms(self.network)
        self.optimizer, self.lr_scheduler = self.configure_optimizers()
        if self.is_ddp:
            self.network = sharing_gradients(self.network_in_processes(), self.device)
        self.dataset_class = nnUNetDatasetBlosc2
        self.was_initialized = True

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, EpochSchedule]:
        """nnU-Net's hook; override `build_optimizer` instead."""
        optimizer = self.build_optimizer()
        return optimizer, EpochSchedule(optimizer, self.settings)

    # ------------------------------------------------------------------ the loop's hooks

    def on_train_start(self) -> None:
        """Refuse what cannot be trained, set an earlier run's files aside, write down what this run is and sees."""
        folder = self._folder.path
        self._prepare()
        wait_for_all()  # what one process refuses is trained by none
        if self.local_rank == 0:
            remove_abandoned(folder, deep=True)
        if self.current_epoch == 0 and self.local_rank == 0 and not self.disable_checkpointing:
            aside = set_earlier_run_aside(folder)
            if aside is not None:
                self.print_to_log_file(f"Files of an earlier run are now in {aside}")
        if self._best_epoch is not None and self.local_rank == 0:
            is_needed = getattr(self.settings, "evaluate_with", "final") == "best"
            if (done := mend_best(self._folder, self._best_epoch, is_needed=is_needed)) is not None:
                self.print_to_log_file(f"WARNING: {done}")
        super().on_train_start()
        self._note_devices()
        _let_convolutions_repeat()
        if self.plan.prepared_by == "nnunet":
            self.print_to_log_file(about_stock_data(self.plan, self.settings, self.plans_manager.plans))
        if self.local_rank == 0:
            self._corpus = self._corpus or self._describe_corpus()
        for line in self.about_run():
            self.print_to_log_file(line)
        if self.current_epoch == 0:
            self._note_data()
            self._keep_fitted_steps()
        if self.local_rank == 0:
            info = RunInfo(settings=getattr(self.plan, self.plan_key), provenance=self._provenance())
            write_run_info(info, self._folder.run_file)
            self._watch()

    def on_train_end(self) -> None:
        """Draw all epochs, then save the last state, which takes the place of those to resume from."""
        self._draw_progress()
        self.current_epoch -= 1  # a state says after which epoch it was saved
        self.save_checkpoint(str(self._folder.checkpoint_final))
        self.current_epoch += 1
        self.wait_for_checkpoints()
        if self.local_rank == 0 and not self.disable_checkpointing:
            for path in (self._folder.checkpoint_latest, self._folder.checkpoint_previous):
                path.unlink(missing_ok=True)
        for watcher in self._watchers:
            watcher.close()
        empty_cache(self.device)
        self.print_to_log_file("Training done.", also_print_to_console=not is_told())

    def run_training(self) -> None:
        """nnU-Net's loop, left early where the settings' patience is at an end."""
        with advising(self.memory_advice):
            self._run_training()

    def _run_training(self) -> None:
        self.on_train_start()
        try:
            while self.current_epoch < self.num_epochs and not self._is_out_of_patience():
                self.run_epoch()
        finally:
            self._progress.close()
        if self._is_out_of_patience():
            patience = self.settings.patience_epochs
            self.print_to_log_file(f"Stopped after epoch {self.current_epoch}: none of the last {patience} was better")
        self.on_train_end()

    def run_epoch(self) -> None:
        """Train on every batch, score the cases epochs are compared on, save."""
        self.on_epoch_start()
        self.on_train_epoch_start()
        outputs = []
        for step in range(self.num_iterations_per_epoch):
            self.lr_scheduler.before_step(self.current_epoch, step, self.num_iterations_per_epoch)
            outputs.append(self.train_step(next(self.dataloader_train)))
            self._progress.step()
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
        seed_torch(self.settings.seed, self.current_epoch, self.local_rank)
        self.lr_scheduler.step(self.current_epoch)
        self.logger.log("lrs", self.optimizer.param_groups[0]["lr"], self.current_epoch)

    def train_step(self, batch: Batch) -> dict:
        """One optimizer step; its loss stays on the device.

        Raises:
            AdnextError: the loss is no longer finite; where that can only be told by waiting for the device, or for
                other processes, `on_validation_epoch_end` tells it.
        """
        loss = self._find_gradients(batch.to(self.device))
        if self.grad_scaler is None:
            self.optimizer.step()
        else:
            self.grad_scaler.step(self.optimizer)
            self.grad_scaler.update()
        return {"loss": loss}

    def on_train_epoch_end(self, train_outputs: list[dict]) -> None:
        """Keep the losses for `on_validation_epoch_end`, and where asked to, settle the statistics of batch norms."""
        # to read them would let a GPU run dry before it is given the cases to score
        self._losses = [output["loss"] for output in train_outputs]
        if self.settings.precise_batch_norm:
            self._settle_batch_norms()

    def on_validation_epoch_start(self) -> None:
        """Start over with the cases that the epoch is chosen on."""
        self.network.eval()
        self.dataloader_val.start(0)  # whatever is drawn for a case is what it was in every other epoch

    def on_validation_epoch_end(self, val_outputs: list[dict]) -> None:
        """Log the mean training loss, and how well the epoch does on the cases epochs are compared on.

        Raises:
            AdnextError: a loss of the epoch is not finite.
        """
        losses = from_all_processes(numbers(self._losses))
        require_finite(losses, self.current_epoch)
        self.logger.log("train_losses", float(np.mean(losses)), self.current_epoch)
        scores = dict.fromkeys(("loss", *self.score_names), float("nan"))
        if self._selection_cases:
            scores = self.epoch_scores(from_all_processes(on_cpu(val_outputs)))
        self.logger.log("val_losses", scores["loss"], self.current_epoch)
        for name in self.score_names:
            self.logger.log(f"val_{name}", scores[name], self.current_epoch)
        self._scores = scores

    def on_epoch_end(self) -> None:
        """Report, and save: first the best so far, then the state to resume from."""
        self.logger.log("epoch_end_timestamps", time.time(), self.current_epoch)
        log = self.logger.local_logger
        is_shown = self._progress.epoch(self.current_epoch + 1, log.describe_scores(self.compared_on()))
        line = log.describe_epoch(self.num_epochs, self.compared_on())
        self.print_to_log_file(line, also_print_to_console=is_shown)
        if self._selection_cases and self.rank_of_epoch(self._scores) > self._best:
            self._best, self._best_epoch = self.rank_of_epoch(self._scores), self.current_epoch
            self.save_checkpoint(str(self._folder.checkpoint_best))
        self.save_checkpoint(str(self._folder.checkpoint_latest))
        if time.monotonic() - self._drawn_at > SECONDS_BETWEEN_FIGURES:
            self._draw_progress()
        self.current_epoch += 1

    @property
    def _watchers(self) -> list[Watchers]:
        return [logger for logger in self.logger.loggers if isinstance(logger, Watchers)]

    def _watch(self) -> None:
        names = loggers_from_environment()
        if names and not self._watchers:
            settings = to_json(self.settings)
            run = f"{type(self).__name__} fold {self.fold} seed {self.settings.seed}"
            watchers = Watchers(names, self._folder.path, run, self.current_epoch)
            watchers.update_config({**settings, "trainer": type(self).__name__, "network": self.plan.network.name})
            self.logger.loggers.append(watchers)

    @cached_property
    def _progress(self) -> EpochProgress:
        begun, steps = self.current_epoch, self.num_iterations_per_epoch
        is_bar = is_told() and self.local_rank == 0
        return EpochProgress(f"Fold {self.fold}", self.num_epochs, begun, steps, is_bar=is_bar)

    def _settle_batch_norms(self) -> None:
        # of single cases alone there is no spread
        network = self._plain_network()
        if self._cases_of_batch < 2 or not batch_norms(network):
            return
        # whole batches, dealt out among processes; what is left over may be a single case
        mine = islice(self._unchanged_training_cases.batches(epoch=0), self.local_rank, None, number_of_processes())
        settle_batch_norms(network, self.validation_step, (batch for batch in mine if len(batch.indices) > 1))

    def _draw_progress(self) -> None:
        if self.local_rank == 0:
            self.logger.plot_progress_png(self.output_folder)
        self._drawn_at = time.monotonic()

    def compared_on(self) -> str:
        """What the cases epochs are compared on are called."""
        return "selection"

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

    def _prepare(self) -> None:
        """Build all that training takes; what is refused on the way leaves an earlier run where it is.

        Raises:
            AdnextError: settings, network, data and first weights do not go together.
        """
        weights = self._first_weights()
        if weights is not None and without_links(weights).parent == without_links(self._folder.path):
            raise WeightsError(f"{weights} lies in the folder of the run that is to begin with it; give a copy of it")
        self._refuse_other_data()
        if not self.was_initialized:
            self.initialize()
        self.get_dataloaders()
        self.require_trainable()
        if weights is not None and self.current_epoch == 0:
            self.print_to_log_file(
                f"Weights from {name_of_file(weights)}: {load_encoder(self.network_of_images(), weights)}"
            )

    @cached_property
    def _launched(self) -> LaunchedNetwork:
        # parts of a batch add up gradients, which a graph leaves in one place
        is_alone = not self.is_ddp and self.settings.accumulate == 1
        # what is computed again restores random numbers, which a graph cannot
        is_once = not parts_computed_again(self.network)
        launch: LaunchSetting = "eager"
        if is_alone and is_once:
            launch = launch_of(launch_setting(), self.plan.network.name or "", self.device)
        return LaunchedNetwork(self.network, launch, self.print_to_log_file)

    def _find_gradients(self, batch: Batch) -> torch.Tensor:
        """Run a batch through the network and back, part by part; its loss."""
        if (loss := self._loss_of_launched_step(batch)) is not None:
            return loss
        self.optimizer.zero_grad(set_to_none=True)
        parts, losses = batch.parts(self.settings.accumulate), []
        for number, (part, share) in enumerate(zip(parts, self._shares(parts), strict=True), start=1):
            # processes exchange gradients with the last part
            with self._without_exchange() if number < len(parts) else nullcontext():
                with self.arithmetic():
                    loss = self.batch_loss(part) if share is None else self.batch_loss(part) * share
                if self._knows_losses_at_once():
                    require_finite(numbers([loss]), self.current_epoch)
                (loss if self.grad_scaler is None else self.grad_scaler.scale(loss)).backward()
            losses.append(loss.detach())
        return losses[0] if len(losses) == 1 else torch.stack(losses).sum()

    def _loss_of_launched_step(self, batch: Batch) -> torch.Tensor | None:
        """The loss, with gradients in place, where forward, loss and backward are launched as one graph."""
        if self.grad_scaler is not None or self._launched.network is not self.network or not self.loss_is_of_tensors():
            return None

        def loss_of(images: torch.Tensor, targets: torch.Tensor, covariates: torch.Tensor) -> torch.Tensor:
            return self.batch_loss(Batch(images, targets, covariates, batch.indices))

        with self.arithmetic():
            return self._launched.step(loss_of, batch[:3])

    def _without_exchange(self) -> AbstractContextManager:
        return self.network.no_sync() if isinstance(self.network, DistributedDataParallel) else nullcontext()

    def _shares(self, parts: list[Batch]) -> Sequence[torch.Tensor | None]:
        """What the losses of parts of a batch are multiplied by to make the loss of the batch of all processes."""
        if len(parts) == 1 and not self.is_ddp:
            return [None]
        weights = [weight for part in parts if (weight := self.loss_weight(part)) is not None]
        if not weights and len(parts) > 1:
            raise self._no_parts()
        if not weights:
            return [None]
        whole = torch.stack(weights).sum()
        of_whole = share_of_all_processes(whole) / whole.clamp(min=torch.finfo(whole.dtype).tiny)
        return [weight * of_whole for weight in weights]

    def _no_parts(self) -> SettingsError:
        return SettingsError(
            f"accumulate={self.settings.accumulate}: the loss compares the scans of a batch, which can therefore "
            "not be cut into parts; leave accumulate out"
        )

    def _knows_losses_at_once(self) -> bool:
        return self.device.type == "cpu" and not self.is_ddp

    def _choose_precision(self) -> None:
        asked = self.settings.precision
        precision = of_first_process(chosen(asked, self.network, self.device))
        if asked != "auto" and precision != asked:
            self.print_to_log_file(f"WARNING: {Arithmetic(precision=asked, device=self.device).shortfall}")
        self.print_to_log_file(f"Computes in {precision}", also_print_to_console=precision != "float32")
        self._compute_in(precision)

    def _choose_kernels(self) -> None:
        """Let a GPU compute convolutions in the way that is fastest there; a resumed run keeps its own."""
        size = self.network_input_voxels
        if self._kernels is None:
            dtype = HALF.get(self.arithmetic.used, torch.float32)
            if self.device.type == "cuda" and switch() == "auto" and layers_by_shape(self.network, size):
                self.print_to_log_file("Kernels are measured; to compile them takes a minute or two, once on a machine")
            _let_convolutions_repeat()  # as they will be computed
            at_a_time = math.ceil(self._batch_of_process / self.settings.accumulate)
            found = of_first_process(fastest_plans(self.network, size, at_a_time, dtype, self.device))
            self._kernels = {shape: to_json(plan) for shape, plan in found.items()} or None
            for shape, plan in found.items():
                self.print_to_log_file(f"Convolutions of {shape}: {plan}")
        use_plans(self.network, size, plans_from_json(self._kernels or {}, "the checkpoint, kernels"))

    @torch.no_grad()
    def _validate(self, loader: Loader) -> list[dict]:
        """Outputs of validation steps for the cases of a loader, in their order."""
        _let_convolutions_repeat()  # also where nothing was trained before
        self.network.eval()
        return from_all_processes(on_cpu([self.validation_step(batch) for batch in loader.batches(epoch=0)]))

    def _is_out_of_patience(self) -> bool:
        patience = self.settings.patience_epochs
        if patience is None or self._best_epoch is None:
            return False
        # a function of what a checkpoint holds, so that a resumed run stops where an uninterrupted one does
        return self.current_epoch - 1 - self._best_epoch >= patience


def _let_convolutions_repeat() -> None:
    # nnU-Net switches benchmarking on just before training, which makes results depend on timing
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
