"""The data of a run: what of the fold is trained on and compared on, how it is served, and whom the network sees."""

from abc import abstractmethod
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch

from adnext_plugin.batch import Change, runs_on_device
from adnext_plugin.builtin.weights import weights_file
from adnext_plugin.data.augmentation import Augmentation
from adnext_plugin.data.loading import Loader
from adnext_plugin.data.resident import fits
from adnext_plugin.errors import SettingsError
from adnext_plugin.prepared_data import PreparedData, refuse_other_data
from adnext_plugin.preprocessing.chain import channels_of, fitted_steps_of
from adnext_plugin.preprocessing.fitted import FittedSteps, read_states, with_states, write_states
from adnext_plugin.project_key import key_home
from adnext_plugin.run_folder import FoldFolder
from adnext_plugin.run_records import Corpus
from adnext_plugin.task import image_names
from adnext_plugin.trained_on import write_trained_on
from adnext_plugin.trainers.checkpointing import ResumableRun
from adnext_plugin.trainers.fold_data import FoldData
from adnext_plugin.trainers.processes import number_of_processes, of_first_process
from adnext_plugin.training.checkpoint_notes import find_notes
from adnext_plugin.training.corpus import describe_corpus, joined
from adnext_plugin.training.weights import read_checkpoint


class FoldRun(ResumableRun):
    """A run with the data of its fold."""

    _is_compared = False  # whether the fold's data are known to be those that it was begun on

    # ------------------------------------------------------------------ what a subclass says

    @abstractmethod
    def prepare_loss(self) -> None:
        """Build what the loss needs to know of the cases there are to train on."""

    def covariates(self, cases: list[str]) -> np.ndarray | None:
        """What is known of cases besides their images, (N, K) float32; None: nothing."""
        return None

    def columns_told(self) -> tuple[str, ...]:
        """Columns of `subjects.csv`, beside the target, that `covariates` or the loss come from."""
        return ()

    def build_augmentation(self) -> Change:
        """Random changes to each training image."""
        return Augmentation(self.settings.augmentation, self.plan.preprocessing.input_size_voxels)

    def unchanged_view(self) -> Change | None:
        """What is done to images that are predicted; None: nothing."""
        return None

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Of prepared images, in the order in which the network is shown them."""
        return channels_of(self.plan.preprocessing, image_names(self.dataset_json, "dataset.json"))

    # ------------------------------------------------------------------ nnU-Net's hooks

    def do_split(self) -> tuple[list[str], list[str]]:
        """Cases to train on, and cases to compare epochs on.

        Raises:
            SplitError: the splits do not fit the data, or there is no such fold.
        """
        return self._data.parts["train"], self._data.parts["selection"]

    def get_dataloaders(self) -> tuple[Loader, Loader]:
        """Loaders of the training cases and of those the epoch is chosen on; the same whenever asked for."""
        return self._loaders

    def load_checkpoint(self, filename_or_checkpoint: str | dict) -> None:
        """Continue from a checkpoint of this trainer, on the data that it was trained on.

        Raises:
            OtherDataError: the dataset holds others by now.
            WeightsError: it was made by another kind of trainer or for another network.
            SettingsError: the settings asked for now would make it another run.
        """
        self._refuse_other_data()
        super().load_checkpoint(filename_or_checkpoint)

    # ------------------------------------------------------------------ private

    @cached_property
    def _loaders(self) -> tuple[Loader, Loader]:
        training, selection = self.do_split()
        self._selection_cases = selection
        self.prepare_loss()
        self.print_to_log_file(
            f"Fold {self.fold}: {len(training)} cases to train on, {len(selection)} to choose the epoch on"
        )
        augmentation = self.build_augmentation()
        self._settle_where_volumes_are(augmentation)
        train_loader = self._loader(training, augmentation=augmentation)
        selection_loader = self._loader(selection)
        self.num_iterations_per_epoch = len(train_loader)
        self.num_val_iterations_per_epoch = len(selection_loader)
        return train_loader, selection_loader

    def _refuse_other_data(self) -> None:
        """Make sure that what the fold has so far is of the data there are now; once, by the first process."""
        if self.local_rank == 0 and not self._is_compared:
            refuse_other_data([self._folder], self._prepared_data, self.print_to_log_file)
            self._is_compared = True

    def _note_data(self) -> None:
        """Write down what the fold is trained on."""
        if self.local_rank == 0:
            found = self._prepared_data.trained_on(self.fold, self.columns_told())
            write_trained_on(found, self._folder.trained_on_file)

    @cached_property
    def _prepared_data(self) -> PreparedData:
        folder = Path(self.preprocessed_dataset_folder_base)
        return PreparedData.open(folder, self.plans_manager.plans_name, self.configuration_name)

    @property
    def _folder(self) -> FoldFolder:
        return FoldFolder(Path(self.output_folder))

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
        settings, path = self.plan.preprocessing, self._folder.fitted_steps_file
        if not fitted_steps_of(settings):
            return None
        if self.current_epoch > 0:
            return with_states(settings, read_states(path), str(path))
        training, _ = self.do_split()
        return self._data.fit_steps(training)

    def _keep_fitted_steps(self) -> None:
        """Write down what they have learned, where an earlier run's is out of the way."""
        if self._fitted_steps is not None and self.local_rank == 0 and not self.disable_checkpointing:
            write_states(self._fitted_steps, self._folder.fitted_steps_file)

    def _settle_where_volumes_are(self, augmentation: Change) -> None:
        """Decide once for a run whether all volumes are kept on the GPU, as noise is not the same there.

        Raises:
            SettingsError: they are to be, and what changes them cannot be done there.
        """
        asked = self.settings.data_on_gpu
        if self.device.type != "cuda" or asked == "off":
            return
        can_be = runs_on_device(augmentation) and runs_on_device(self.unchanged_view())
        if asked == "on" and not can_be:
            raise SettingsError(
                f"data_on_gpu=on: augmentation {self.settings.augmentation!r} runs on processors only; leave "
                "data_on_gpu out, or choose another augmentation (adnext_list augmentations)"
            )
        if asked == "auto":
            cases = sum(map(len, self._data.parts.values()))
            shape = (len(self.channel_names), *self.plan.preprocessing.input_size_voxels)
            free_bytes, _ = torch.cuda.mem_get_info(self.device)
            is_on = of_first_process(can_be and fits(cases, shape, free_bytes))
            self._use(replace(self.settings, data_on_gpu="on" if is_on else "off"))
            where = "on the GPU, and changed there" if is_on else "in the memory of this machine"
            self.print_to_log_file(f"Volumes are kept {where} (data_on_gpu)")

    def _loader(
        self,
        cases: list[str],
        augmentation: Change | None = None,
        *,
        shared: bool = True,
        order: np.ndarray | None = None,
    ) -> Loader:
        """A loader of some cases, in random order where they are augmented, or one given by their places; of this
        process's share of every batch."""
        if shared and augmentation is not None and len(cases) < number_of_processes():
            raise SettingsError(
                f"{len(cases)} cases to train on are fewer than the {number_of_processes()} processes; use fewer GPUs "
                "(--num-gpus)"
            )
        return self._data.loader(
            cases,
            self.settings,
            change=self.unchanged_view() if augmentation is None else augmentation,
            shuffle=augmentation is not None,
            order=order,
            covariates=self.covariates(cases),
            fitted=self._fitted_steps,
            on_gpu=self.device.type == "cuda",
            resident_on=self.device if self.device.type == "cuda" and self.settings.data_on_gpu == "on" else None,
            rank=self.local_rank if shared else 0,
            processes=number_of_processes() if shared else 1,
            tell=self.print_to_log_file,
        )

    @cached_property
    def _unchanged_training_cases(self) -> Loader:
        # mixed as in training: by name, a batch would be of one cohort, and what tells cohorts apart no spread at all
        training = self.do_split()[0]
        by_name = np.array(sorted(range(len(training)), key=training.__getitem__))
        order = by_name[np.random.default_rng(self.settings.seed).permutation(len(training))]
        # the very cases that are trained on, so that their volumes are kept once
        return self._loader(training, shared=False, order=order)

    def _describe_corpus(self) -> Corpus:
        """Those the network learns from and those its epoch is chosen on, and whom its first weights had seen."""
        cases = [*self._data.parts["train"], *self._data.parts["selection"]]
        corpus = describe_corpus(self._data.rows(cases), self.plans_manager.dataset_name, key_home())
        weights = self._first_weights()
        if weights is None:
            return corpus
        notes = find_notes(read_checkpoint(weights), weights) if weights.is_file() else None
        earlier = None if notes is None else notes.pretraining_data
        return joined(corpus, earlier)

    def _first_weights(self) -> Path | None:
        path = self.settings.pretrained_weights
        return weights_file(path, self.fold) if path else None
