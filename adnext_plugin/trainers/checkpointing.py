"""Settings and state of a run: where they come from, and how they are written down and found again."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from inspect import getattr_static
from pathlib import Path
from typing import Any

import torch
from torch import nn

from adnext_plugin.cpu_memory import keep_large_buffers
from adnext_plugin.environment import cpu_threads
from adnext_plugin.errors import (
    SegmentationError,
    SettingsError,
    UnknownNameError,
    WeightsError,
    nearest_names,
)
from adnext_plugin.paths import BLOCK
from adnext_plugin.plan import NetworkSettings, Plan, plans_with
from adnext_plugin.records import from_json, to_json
from adnext_plugin.registry import AUGMENTATIONS, registered_names
from adnext_plugin.run_folder import FoldFolder
from adnext_plugin.run_records import Corpus, Provenance
from adnext_plugin.settings import Precision, RunSettings
from adnext_plugin.trainers.processes import (
    device_of_process,
    draws_at_random,
    from_all_processes,
    number_of_processes,
    unwrapped,
    wait_for_all,
)
from adnext_plugin.trainers.telling import TellingTrainer
from adnext_plugin.training.checkpoint_notes import CheckpointNotes, find_notes
from adnext_plugin.training.checkpoint_saver import CheckpointSaver
from adnext_plugin.training.logger import RunLogger
from adnext_plugin.training.plan_resolution import Layer, PlanKey, layered, resolve_plan, settings_for_resume
from adnext_plugin.training.precision import Arithmetic, of_earlier_version
from adnext_plugin.training.provenance import device_in_words, provenance
from adnext_plugin.training.schedule import EpochSchedule
from adnext_plugin.training.shared_settings import shared
from adnext_plugin.training.states import newest_state
from adnext_plugin.training.step_results import load_optimizer
from adnext_plugin.training.weights import read_checkpoint, with_plain_names

THEN = ", then "  # between devices that a run was trained on one after the other
SECONDS_BETWEEN_STATES = 10  # that are written beside training: some epochs are over in less than one


class ResumableRun(TellingTrainer, ABC):
    """A run that can be interrupted at any epoch and go on as if nothing had been."""

    network_settings: NetworkSettings | None = None
    _arithmetic: Arithmetic | None = None  # known when the network is
    takes_network_options = True  # whether a plan's options of the network are meant for this trainer's, too

    # ------------------------------------------------------------------ what a subclass says

    @property
    @abstractmethod
    def settings(self) -> RunSettings:
        """A class attribute: what is trained with unless the plan or the command line says otherwise."""

    @property
    @abstractmethod
    def plan_key(self) -> PlanKey:
        """A class attribute: where in the plan the settings stand."""

    @property
    @abstractmethod
    def score_names(self) -> Mapping[str, str]:
        """What is logged of an epoch besides losses, and how it is called."""

    @classmethod
    @abstractmethod
    def build_network(cls, plan: Plan, in_channels: int) -> nn.Module:
        """The network of a complete plan, with fresh weights drawn from torch's global generator.

        For training and for prediction: nothing but the plan says what the network is.
        """

    def checkpoint_notes(self) -> dict:
        """What outputs are relative to: `target_scale`, `covariate_scale`, and anything else, which is kept apart."""
        return {}

    # ------------------------------------------------------------------ settings

    @classmethod
    def settings_with(cls, *layers: Layer) -> Any:
        """The class's settings with those of layers in their place, the last first in authority.

        Args:
            layers: each some settings as JSON, and where they stand, for messages.

        Raises:
            SettingsError: an unknown setting, or an impossible value.
            UnknownNameError: no augmentation of that name.
        """
        settings: Any = cls.settings
        for layer in layers:
            settings = cls._with_layer(settings, layer)
        return settings

    @classmethod
    def _with_layer(cls, settings: Any, layer: Layer) -> Any:
        settings = layered(settings, layer)
        known = registered_names(AUGMENTATIONS)
        if settings.augmentation not in known:
            raise UnknownNameError(
                f"no augmentation {settings.augmentation!r}{nearest_names(settings.augmentation, known)}"
            )
        return settings

    @classmethod
    def saved_settings(cls, content: Mapping[str, Any], where: str) -> Any:
        """Settings as a checkpoint holds them.

        Raises:
            SettingsError: they are of another kind of trainer.
        """
        return from_json(type(cls.settings), content, where)

    # ------------------------------------------------------------------ construction

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int | str,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008  nnU-Net's signature
    ) -> None:
        self._refuse_own_architecture()
        plan, settings = resolve_plan(
            plans,
            configuration,
            dataset_json,
            self.network_settings,
            self.settings_with,
            self.plan_key,
            takes_network_options=self.takes_network_options,
        )
        plans = plans_with(plans, configuration, plan)
        # nnU-Net demands the key when it trains and leaves it out when it predicts
        self._continues = bool(plans.setdefault("continue_training", False))
        with warnings.catch_warnings():
            # of several processes nnU-Net knows only such that have a GPU each
            warnings.filterwarnings("ignore", message=".*GradScaler is enabled, but CUDA is not available.*")
            super().__init__(plans, configuration, fold, dataset_json, device)
        if self.is_ddp:
            self.device = device_of_process(device.type)
        self.plan = plan
        self.task = plan.known_task
        self._use(settings)
        self.logger.local_logger = RunLogger(self.score_names, self.compared_on())
        self.enable_deep_supervision = False
        self._best = (float("-inf"), float("-inf"))
        self._best_epoch: int | None = None
        self._saver = CheckpointSaver(in_background=self.device.type == "cuda")
        self._drawn_at = float("-inf")  # when the figure of progress was drawn last, on the monotonic clock
        self._kernels: dict[str, Any] | None = None  # how a GPU computes convolutions, as was chosen
        self._trained_on: tuple[str, ...] = ()  # devices, those of an interrupted run that goes on elsewhere first
        self._corpus: Corpus | None = None  # whom the network has seen; of the first process only
        self._noted: dict[str, Any] | None = None  # what `checkpoint_notes` said beside scales, of a state gone on from
        if self.device.type == "cpu":
            keep_large_buffers()
            torch.set_num_threads(cpu_threads())

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager,
        configuration_manager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = False,
    ) -> nn.Module:
        """nnU-Net's hook, which its predictor calls; training and `adnext_predict` build with `build_network`.

        Raises:
            SegmentationError: always. One line here ends `nnUNetv2_predict` before it has read a scan.
        """
        raise SegmentationError(
            f"{cls.__name__} gives an answer for a whole scan and no segmentation, which is what nnU-Net's prediction "
            "is for; use adnext_predict -i SCANS -o OUTPUT -m FOLDER_OF_THE_RUN"
        )

    @property
    def arithmetic(self) -> Arithmetic:
        """How the network computes, once there is one."""
        assert self._arithmetic is not None
        return self._arithmetic

    # ------------------------------------------------------------------ checkpoints

    def save_checkpoint(self, filename: str) -> None:
        """Write everything a resumed run needs, in nnU-Net's layout plus an `adnext` block, in one piece.

        On a GPU it is written while training goes on; `wait_for_checkpoints` returns when it is. A state to resume from
        is left out within ten seconds of the one before, and while something is still being written; a best one if the
        next best is there before its turn.

        Args:
            filename: file to write.

        Raises:
            AdnextError: weights are no longer finite, of this state or on a GPU of the one before; what was saved
                before is left as it is.
        """
        if self.local_rank != 0 or self.disable_checkpointing:
            return
        folder, path = FoldFolder(Path(filename).parent), Path(filename)
        is_latest = path == folder.checkpoint_latest
        earlier = folder.checkpoint_previous if is_latest else None
        if is_latest and self._best_epoch == self.current_epoch:  # this very state has just been saved as the best
            self._saver.save_again(folder.checkpoint_best, path, earlier)
            return
        if is_latest and not self._saver.is_due(SECONDS_BETWEEN_STATES):
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
            BLOCK: self._notes().block(),
        }
        self._saver.save(checkpoint, path, earlier, self.current_epoch)

    def wait_for_checkpoints(self) -> None:
        """Return when all that was saved is written.

        Raises:
            AdnextError: it could not be.
        """
        self._saver.wait()

    def load_checkpoint(self, filename_or_checkpoint: str | dict) -> None:
        """Continue from a checkpoint of this trainer.

        Where a run is to go on and the file is damaged, the newest state that is not takes its place.

        Raises:
            WeightsError: it is damaged, or was made by another kind of trainer or for another network.
            SettingsError: the settings asked for now would make it another run.
        """
        self.wait_for_checkpoints()
        wait_for_all()  # the first process may still be writing it
        where: Path | str = "the checkpoint"
        checkpoint = filename_or_checkpoint
        if isinstance(checkpoint, dict):
            checkpoint = with_plain_names(checkpoint)
        else:
            checkpoint, where = self._read_state(Path(checkpoint))
        notes = find_notes(checkpoint, where)
        if notes is None:
            raise WeightsError(f"{where} was not made by an AD-NeXt trainer; use it with -pretrained_weights")
        saved = self.saved_settings(notes.settings, f"{where}, settings")
        self._use(settings_for_resume(saved, str(where), self.fold))
        self._compute_in(notes.precision or of_earlier_version(self.device))
        self._kernels = notes.kernels
        if not self.was_initialized:
            self.initialize()
        try:
            self._plain_network().load_state_dict(checkpoint["network_weights"])
        except RuntimeError as error:
            raise WeightsError(f"{where} is of another network than the plan's {self.plan.network.name}") from error
        self._require_as_many_processes(notes, where)
        load_optimizer(self.optimizer, checkpoint["optimizer_state"])
        if self.grad_scaler is not None and checkpoint["grad_scaler_state"] is not None:
            self.grad_scaler.load_state_dict(checkpoint["grad_scaler_state"])
        self.logger.load_checkpoint(checkpoint["logging"])
        self.current_epoch = checkpoint["current_epoch"]
        self._best, self._best_epoch = notes.best, notes.best_epoch
        self._trained_on = tuple(notes.provenance.device.split(THEN))
        self._corpus = notes.pretraining_data
        self._noted = notes.further or None

    # ------------------------------------------------------------------ private

    @classmethod
    def _refuse_own_architecture(cls) -> None:
        ours, found = (getattr_static(kind, "build_network_architecture") for kind in (ResumableRun, cls))
        if found is not ours:
            raise SettingsError(
                f"{cls.__name__} overrides build_network_architecture, which nobody calls here; override "
                "build_network(cls, plan, in_channels) instead"
            )

    def _read_state(self, path: Path) -> tuple[dict, Path]:
        """A checkpoint, or what stands in for it, and its file."""
        is_to_go_on = self._continues and self.dataloader_train is None
        state = newest_state(FoldFolder(path.parent), path, self.device) if is_to_go_on else None
        if state is None:
            return read_checkpoint(path, self.device), path
        for problem in state.problems:
            self.print_to_log_file(f"WARNING: {problem}. The run goes on from {state.path.name} instead")
        return state.checkpoint, state.path

    def _notes(self) -> CheckpointNotes:
        """What a checkpoint of now says of itself, `pretraining_data` to whoever begins with its weights."""
        stated = self.checkpoint_notes()
        scales = {name: stated.pop(name, None) for name in ("target_scale", "covariate_scale")}
        return CheckpointNotes(
            settings=getattr(self.plan, self.plan_key),  # as `_use` has written them down
            best=self._best,
            best_epoch=self._best_epoch,
            provenance=self._provenance(),
            precision=self.arithmetic.precision,
            kernels=self._kernels,
            processes=number_of_processes(),
            pretraining_data=self._corpus,
            further=stated,
            **scales,
        )

    def _note_devices(self) -> None:
        """Say on what is trained from here on, by every process, and keep it."""
        # those of one machine once
        here = ", ".join(dict.fromkeys(from_all_processes([device_in_words(self.device)])))
        self._trained_on = tuple(dict.fromkeys([*self._trained_on, here]))
        self.print_to_log_file(f"Trains on {here}", also_print_to_console=False)

    def _provenance(self) -> Provenance:
        """What software and which devices have trained."""
        return Provenance(**provenance(THEN.join(self._trained_on) or device_in_words(self.device)))

    def _require_as_many_processes(self, notes: CheckpointNotes, where: Path | str) -> None:
        goes_on, now = self._continues and self.dataloader_train is None, number_of_processes()
        if goes_on and notes.processes not in (None, now) and draws_at_random(self._plain_network()):
            raise SettingsError(
                f"{where} was trained by {notes.processes} processes and would be another run with {now}, since the "
                f"network drops parts of itself at random; use --num-gpus {notes.processes}, or --restart"
            )

    def _compute_in(self, precision: Precision) -> None:
        """Let the networks of the run compute in a precision, as far as the device can."""
        if self._arithmetic is not None and self._arithmetic.precision == precision:
            return
        self._arithmetic = arithmetic = Arithmetic(precision=precision, device=self.device)
        arithmetic.set_products()
        self.grad_scaler = torch.amp.GradScaler(self.device.type) if arithmetic.scales_gradients else None
        if arithmetic.shortfall is not None:
            self.print_to_log_file(f"WARNING: {arithmetic.shortfall}")

    def _use(self, settings: RunSettings) -> None:
        self.settings = settings  # type: ignore[misc]  # a class attribute in every subclass
        self.plan = self.plan.with_settings(self.plan_key, to_json(shared(settings, self.fold)))
        # goes into plans.json and into checkpoints, from where a model is built again, and into nnU-Net's copy of it
        block = to_json(self.plan)
        self.plans_manager.plans["configurations"][self.configuration_name][BLOCK] = block
        self.configuration_manager.configuration[BLOCK] = block
        self.num_epochs = settings.epochs
        self.initial_lr, self.weight_decay = settings.learning_rate, settings.weight_decay
        if self.was_initialized:
            self.lr_scheduler = EpochSchedule(self.optimizer, settings)

    def _plain_network(self) -> nn.Module:
        return unwrapped(self.network)
