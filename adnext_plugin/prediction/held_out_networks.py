"""The networks of a run, each ready to be asked about those whom it never saw."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from adnext_plugin.case_properties import CaseProperties
from adnext_plugin.cohort import Cohort
from adnext_plugin.errors import SettingsError, UnknownNameError, nearest_names
from adnext_plugin.explanations.method import ExplainedNetwork, target_name
from adnext_plugin.explanations.placement import map_affine
from adnext_plugin.prediction.ensemble import read_stored
from adnext_plugin.prediction.from_run import read_run
from adnext_plugin.prediction.inputs import read_inputs
from adnext_plugin.prediction.model import FoldNetwork
from adnext_plugin.prepared_data import PreparedData, refuse_other_data
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.task import Task


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """A fold's network about a person, its input (C, Z, Y, X), and where that lies.

    `affine` leads from voxels (x, y, z) of the input to millimetres of the scan.
    """

    network: ExplainedNetwork
    image_czyx: np.ndarray
    affine: np.ndarray
    properties: CaseProperties


class HeldOutNetworks:
    """The finished folds of a run. Of a repeated cross-validation the first that holds a person out counts.

    Args:
        run: folder of a cross-validated run.
        cohort: the preprocessed dataset that it was trained on.
        device: cpu, cuda or mps.

    Raises:
        OtherDataError: folds were trained on other data than the dataset holds now: who is held out could be another.
        AdnextError: the run or the dataset is not complete any more.
        SettingsError: the run has no folds, or its volumes were prepared by nnU-Net.
    """

    def __init__(self, run: RunFolder, cohort: Cohort, device: str) -> None:
        self._model = read_run(run, calls=False)
        description = self._model.description
        if description.plan.prepared_by == "nnunet":
            raise SettingsError(
                f"{run.path.name} was trained on volumes prepared by nnU-Net, which does not note where voxels lie in "
                "the scan; plan and preprocess with adnext_plan_and_preprocess"
            )
        if description.folds[0].name == "all":
            raise SettingsError(f"{run.path.name} was trained on everybody; train folds, which leave people out")
        refuse_other_data(run.folds(), PreparedData(cohort=cohort, plans=run.plans, configuration=run.configuration))
        self._device, self._cohort = device, cohort
        self._folds = {int(fold.name): index for index, fold in enumerate(description.folds)}
        absent = [fold for fold in self._folds if fold >= len(cohort.splits)]
        if absent:
            raise SettingsError(f"{run.path.name} has a fold {absent[0]}, which the dataset's splits do not have")
        self._fold_of: dict[str, int] = {}
        for fold in sorted(self._folds):
            for case in sorted(cohort.splits[fold]["val"]):
                self._fold_of.setdefault(case, fold)
        self._networks: dict[int, FoldNetwork] = {}
        columns = self._network(next(iter(self._folds))).columns
        self._inputs = read_inputs(str(cohort.folder), description, columns, {}, "")
        self._places = {scan.case_id: index for index, scan in enumerate(self._inputs.scans)}

    @property
    def task(self) -> Task:
        """What the networks have learned."""
        return self._model.description.plan.known_task

    @property
    def folds(self) -> tuple[int, ...]:
        """Numbers of the finished folds."""
        return tuple(self._folds)

    @property
    def cases(self) -> tuple[str, ...]:
        """All that a finished fold holds out."""
        return tuple(self._fold_of)

    def fold_of(self, case: str) -> int:
        """The fold that holds out one of `cases`."""
        return self._fold_of[case]

    def subject_of(self, case: str) -> str:
        """Whose scan a case is."""
        return self._inputs.scans[self._places[case]].subject_id

    def chosen(self, names: Sequence[str]) -> tuple[str, ...]:
        """These cases, or all if none is named.

        Raises:
            UnknownNameError: there is no such case, or no finished fold holds it out.
        """
        for name in names:
            if name not in self._places:
                raise UnknownNameError(f"{self._cohort.name} has no case {name!r}{nearest_names(name, self.cases)}")
            if name not in self._fold_of:
                raise UnknownNameError(f"no finished fold holds out case {name!r}; train the others, too")
        return tuple(dict.fromkeys(names)) or self.cases

    def target_name(self, wanted: str | None) -> str:
        """The class or quantity that is asked for, or the last of them.

        Raises:
            UnknownNameError: there is no such target.
        """
        return target_name(self.task, wanted, "the run")

    def ask(self, case: str, fold: int) -> Asked:
        """A fold's network about a case.

        Raises:
            AdnextError: the prepared case is missing or damaged.
        """
        if case not in self._places:
            raise SettingsError(
                f"{self._cohort.folder} has no prepared case {case!r} of its folds; preprocess it again"
            )
        index = self._places[case]
        stored = read_stored(self._inputs, index, self._model.description)
        assert stored.properties is not None  # nnU-Net's preparation was refused
        network = self._network(fold)
        image = network.input_of(stored.image_czyx)
        size = self._model.description.plan.preprocessing.input_size_voxels
        return Asked(
            network=network.explained(self._inputs.columns.iloc[[index]]),
            image_czyx=image,
            affine=map_affine(stored.properties, size, image.shape[1:], case),
            properties=stored.properties,
        )

    def _network(self, fold: int) -> FoldNetwork:
        if fold not in self._networks:
            self._networks[fold] = FoldNetwork(self._model, self._folds[fold], self._device)
        return self._networks[fold]
