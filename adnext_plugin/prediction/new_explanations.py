"""Maps of new scans by all networks of a model together."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from adnext_plugin.errors import SettingsError
from adnext_plugin.explanations.belief import agreement
from adnext_plugin.explanations.fill import brain_of
from adnext_plugin.explanations.method import Explanation, target_name, target_names
from adnext_plugin.explanations.placement import map_affine
from adnext_plugin.prediction.ensemble import Prediction, PreparedScan
from adnext_plugin.prediction.held_out_explanations import ExplainedCase
from adnext_plugin.prediction.inputs import ScanInput
from adnext_plugin.prediction.model import FoldNetwork, Model


class NewExplanations:
    """A method at work on the networks of a model, each of which may be asked about a new scan.

    Args:
        model: the ensemble.
        method: of explanation.
        target: class or quantity; None for the positive class, the last of more, or the quantity.
        device: cpu, cuda or mps.

    Raises:
        UnknownNameError: there is no such target.
        SettingsError: the model's scans were prepared by nnU-Net, which does not note where voxels lie.
    """

    def __init__(self, model: Model, method: Explanation, target: str | None, device: str) -> None:
        self._method, self._description = method, model.description
        self.task = model.description.plan.known_task
        self.target_name = target_name(self.task, target, "the model")
        if model.description.plan.prepared_by == "nnunet":
            raise SettingsError(
                "--explain: the model was trained on volumes prepared by nnU-Net, which does not note where voxels lie "
                "in the scan"
            )
        self._networks: Sequence[FoldNetwork] = [FoldNetwork(model, index, device) for index in range(len(model.folds))]

    def explain(
        self, scan: ScanInput, prepared: PreparedScan, row: pd.DataFrame, found: Prediction
    ) -> tuple[ExplainedCase, float | None]:
        """The mean of the networks' maps, and how well these agree: mean rank correlation, None of a single network.

        Args:
            scan: which it is.
            prepared: its volume.
            row: one row with what the networks must be told of the person.
            found: what they answered together.

        Raises:
            AdnextError: settings of the method do not fit the network.
        """
        assert prepared.properties is not None  # nnU-Net's preparation was refused
        maps, scores, images = [], [], []
        for fold in self._networks:
            image_czyx = fold.input_of(prepared.image_czyx)
            network = fold.explained(row)
            target = network.target_index(self.target_name)
            maps.append(self._method(network, image_czyx, target))
            with torch.no_grad():
                scores.append(float(network.scores(network.tensor(image_czyx), target)[0]))
            images.append(image_czyx)
        first = images[0]
        brain_zyx = brain_of(first)
        size = self._description.plan.preprocessing.input_size_voxels
        case = ExplainedCase(
            case_id=scan.case_id,
            subject_id=scan.subject_id,
            fold=None,
            target=target_names(self.task).index(self.target_name),
            score=float(np.mean(scores)),
            called=None if found.called is None else self.task.classes[found.called],
            image_zyx=first[0],
            brain_zyx=brain_zyx,
            map_zyx=np.mean(maps, axis=0),
            affine=map_affine(prepared.properties, size, first.shape[1:], scan.case_id),
            properties=prepared.properties,
        )
        return case, agreement(maps, brain_zyx) if len(maps) > 1 else None
