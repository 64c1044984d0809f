"""Segmentation by nnU-Net's own trainer, with our networks, recipes and pre-trained weights.

Loading, loss, sliding window, export and evaluation are nnU-Net's. Ours are the network, the optimizer and its
schedule, how long is trained, on which of the cases, and what is done to patches. Everything that shapes the network is
written into the plans that travel with checkpoints, so that `nnUNetv2_predict` builds the same one.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from nnunetv2.training.data_augmentation.compute_initial_patch_size import get_patch_size
from nnunetv2.training.logging.nnunet_logger import LocalLogger
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch import nn

from adnext_plugin.builtin.weights import name_of_file, weights_file
from adnext_plugin.cpu_memory import keep_large_buffers
from adnext_plugin.environment import cpu_threads
from adnext_plugin.errors import AdnextError, SegmentationError
from adnext_plugin.files import replacing
from adnext_plugin.memory_shortage import FOR_TRAINING, advising
from adnext_plugin.networks.recomputation import computing_again
from adnext_plugin.networks.segmentation.build import Decoder, build_segmenter
from adnext_plugin.networks.segmentation.segmenter import Segmenter
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.records import with_overrides
from adnext_plugin.settings import AUTO, SegmentationSettings
from adnext_plugin.trainers.processes import unwrapped, wait_for_all
from adnext_plugin.trainers.segmentation.augmentation import LARGEST_ANGLE, amaes_transforms
from adnext_plugin.trainers.segmentation.cases import draw_folds, take_cases
from adnext_plugin.trainers.segmentation.plan import (
    SegmentationPlan,
    plan_in_configuration,
    plan_of_run,
    plan_to_go_on_with,
    plans_of_run,
    with_block,
)
from adnext_plugin.trainers.telling import TellingTrainer
from adnext_plugin.training.checkpoints import set_earlier_run_aside
from adnext_plugin.training.plan_resolution import Layer
from adnext_plugin.training.schedule import EpochSchedule
from adnext_plugin.training.weights import WeightsReport, load_encoder, read_checkpoint

STATES_OF_A_RUN = 50  # how often a state to resume from is saved, if epochs are that many
MARGIN = (0.85, 1.25)  # nnU-Net's, by which the cut before a change in space is larger than the patch


class ADNeXtSegmentationTrainer(TellingTrainer):
    """Segments with the encoder that a subclass names, by AMAES' recipe."""

    network_settings: NetworkSettings = NetworkSettings(name="unet_b")
    decoder: Decoder = "unet"
    settings: SegmentationSettings = SegmentationSettings()

    # ------------------------------------------------------------------ construction

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int | str,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008  nnU-Net's signature
    ) -> None:
        # nnU-Net demands the key when it trains and leaves it out when it predicts
        plans.setdefault("continue_training", False)
        self.plan = plan_of_run(self._own_plan(), plans, configuration, dataset_json)
        plans = plans_of_run(plans, configuration, self.plan)
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.logger.local_logger = PlainLogger()
        self._weights_when_built: float | None = None
        self._use_settings()
        if self.device.type == "cpu":
            keep_large_buffers()
            torch.set_num_threads(cpu_threads())

    @classmethod
    def settings_with(cls, *layers: Layer) -> SegmentationSettings:
        """The class's settings with those of layers in their place.

        Raises:
            SettingsError: an unknown setting, or an impossible value.
        """
        settings = cls.settings
        for values, where in layers:
            settings = with_overrides(settings, values, where)
        return settings

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: Any,
        configuration_manager: Any,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """The network of a run's plans, or of nnU-Net's own plans what the class would train."""
        plan = plan_in_configuration(configuration_manager.configuration, plans_manager.plans_name) or cls._own_plan()
        network = build_segmenter(
            plan.network,
            plan.decoder,
            num_input_channels,
            num_output_channels,
            configuration_manager.patch_size,
            deep_supervision=plan.settings.deep_supervision,
            recompute=plan.settings.recompute,
        )
        network.decoder.deep_supervision = enable_deep_supervision and plan.settings.deep_supervision
        return network

    def initialize(self) -> None:
        """Draw the first weights from the run's seed."""
        torch.manual_seed(self.plan.settings.seed)
        try:
            super().initialize()
        except AdnextError as error:
            raise SegmentationError(str(error)) from error
        self._weights_when_built = self._sum_of_encoder()

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, EpochSchedule]:
        """AdamW, at rates that are a function of the epoch."""
        settings = self.plan.settings
        optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=settings.learning_rate,
            betas=settings.betas,
            weight_decay=settings.weight_decay,
            amsgrad=settings.amsgrad,
        )
        return optimizer, EpochSchedule(optimizer, settings.schedule_settings)

    def _get_deep_supervision_scales(self) -> list[list[float]] | None:
        """Sizes of what coarser outputs are compared with; the network's levels, not the plan's, halve every axis."""
        if not self.enable_deep_supervision:
            return None
        outputs: Any = self._segmenter.decoder.seg_layers
        return [[0.5**level] * 3 for level in range(len(outputs))]

    # ------------------------------------------------------------------ data

    def do_split(self) -> tuple[list[str], list[str]]:
        """nnU-Net's cases to train on and to validate on; of the first as many as the settings say.

        Raises:
            SegmentationError: there is no such fold, there are fewer cases, or folds were drawn otherwise before.
        """
        settings, folder = self.plan.settings, Path(self.preprocessed_dataset_folder_base)
        draw_folds(folder, Path(self.preprocessed_dataset_folder), settings.folds, self.fold)
        training, held_out = super().do_split()
        if settings.n_train is None:
            return training, held_out
        return take_cases(training, settings.n_train, settings.seed), held_out

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple:  # noqa: N802
        """nnU-Net's, or AMAES', which mirrors nothing, so that predictions are not mirrored either."""
        if self.plan.settings.augmentation == "nnunet":
            return super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        self.inference_allowed_mirroring_axes = None
        angles = (-LARGEST_ANGLE, LARGEST_ANGLE)
        size = get_patch_size(self.configuration_manager.patch_size, angles, angles, angles, MARGIN)
        return angles, False, size, None

    def get_training_transforms(
        self,
        patch_size: np.ndarray | Sequence[int],
        rotation_for_DA: Any,  # noqa: N803
        deep_supervision_scales: list | tuple | None,
        mirror_axes: Sequence[int] | None,
        do_dummy_2d_data_aug: bool,
        use_mask_for_norm: list[bool] | None = None,
        is_cascaded: bool = False,
        foreground_labels: Sequence[int] | None = None,
        regions: Any = None,
        ignore_label: int | None = None,
    ) -> Any:
        """The settings' augmentation; nnU-Net's static method is one of them."""
        augmentation = self.plan.settings.augmentation
        if augmentation != "nnunet":
            return amaes_transforms(
                [int(edge) for edge in patch_size],
                deep_supervision_scales,
                use_mask_for_norm,
                with_intensities=augmentation == "all",
            )
        return nnUNetTrainer.get_training_transforms(
            patch_size,
            rotation_for_DA,
            deep_supervision_scales,
            mirror_axes,
            do_dummy_2d_data_aug,
            use_mask_for_norm=use_mask_for_norm,
            is_cascaded=is_cascaded,
            foreground_labels=foreground_labels,
            regions=regions,
            ignore_label=ignore_label,
        )

    # ------------------------------------------------------------------ life of a run

    def on_train_start(self) -> None:
        """Take pre-trained weights over, decide by whether there are any what patches go through, and begin.

        What an earlier run left is set aside, once there is nothing left to refuse.
        """
        if not self.was_initialized:
            self.initialize()
        if self.current_epoch == 0:
            begins_afresh = not self._take_weights_over()
            if self.plan.settings.augmentation == AUTO:
                self._settle(augmentation="all" if begins_afresh else "spatial")
            self.do_split()
            wait_for_all()  # what one process refuses is trained by none
            aside = set_earlier_run_aside(Path(self.output_folder)) if self.local_rank == 0 else None
            if aside is not None:
                self.print_to_log_file(f"Files of an earlier run are now in {aside}")
        for line in self._about():
            self.print_to_log_file(line)
        super().on_train_start()

    def run_training(self) -> None:
        """nnU-Net's loop."""
        with advising(self.memory_advice):
            super().run_training()

    def memory_advice(self) -> str:
        """What helps this run where memory ran out."""
        if self.plan.settings.recompute or not self.was_initialized:
            return FOR_TRAINING
        with computing_again(unwrapped(self.network)) as count:
            return f"--set recompute=true holds less of the network; or {FOR_TRAINING}" if count else FOR_TRAINING

    def save_checkpoint(self, filename: str) -> None:
        """As nnU-Net's, but a kill leaves the file as it was before."""
        if self.local_rank or self.disable_checkpointing:
            super().save_checkpoint(filename)
            return
        with replacing(Path(filename)) as temporary:
            super().save_checkpoint(str(temporary))

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Continue, or validate, with the settings that the run began with.

        Raises:
            SegmentationError: what is asked for now would make it another run, or it is another trainer's.
        """
        if not self.was_initialized:
            self._go_on_as_before(str(filename_or_checkpoint))
        plans = self.plans_manager.plans
        super().load_checkpoint(filename_or_checkpoint)
        self.my_init_kwargs["plans"] = plans  # how many epochs it is to have by now

    # ------------------------------------------------------------------ private

    @classmethod
    def _own_plan(cls) -> SegmentationPlan:
        plan = SegmentationPlan(network=cls.network_settings, decoder=cls.decoder, settings=cls.settings)
        return plan.with_settings(cls.settings)

    def _use_settings(self) -> None:
        """Tell nnU-Net, which keeps such numbers as attributes."""
        settings = self.plan.settings
        self.num_epochs = settings.epochs
        self.num_iterations_per_epoch = settings.steps_per_epoch
        self.num_val_iterations_per_epoch = settings.validation_steps
        self.initial_lr, self.weight_decay = settings.learning_rate, settings.weight_decay
        self.enable_deep_supervision = settings.deep_supervision
        self.save_every = max(1, settings.epochs // STATES_OF_A_RUN)

    def _go_on_as_before(self, filename: str) -> None:
        """Take the plans of a checkpoint over, before the network is built."""
        try:
            checkpoint = read_checkpoint(Path(filename))
        except AdnextError as error:
            raise SegmentationError(str(error)) from error
        theirs = checkpoint.get("init_args", {}).get("plans", {})
        configurations = theirs.get("configurations", {})
        saved = plan_in_configuration(configurations.get(self.configuration_name, {}), filename)
        if saved is None or checkpoint.get("trainer_name") != type(self).__name__:
            raise SegmentationError(
                f"{filename} is not of {type(self).__name__} and {self.configuration_name}; move it away to begin anew"
            )
        self.plan = plan_to_go_on_with(saved, filename)
        self._write_plan(theirs)
        self._use_settings()

    def _write_plan(self, plans: dict) -> None:
        content = with_block(plans, self.configuration_name, self.plan)
        self.plans_manager = PlansManager(content)
        self.configuration_manager = self.plans_manager.get_configuration(self.configuration_name)
        self.my_init_kwargs["plans"] = content

    def _settle(self, **changes: Any) -> None:
        """Write down what was to be decided when the run begins."""
        self.plan = replace(self.plan, settings=replace(self.plan.settings, **changes))
        self._write_plan(self.plans_manager.plans)

    def _take_weights_over(self) -> bool:
        """Whether the encoder begins with weights of a file: of the settings, or taken over by nnU-Net's own loader."""
        given = self.plan.settings.pretrained_weights
        if given is not None:
            path = weights_file(given, self.fold)
            try:
                report: WeightsReport = load_encoder(self._segmenter, path)
            except AdnextError as error:
                raise SegmentationError(str(error)) from error
            self.print_to_log_file(f"Weights from {name_of_file(path)}: {report}")
            # results are shared, and where a file lies on this machine is nobody's business
            self._settle(pretrained_weights=name_of_file(path))
            return True
        return self._sum_of_encoder() != self._weights_when_built

    def _sum_of_encoder(self) -> float:
        parameters = self._segmenter.encoder.parameters()
        return sum(float(parameter.detach().double().abs().sum()) for parameter in parameters)

    @property
    def _segmenter(self) -> Segmenter:
        return cast(Segmenter, unwrapped(self.network))

    def _about(self) -> list[str]:
        settings, planned = self.plan.settings, self.configuration_manager
        parameters = sum(parameter.numel() for parameter in self._segmenter.parameters())
        return [
            f"{self.plan.network.name} with the decoder {self.plan.decoder}: {parameters:,} parameters; patch "
            f"{list(planned.patch_size)}, batch {planned.batch_size}, augmentation {settings.augmentation}"
        ]


class PlainLogger(LocalLogger):
    """nnU-Net's, with plain numbers, so that checkpoints can be read without running code from them."""

    def log(self, key: str, value: Any, epoch: int) -> None:
        """Log a number, or a list of numbers."""
        plain = [float(one) for one in value] if isinstance(value, list | np.ndarray) else float(value)
        super().log(key, plain, epoch)
