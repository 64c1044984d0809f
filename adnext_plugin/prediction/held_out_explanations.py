"""Maps of people by the network of a run that never saw them, and whether to believe the maps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from adnext_plugin.case_properties import CaseProperties
from adnext_plugin.cohort import Cohort
from adnext_plugin.errors import SettingsError, UnknownNameError, nearest_names
from adnext_plugin.explanations.belief import (
    agreement,
    deletion_and_insertion,
    random_map,
    rank_correlation,
    with_weights_dealt_anew,
)
from adnext_plugin.explanations.fill import brain_of
from adnext_plugin.explanations.method import ExplainedNetwork, Explanation, Progress
from adnext_plugin.explanations.placement import map_affine
from adnext_plugin.prediction.ensemble import read_stored
from adnext_plugin.prediction.from_run import read_run
from adnext_plugin.prediction.inputs import read_inputs
from adnext_plugin.prediction.model import FoldNetwork
from adnext_plugin.run_folder import RunFolder

RANDOM_MAPS = 3  # that deletion and insertion are compared with


@dataclass(frozen=True, kw_only=True, eq=False)
class ExplainedCase:
    """A map, and what it is of.

    `score`: of the target, its log-odds, or the network's output of a quantity. `image_zyx`, `brain_zyx` and `map_zyx`
    are on the network's grid, whose `affine` leads from voxels (x, y, z) to millimetres of the scan.
    """

    case_id: str
    subject_id: str
    fold: int
    target: int
    score: float
    image_zyx: np.ndarray
    brain_zyx: np.ndarray
    map_zyx: np.ndarray
    affine: np.ndarray
    properties: CaseProperties


@dataclass(frozen=True, kw_only=True)
class Checks:
    """Of one map. Correlations are of ranks over the brain.

    `other_folds`: mean over pairs of the maps by all folds' networks, all but one of which were trained on the person;
    None with one network. `new_head`, `all_new`: with the map of the network whose head, or all of whose weights, are
    dealt anew. `deletion` and `insertion`: mean score while the brain is taken out or put in, beside that of random
    maps.
    """

    other_folds: float | None
    new_head: float
    all_new: float
    deletion: float
    random_deletion: float
    insertion: float
    random_insertion: float


class HeldOutExplanations:
    """The networks of a run, each to explain those whom it never saw.

    Args:
        run: folder of a cross-validated run; its folds that are finished are used.
        cohort: the preprocessed dataset that it was trained on.
        method: of explanation.
        device: cpu, cuda or mps.
        target: class or quantity, as in `ExplainedNetwork.target_index`.

    Raises:
        AdnextError: the run or the dataset is not complete any more.
        SettingsError: the run has no folds, or its volumes were prepared by nnU-Net.
        UnknownNameError: there is no such target.
    """

    def __init__(self, run: RunFolder, cohort: Cohort, method: Explanation, device: str, target: str | None) -> None:
        self._model = read_run(run)
        description = self._model.description
        if description.plan.prepared_by == "nnunet":
            raise SettingsError(
                f"{run.path.name} was trained on volumes prepared by nnU-Net, which does not note where voxels lie in "
                "the scan; plan and preprocess with adnext_plan_and_preprocess"
            )
        if description.folds[0].name == "all":
            raise SettingsError(f"{run.path.name} was trained on everybody; train folds, which leave people out")
        self._method, self._device, self._cohort, self._wanted = method, device, cohort, target
        self._folds = {int(fold.name): index for index, fold in enumerate(description.folds)}
        absent = [fold for fold in self._folds if fold >= len(cohort.splits)]
        if absent:
            raise SettingsError(f"{run.path.name} has a fold {absent[0]}, which the dataset's splits do not have")
        self._fold_of = {case: fold for fold in sorted(self._folds) for case in sorted(cohort.splits[fold]["val"])}
        self._networks: dict[int, FoldNetwork] = {}
        columns = self._network(next(iter(self._folds))).columns
        self._inputs = read_inputs(str(cohort.folder), description, columns, {}, "")
        self._places = {scan.case_id: index for index, scan in enumerate(self._inputs.scans)}
        self.target_name = self._name_of_target()

    @property
    def cases(self) -> tuple[str, ...]:
        """All that a finished fold holds out."""
        return tuple(self._fold_of)

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

    def explain(self, case: str, progress: Progress | None = None) -> ExplainedCase:
        """The map of a case.

        Raises:
            AdnextError: the prepared case is missing or damaged, or the method's settings do not fit the network.
        """
        fold, index = self._fold_of[case], self._places[case]
        explained, image, properties = self._ready(case, fold)
        target = explained.target_index(self._wanted)
        with torch.no_grad():
            score = float(explained.scores(explained.tensor(image), target)[0])
        size = self._model.description.plan.preprocessing.input_size_voxels
        return ExplainedCase(
            case_id=case,
            subject_id=self._inputs.scans[index].subject_id,
            fold=fold,
            target=target,
            score=score,
            image_zyx=image[0],
            brain_zyx=brain_of(image),
            map_zyx=self._method(explained, image, target, progress),
            affine=map_affine(properties, size, image.shape[1:], case),
            properties=properties,
        )

    def check(self, found: ExplainedCase) -> Checks:
        """Whether to believe the map of a case; takes as many maps as there are networks, and two more."""
        explained, image, _ = self._ready(found.case_id, found.fold)
        maps = [found.map_zyx]
        for fold in self._folds:
            if fold != found.fold:
                other, other_image, _ = self._ready(found.case_id, fold)
                maps.append(self._method(other, other_image, found.target))
        anew = {
            part: self._method(
                replace(explained, network=with_weights_dealt_anew(explained.network, part)), image, found.target
            )
            for part in ("head", "all")
        }
        shape = found.map_zyx.shape
        curves = [
            deletion_and_insertion(explained, image, ranked, found.target)
            for ranked in (found.map_zyx, *(random_map(shape, seed) for seed in range(RANDOM_MAPS)))
        ]
        chance = np.mean(curves[1:], axis=0)
        return Checks(
            other_folds=agreement(maps, found.brain_zyx) if len(maps) > 1 else None,
            new_head=rank_correlation(found.map_zyx, anew["head"], found.brain_zyx),
            all_new=rank_correlation(found.map_zyx, anew["all"], found.brain_zyx),
            deletion=curves[0][0],
            random_deletion=float(chance[0]),
            insertion=curves[0][1],
            random_insertion=float(chance[1]),
        )

    def _ready(self, case: str, fold: int) -> tuple[ExplainedNetwork, np.ndarray, CaseProperties]:
        """A fold's network about a person, its input (C, Z, Y, X), and how the case was prepared."""
        index = self._places[case]
        stored = read_stored(self._inputs, index, self._model.description)
        assert stored.properties is not None  # nnU-Net's preparation was refused
        network = self._network(fold)
        image = network.input_of(stored.volume_zyx)
        return network.explained(self._inputs.columns.iloc[[index]]), image, stored.properties

    def _network(self, fold: int) -> FoldNetwork:
        if fold not in self._networks:
            self._networks[fold] = FoldNetwork(self._model, self._folds[fold], self._device)
        return self._networks[fold]

    def _name_of_target(self) -> str:
        task = self._model.description.task
        names = task.classes if task.kind == "classification" else (task.column,)
        if self._wanted is not None and self._wanted not in names:
            raise UnknownNameError(f"the run knows no target {self._wanted!r}{nearest_names(self._wanted, names)}")
        return self._wanted or names[-1]
