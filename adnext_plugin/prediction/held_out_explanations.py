"""Maps of people by the network of a run that never saw them, and whether to believe the maps."""

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
from adnext_plugin.prediction.held_out_networks import HeldOutNetworks

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
    """A method at work on the networks of a run, each about those whom it never saw.

    Args:
        networks: of the run.
        method: of explanation.
        target: class or quantity; None for the last.

    Raises:
        UnknownNameError: there is no such target.
    """

    def __init__(self, networks: HeldOutNetworks, method: Explanation, target: str | None) -> None:
        self._networks, self._method = networks, method
        self.target_name = networks.target_name(target)

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
            image_zyx=image[0],
            brain_zyx=brain_of(image),
            map_zyx=self._method(network, image, target, progress),
            affine=asked.affine,
            properties=asked.properties,
        )

    def check(self, found: ExplainedCase) -> Checks:
        """Whether to believe the map of a case; takes as many maps as there are networks, and one more."""
        asked = self._networks.ask(found.case_id, found.fold)
        network, image = asked.network, asked.image_czyx
        maps = [found.map_zyx]
        for fold in self._networks.folds:
            if fold != found.fold:
                other = self._networks.ask(found.case_id, fold)
                maps.append(self._method(other.network, other.image_czyx, found.target))
        new_head, all_new = (
            self._method(replace(network, network=with_weights_dealt_anew(network.network, part)), image, found.target)
            for part in PARTS
        )
        ranked = (found.map_zyx, *(random_map(found.map_zyx.shape, seed) for seed in range(RANDOM_MAPS)))
        curves = [deletion_and_insertion(network, image, map_zyx, found.target) for map_zyx in ranked]
        chance = np.mean(curves[1:], axis=0)
        return Checks(
            other_folds=agreement(maps, found.brain_zyx) if len(maps) > 1 else None,
            new_head=rank_correlation(found.map_zyx, new_head, found.brain_zyx),
            all_new=rank_correlation(found.map_zyx, all_new, found.brain_zyx),
            deletion=curves[0][0],
            random_deletion=float(chance[0]),
            insertion=curves[0][1],
            random_insertion=float(chance[1]),
        )
