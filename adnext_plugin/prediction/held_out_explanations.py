"""Maps of people by the network of a run that never saw them, and whether to believe the maps."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch

from adnext_plugin.case_properties import CaseProperties
from adnext_plugin.explanations.belief import (
    PARTS,
    agreement,
    deletion_and_insertion,
    random_map,
    rank_correlation,
    with_weights_dealt_anew,
)
from adnext_plugin.explanations.fill import brain_of
from adnext_plugin.explanations.method import Explanation, Progress
from adnext_plugin.prediction.held_out_networks import Asked, HeldOutNetworks

RANDOM_MAPS = 3  # that deletion and insertion are compared with


@dataclass(frozen=True, kw_only=True, eq=False)
class ExplainedCase:
    """A map, and what it is of.

    `fold`: whose network it is; None for the mean of several. `score`: of the target, its log-odds, or the network's
    output of a quantity. `called`: the class that the network finds most probable; None of a quantity. `image_zyx`,
    `brain_zyx` and `map_zyx` are on the network's grid, whose `affine` leads from voxels (x, y, z) to millimetres of
    the scan.
    """

    case_id: str
    subject_id: str
    fold: int | None
    target: int
    score: float
    called: str | None
    image_zyx: np.ndarray
    brain_zyx: np.ndarray
    map_zyx: np.ndarray
    affine: np.ndarray
    properties: CaseProperties


@dataclass(frozen=True, kw_only=True, eq=False)
class OtherMaps:
    """Of the same case, to compare with.

    `folds`: by the networks of the other folds, which were trained on the person. `seeds`: by those of the same fold
    under other seeds. `new_head`, `all_new`: by the network whose head, or all of whose weights, are dealt anew.
    """

    folds: tuple[np.ndarray, ...]
    seeds: tuple[np.ndarray, ...]
    new_head: np.ndarray
    all_new: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Checks:
    """Of one map. Correlations are of ranks over the brain.

    `other_folds`: mean over pairs of the maps by all folds' networks, all but one of which were trained on the person;
    `other_seeds`: of the maps by the same fold's networks under all seeds. None with one network. `new_head`,
    `all_new`: with the map of the network whose head, or all of whose weights, are dealt anew. `deletion` and
    `insertion`: mean score while the brain is taken out or put in, beside that of random maps.
    """

    other_folds: float | None
    other_seeds: float | None
    new_head: float
    all_new: float
    deletion: float
    random_deletion: float
    insertion: float
    random_insertion: float


class HeldOutExplanations:
    """A method at work on the networks of a run, each about those whom it never saw.

    Args:
        networks: of the run.
        method: of explanation.
        target: class or quantity; None for the last.
        seeds: networks of the same run under other seeds.

    Raises:
        UnknownNameError: there is no such target.
    """

    def __init__(
        self,
        networks: HeldOutNetworks,
        method: Explanation,
        target: str | None,
        seeds: Mapping[int, HeldOutNetworks] | None = None,
    ) -> None:
        self._networks, self._method, self._seeds = networks, method, dict(seeds or {})
        self.target_name = networks.target_name(target)

    def cost_in_words(self, case: str) -> str | None:
        """What the map of a case takes, where that is much."""
        return self._method.cost_in_words(self._networks.ask(case, self._networks.fold_of(case)).image_czyx)

    def explain(self, case: str, progress: Progress | None = None) -> ExplainedCase:
        """The map of a case.

        Raises:
            AdnextError: the prepared case is missing or damaged, or the method's settings do not fit the network.
        """
        fold = self._networks.fold_of(case)
        asked = self._networks.ask(case, fold)
        network, image = asked.network, asked.image_czyx
        target = network.target_index(self.target_name)
        with torch.no_grad():
            score = float(network.scores(network.tensor(image), target)[0])
        return ExplainedCase(
            case_id=case,
            subject_id=self._networks.subject_of(case),
            fold=fold,
            target=target,
            score=score,
            called=network.called(network.tensor(image)),
            image_zyx=image[0],
            brain_zyx=brain_of(image),
            map_zyx=self._method(network, image, target, progress),
            affine=asked.affine,
            properties=asked.properties,
        )

    def other_maps(self, found: ExplainedCase) -> OtherMaps:
        """Further maps of a case: as many as there are other networks, and two."""
        own = self._networks.fold_of(found.case_id)
        folds = [(self._networks, fold) for fold in self._networks.folds if fold != own]
        seeds = [(networks, own) for networks in self._seeds.values() if own in networks.folds]
        by_folds, by_seeds = (
            tuple(self._map(networks.ask(found.case_id, fold), found.target) for networks, fold in some)
            for some in (folds, seeds)
        )
        asked = self._own(found)
        changed = [replace(asked.network, network=with_weights_dealt_anew(asked.network.network, one)) for one in PARTS]
        new_head, all_new = (self._map(replace(asked, network=network), found.target) for network in changed)
        return OtherMaps(folds=by_folds, seeds=by_seeds, new_head=new_head, all_new=all_new)

    def _own(self, found: ExplainedCase) -> Asked:
        return self._networks.ask(found.case_id, self._networks.fold_of(found.case_id))

    def _map(self, asked: Asked, target: int) -> np.ndarray:
        return self._method(asked.network, asked.image_czyx, target)

    def check(self, found: ExplainedCase, others: OtherMaps) -> Checks:
        """Whether to believe the map of a case."""
        asked = self._own(found)
        ranked = (found.map_zyx, *(random_map(found.map_zyx.shape, seed) for seed in range(RANDOM_MAPS)))
        curves = [deletion_and_insertion(asked.network, asked.image_czyx, map_zyx, found.target) for map_zyx in ranked]
        chance = np.mean(curves[1:], axis=0)
        return Checks(
            other_folds=agreement((found.map_zyx, *others.folds), found.brain_zyx) if others.folds else None,
            other_seeds=agreement((found.map_zyx, *others.seeds), found.brain_zyx) if others.seeds else None,
            new_head=rank_correlation(found.map_zyx, others.new_head, found.brain_zyx),
            all_new=rank_correlation(found.map_zyx, others.all_new, found.brain_zyx),
            deletion=curves[0][0],
            random_deletion=float(chance[0]),
            insertion=curves[0][1],
            random_insertion=float(chance[1]),
        )
