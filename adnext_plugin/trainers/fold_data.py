"""The cases of one fold as a trainer sees them: which part they belong to, their targets, and loaders of them."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
import pandas as pd
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from adnext_plugin.data.loading import CaseDataset, Change, EpochLoader, EpochSampler, Loader
from adnext_plugin.data.loading_processes import MOST, MOST_UNCHANGED, LoadingProcesses, loading_processes
from adnext_plugin.data.resident import ResidentLoader
from adnext_plugin.data.store import CaseStore
from adnext_plugin.environment import folds_at_once
from adnext_plugin.errors import SplitError
from adnext_plugin.files import read_object, require_file
from adnext_plugin.paths import DATASET_FILE, plans_file
from adnext_plugin.plan import Plan, configuration_of, data_identifier, plan_in, read_plans
from adnext_plugin.preprocessing.chain import channels_of, fitted_steps_of
from adnext_plugin.preprocessing.fitted import FittedSteps, StoredToInput, fit_steps
from adnext_plugin.settings import FAST_SUBJECTS, RunSettings, TrainerSettings
from adnext_plugin.splits.folds import ensure_splits, require_every_class, take_fraction
from adnext_plugin.subjects import permute_targets, read_people
from adnext_plugin.task import image_names_in, task_of


def _say_nothing(line: str) -> None:
    """For those who want no line on what loaders lack."""


@dataclass(frozen=True, kw_only=True)
class FoldData:
    """One fold of a preprocessed dataset.

    `images` is the folder of stored volumes inside `dataset_folder`; `stored_spacing_mm` (z, y, x) is theirs where
    nnU-Net's own preprocessing made them.
    """

    dataset_folder: Path
    images: Path
    fold: int | str
    plan: Plan
    stored_spacing_mm: tuple[float, ...]

    @cached_property
    def subjects(self) -> pd.DataFrame:
        """Content of `subjects.csv`, with permuted targets where the settings say so."""
        seed = self.plan.training.get("permute_labels")
        return self._table if seed is None else permute_targets(self._table, self.plan.known_task, seed)

    @cached_property
    def parts(self) -> dict[str, list[str]]:
        """Case ids of `train`, `selection` and `val`, sorted; fold "all" trains on every case and holds none out.

        Raises:
            SplitError: the splits do not fit the data, or there is no such fold.
        """
        if self.fold == "all":
            return {"train": sorted(self._table["case_id"]), "selection": [], "val": []}
        splits = ensure_splits(self.dataset_folder, self._table, self.plan.known_task)
        fold = int(self.fold)
        if not 0 <= fold < len(splits):
            raise SplitError(f"there is no fold {self.fold}; the splits have folds 0 to {len(splits) - 1}")
        return {part: sorted(splits[fold][part]) for part in ("train", "selection", "val")}

    def cases_to_train_on(self, settings: TrainerSettings) -> tuple[list[str], list[str]]:
        """Cases to train on, and cases to choose the epoch on: `selection`, or under the paper's protocol `val`.

        Raises:
            SplitError: the splits do not fit the data, or nobody of a class would be trained on.
        """
        training, compared_on = self.parts["train"], self.parts["selection"]
        if settings.protocol == "paper":
            training, compared_on = sorted(training + compared_on), self.parts["val"]
        fraction = settings.train_fraction
        if settings.fast and training:
            fraction *= min(1.0, FAST_SUBJECTS / self.rows(training)["subject_id"].nunique())
        if fraction < 1:
            training = take_fraction(training, self.subjects, self.plan.known_task, fraction)
        where = "The dataset" if self.fold == "all" else f"The training part of fold {self.fold}"
        require_every_class(training, self.subjects, self.plan.known_task, where)
        return training, compared_on

    def targets(self, cases: list[str]) -> np.ndarray:
        """Class index of each case, (N,) int64, 0 for unlabelled data; or its number, (N,) float64."""
        task = self.plan.known_task
        if task.kind == "unlabelled":
            return np.zeros(len(cases), dtype=np.int64)
        found = self.rows(cases)[task.column]
        if task.kind == "regression":
            return found.to_numpy(dtype=np.float64)
        return found.map(task.classes.index).to_numpy(dtype=np.int64)

    def rows(self, cases: list[str]) -> pd.DataFrame:
        """Rows of `subjects.csv`, in the order of the cases."""
        return self._by_case.loc[cases]

    @property
    def held_out(self) -> pd.DataFrame:
        """Rows of those whom the fold holds out."""
        return self.rows(self.parts["val"])

    def loader(
        self,
        cases: list[str],
        settings: RunSettings,
        *,
        change: Change | None = None,
        shuffle: bool = False,
        order: np.ndarray | None = None,
        covariates: np.ndarray | None = None,
        fitted: FittedSteps | None = None,
        on_gpu: bool = False,
        resident_on: torch.device | None = None,
        rank: int = 0,
        processes: int = 1,
        tell: Callable[[str], None] = _say_nothing,
    ) -> Loader:
        """A loader of some cases, in the order given or shuffled; by default without covariates and fitted steps.

        Args:
            cases: to serve.
            settings: batch size and seed.
            change: of each image; None: none.
            shuffle: whether to train on them.
            order: places among the cases, in which they are served; of a loader that does not shuffle.
            covariates: (N, K).
            fitted: steps that were fitted on cases to train on.
            on_gpu: whether batches go to a GPU.
            resident_on: where all volumes are to be kept, and changed; None: in the memory of the machine.
            rank, processes: which share of every batch.
            tell: is told what loaders lack.
        """
        if covariates is None:
            covariates = np.zeros((len(cases), 0), dtype=np.float32)
        store = self.store(cases, fitted)
        beside = processes * folds_at_once()  # that load and keep as much on this machine
        if resident_on is None:
            store.keep_in_memory(beside)
        dataset = CaseDataset(store, self.targets(cases), covariates, change, settings.seed)
        sampler = EpochSampler(
            len(cases),
            settings.batch_size,
            shuffle=shuffle,
            seed=settings.seed,
            rank=rank,
            processes=processes,
            order=order,
        )
        if resident_on is not None:
            return ResidentLoader(dataset, sampler, resident_on)
        # images as they are take less work, and one or two batches are made before a process has begun
        most = MOST if shuffle else min(MOST_UNCHANGED, len(sampler) // 2) if on_gpu else 0
        loaders = LoadingProcesses(count=0)
        if most:
            share = math.ceil(min(settings.batch_size, len(cases)) / processes)
            loaders = loading_processes(
                lambda: share * dataset.bytes_of_case(), on_gpu=on_gpu, processes=beside, most=most
            )
        if shuffle and loaders.line is not None:
            tell(loaders.line)
        return EpochLoader(dataset, sampler, workers=loaders.count, pin_memory=on_gpu)

    def fit_steps(self, training: list[str]) -> FittedSteps | None:
        """The plan's fitted steps, fitted on some cases and no others; None where the plan has none."""
        settings = self.plan.preprocessing
        return fit_steps(settings, self.store(training)) if fitted_steps_of(settings) else None

    def store(self, cases: list[str], fitted: FittedSteps | None = None) -> CaseStore:
        """The images of some cases, as the network takes them; one store for all who use the same cases."""
        key = (tuple(cases), fitted)
        store = self._stores.get(key)
        if store is None:
            store = self._stores[key] = self._open_store(cases, fitted)
        return store

    @cached_property
    def _stores(self) -> WeakValueDictionary[tuple[tuple[str, ...], FittedSteps | None], CaseStore]:
        return WeakValueDictionary()

    def _open_store(self, cases: list[str], fitted: FittedSteps | None) -> CaseStore:
        settings = self.plan.preprocessing
        stock_spacing_mm = self.stored_spacing_mm if self.plan.prepared_by == "nnunet" else None
        to_input = None
        if stock_spacing_mm is not None or fitted is not None:
            to_input = StoredToInput(settings=settings, stock_spacing_mm=stock_spacing_mm, fitted=fitted)
        is_own = self.plan.prepared_by == "adnext"
        channels = len(self.channels)
        return CaseStore(self.images, cases, settings.input_size_voxels, to_input, is_own=is_own, channels=channels)

    @cached_property
    def channels(self) -> tuple[str, ...]:
        """What the channels of its images are called, in their order."""
        return channels_of(self.plan.preprocessing, image_names_in(self.dataset_folder / DATASET_FILE))

    @cached_property
    def _by_case(self) -> pd.DataFrame:
        return self.subjects.set_index("case_id")

    @cached_property
    def _table(self) -> pd.DataFrame:
        return read_people(self.dataset_folder, self.plan.known_task)


def open_data(
    dataset_folder: Path, plans: str, configuration: str, remedy: str = "make it with adnext_plan_and_preprocess"
) -> FoldData:
    """All cases of a preprocessed dataset, as its own plans and its `dataset.json` describe them.

    Args:
        dataset_folder: preprocessed.
        plans: name of its plans file.
        configuration: of the plans.
        remedy: what to do where the dataset has no such plans.

    Raises:
        PathsError: there are no such plans.
        SettingsError: a value in them is unknown or of the wrong kind.
    """
    path = require_file(plans_file(dataset_folder, plans), remedy)
    content = read_plans(path)
    configuration_of(content, configuration, str(path))  # says in one line what is wrong with it
    planned = PlansManager(content).get_configuration(configuration)
    plan = plan_in(planned.configuration, str(path))
    task = task_of(read_object(dataset_folder / "dataset.json"), str(dataset_folder / "dataset.json"))
    return FoldData(
        dataset_folder=dataset_folder,
        images=dataset_folder / data_identifier(planned.configuration, str(path)),
        fold="all",
        plan=replace(plan, task=task),
        stored_spacing_mm=tuple(planned.spacing),
    )
