"""Pre-training: the loop, the corpus and the summary, around whatever objective the plan or the trainer names."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import nn

from adnext_plugin.batch import Batch, Change
from adnext_plugin.errors import RegistryError, SettingsError
from adnext_plugin.files import write_json
from adnext_plugin.plan import Plan
from adnext_plugin.pretraining.objective import Evidence, Objective, Seeds, find_objective, objective_of
from adnext_plugin.records import to_json
from adnext_plugin.run_records import PretrainingSummary, write_summary
from adnext_plugin.settings import PretrainingSettings, RunSettings
from adnext_plugin.trainers.lifecycle import RunTrainer
from adnext_plugin.trainers.processes import LossOf, of_first_process
from adnext_plugin.trainers.run_memory import in_words
from adnext_plugin.training.memory import CASES, kept_by
from adnext_plugin.training.plan_resolution import Layer

CASES_SHOWN = 4
FIXED = -1  # stands for the epoch in seeds that never change
FIRST_OBJECTIVE = "fcmae"  # of settings that name none, because there was no other


class SelfSupervisedTrainer(RunTrainer):
    """Pre-trains the encoder that the plan names (AD-NeXt-B's if it names none).

    A trainer of one objective says so in its `settings`; without, the plan or the command line names it.
    """

    settings = PretrainingSettings()
    plan_key = "pretraining"

    @property
    def score_names(self) -> Mapping[str, str]:
        """Those of the objective."""
        return self.objective.score_names

    # ------------------------------------------------------------------ settings

    @classmethod
    def settings_with(cls, *layers: Layer) -> PretrainingSettings:
        """As for any run, from the settings of the objective's paper, and with the objective's options checked.

        Raises:
            SettingsError: another objective is asked for than the trainer's own.
        """
        settings: PretrainingSettings = cls.settings
        for values, where in layers or (({}, cls.__name__),):
            asked = values.get("objective")
            if isinstance(asked, str) and cls.settings.objective not in (None, asked):
                raise SettingsError(
                    f"{where} asks for the objective {asked!r}, but the trainer is for {cls.settings.objective!r}; use "
                    "-tr ADNeXtPretrainer"
                )
            if isinstance(asked, str) and asked != settings.objective:
                settings = find_objective(asked).settings
            settings = cls._with_layer(settings, (values, where))
        return settings

    @classmethod
    def _with_layer(cls, settings: PretrainingSettings, layer: Layer) -> PretrainingSettings:
        return _checked(super()._with_layer(settings, layer), layer[1])

    @classmethod
    def saved_settings(cls, content: Mapping[str, Any], where: str) -> PretrainingSettings:
        """Settings as a checkpoint holds them, also one from when there was one objective."""
        saved: PretrainingSettings = super().saved_settings(content, where)
        return _checked(replace(saved, objective=saved.objective or FIRST_OBJECTIVE), where)

    @cached_property
    def objective(self) -> Objective[Any]:
        """What the encoder is trained to do, before it knows any data."""
        return objective_of(self.settings, f"settings of {type(self).__name__}")

    def _use(self, settings: RunSettings) -> None:
        super()._use(settings)
        for made_of_settings in ("objective", "_fitted"):
            self.__dict__.pop(made_of_settings, None)

    # ------------------------------------------------------------------ network and data

    @classmethod
    def build_network(cls, plan: Plan, in_channels: int) -> nn.Module:
        """What the objective builds around the plan's encoder.

        Raises:
            RegistryError: it built something without an encoder.
        """
        settings = cls.settings_with((plan.pretraining, "plans, adnext.pretraining"))
        network = objective_of(settings, "plans, adnext.pretraining").build(plan, in_channels)
        if not isinstance(getattr(network, "encoder", None), nn.Module):
            raise RegistryError(
                f"objective {settings.objective!r} built a {type(network).__name__} without the attribute `encoder`, "
                "which is what pre-training is for"
            )
        return network

    def initialize(self) -> None:
        """Build network, optimizer and schedule; before that, let the objective settle what was left open.

        Raises:
            SettingsError: objective, network, input and people do not go together.
        """
        channels = len(self.channel_names)
        found = of_first_process(to_json(self.objective.settled(self.plan, channels, self.settings, self.device)))
        settled = {name: value for name, value in found.items() if value != self.settings.options.get(name)}
        if settled:
            self._use(replace(self.settings, options=found))
            self.print_to_log_file(f"Settled for this run: {settled}")
        _ = self._fitted  # people whom it cannot learn from are refused before anything on disk is touched
        super().initialize()

    def network_in_processes(self) -> nn.Module:
        """The whole loss, so that it may use the network as it likes."""
        return LossOf(self.network, lambda network, *step: self._fitted.loss(network, *step))

    def prepare_loss(self) -> None:
        """Let the objective know the rows there are to train on."""
        _ = self._fitted

    def covariates(self, cases: list[str]) -> np.ndarray | None:
        """What the objective must know of cases besides their images."""
        return self._fitted.labels(self._data.rows(cases))

    def columns_told(self) -> tuple[str, ...]:
        """The columns that the objective reads."""
        return self.objective.columns()

    def build_augmentation(self) -> Change:
        """The objective's views of each training image."""
        return self.objective.views(super().build_augmentation())

    def unchanged_view(self) -> Change | None:
        """The objective's views of held-out images."""
        return self.objective.unchanged_views(super().build_augmentation())

    def require_trainable(self) -> None:
        """Refuse parts of batches where the loss compares the scans of a batch.

        Raises:
            SettingsError: there are to be such.
        """
        super().require_trainable()
        if self.settings.accumulate > 1 and not self.batch_can_be_cut():
            raise self._no_parts()

    def on_train_start(self) -> None:
        """Write down, besides what any run does, whom the encoder will have seen."""
        super().on_train_start()
        if self.local_rank == 0:
            write_json(to_json(self._corpus), self._folder.pretraining_data_file)

    # ------------------------------------------------------------------ steps and epochs

    def batch_loss(self, batch: Batch) -> torch.Tensor:
        """The objective's, a scalar."""
        seeds = self._seeds(batch, self.current_epoch)
        if self.is_ddp:
            return self.network(batch, seeds)
        network = self.network_launched() if self._fitted.calls_network_once else self.network
        return self._fitted.loss(network, batch, seeds)

    def loss_weight(self, batch: Batch) -> torch.Tensor | None:
        """What the objective's is a mean over."""
        return self._fitted.weight(batch)

    def batch_can_be_cut(self) -> bool:
        """Not where the loss compares the scans of a batch."""
        return self.loss_weight(self._blank_case()) is not None

    def bytes_of_case(self) -> int:
        """Of the objective's loss, with as much of a scan as its masks leave and as many views as it is fed."""
        shape, columns = (CASES, *self._shape_fed), self._blank_case().covariates.shape[1]
        seeds = [(self.settings.seed, 1, index) for index in range(CASES)]

        def passed(network: nn.Module, device: torch.device) -> torch.Tensor:
            images, targets = torch.empty(shape, device=device), torch.empty(CASES, dtype=torch.int64, device=device)
            batch = Batch(images, targets, torch.empty(CASES, columns, device=device), torch.arange(CASES))
            if self.is_ddp:  # nothing is exchanged that has no values
                return self._fitted.losses(network, batch, seeds)
            return self._fitted.loss(network, batch, seeds)

        return kept_by(passed, self._plain_network(), self.arithmetic.used, torch.device(self.device.type))

    def step_in_words(self) -> str:
        """With the objective, and all that it is fed of a scan."""
        *views, _, z, y, x = self._shape_fed
        fed = "".join([f"{count} × " for count in views]) + in_words((z, y, x))
        return f"{self.plan.network.name} by {self.settings.objective}, batch {self._batch_of_process}, {fed}"

    def validation_step(self, batch: Batch) -> dict:
        """What the objective's scores need of one batch, under seeds that are each case's own and never change."""
        batch = batch.to(self.device)
        with self.arithmetic():
            outputs = self._fitted.outputs(self._plain_network(), batch, self._seeds(batch, FIXED))
        return {"indices": batch.indices, **outputs}

    def epoch_scores(self, outputs: list[dict]) -> dict[str, float]:
        """The objective's."""
        return self._fitted.scores(outputs)

    def rank_of_epoch(self, scores: dict[str, float]) -> tuple[float, float]:
        """The objective's."""
        return self._fitted.rank(scores)

    def checkpoint_notes(self) -> dict:
        """What the objective found out about the cases it was trained on."""
        return self._fitted.notes()

    @torch.no_grad()
    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Let the objective draw what the last weights have learned and, on a held-out fold, put it in figures.

        Args:
            save_probabilities: nnU-Net's `--npz`; there are none.
        """
        parts = self._data.parts
        held_out = parts["val"]
        scores = self.epoch_scores(self._validate(self._loader(held_out))) if held_out else None
        if self.local_rank != 0:
            return
        evidence = Evidence(
            scores=scores,
            held_out=_StepsOf(self, held_out),
            training=_StepsOf(self, parts["train"]),
            shown=_StepsOf(self, (held_out or parts["train"])[:CASES_SHOWN]),
        )
        summary_file = self._folder.summary_file
        figures = self._fitted.report(self._plain_network().eval(), evidence, summary_file.parent)
        judged_on = f"Held-out fold {self.fold}" if held_out else "Nobody held out"
        for name, value in figures.items():
            self.print_to_log_file(f"{judged_on}, {name.replace('_', ' ')}: {value}")
        summary = PretrainingSummary(
            trainer=type(self).__name__,
            fold=self.fold,
            epochs=self.settings.epochs,
            seed=self.settings.seed,
            cases=len(held_out),
            report=figures,
        )
        write_summary(summary, summary_file)

    # ------------------------------------------------------------------ private

    @cached_property
    def _fitted(self) -> Objective[Any]:
        training, _ = self.do_split()
        return self.objective.fitted(self._data.rows(training))

    @property
    def _shape_fed(self) -> tuple[int, ...]:
        """Of an image as the objective's views make it, (C, Z, Y, X) or (V, C, Z, Y, X)."""
        image = self._blank_case().images[0]
        views = self.objective.unchanged_views(lambda image_czyx, seed: image_czyx)
        return tuple((image if views is None else views(image, 1)).shape)

    def _blank_case(self) -> Batch:
        """A training case without its image: what an objective weighs it by is asked before any image is read."""
        training, _ = self.do_split()
        labels = self.covariates(training[:1])
        covariates = torch.zeros(1, 0) if labels is None else torch.from_numpy(labels)
        image = torch.zeros(1, self.num_input_channels, *self.network_input_voxels)
        targets = torch.from_numpy(self._data.targets(training[:1]))
        return Batch(image, targets, covariates, torch.zeros(1, dtype=torch.int64))

    def _seeds(self, batch: Batch, epoch: int) -> Seeds:
        return [(self.settings.seed, epoch + 1, index) for index in batch.indices.tolist()]


class ADNeXtPretrainer(SelfSupervisedTrainer):
    """Pre-trains any encoder by the objective that the plan, or --set objective=NAME, names."""


class _StepsOf:
    """Whole batches of some cases on the trainer's device, in order, unchanged, under fixed seeds."""

    def __init__(self, trainer: SelfSupervisedTrainer, cases: list[str]) -> None:
        self._trainer, self._cases = trainer, cases

    def __iter__(self) -> Iterator[tuple[Batch, Seeds]]:
        if self._cases:
            for batch in self._trainer._loader(self._cases, shared=False).batches(epoch=0):
                yield batch.to(self._trainer.device), self._trainer._seeds(batch, FIXED)


def _checked(settings: PretrainingSettings, where: str) -> PretrainingSettings:
    """Settings with all options of their objective, checked; as they are where no objective is named yet."""
    if settings.objective is None:
        return settings
    return replace(settings, options=to_json(objective_of(settings, where).options))
