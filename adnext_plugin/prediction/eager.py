"""The networks of a model as torch runs them, one after the other, on a processor or a GPU."""

import numpy as np
import pandas as pd

from adnext_plugin.prediction.ensemble import Ensemble, FoldAnswer
from adnext_plugin.prediction.model import FoldNetwork, Model


class EagerNetworks:
    """All networks of a model on one device.

    Args:
        model: the ensemble.
        device: cpu, cuda or mps.

    Raises:
        WeightsError: the tensors are not those of the networks that the plan names.
    """

    def __init__(self, model: Model, device: str) -> None:
        self.device = device
        self._networks = [FoldNetwork(model, index, device) for index in range(len(model.folds))]

    @property
    def columns(self) -> tuple[str, ...]:
        """What must be known of a person beside the scan."""
        return self._networks[0].columns

    @property
    def know_features(self) -> bool:
        """Whether features of all networks can be compared with those of their training cases."""
        return all(network.knows_features for network in self._networks)

    @property
    def shortfall(self) -> str | None:
        """A line for where the device cannot compute as the networks were trained."""
        return next((network.arithmetic.shortfall for network in self._networks if network.arithmetic.shortfall), None)

    def __call__(self, image_czyx: np.ndarray, row: pd.DataFrame) -> list[FoldAnswer]:
        """What each network says of one prepared scan."""
        return [_answer(network, image_czyx, row) for network in self._networks]


def ensemble_of(model: Model, device: str) -> Ensemble:
    """A model ready to predict.

    Raises:
        WeightsError: the tensors are not those of the networks that the plan names.
    """
    return Ensemble(model.description, EagerNetworks(model, device))


def _answer(network: FoldNetwork, image_czyx: np.ndarray, row: pd.DataFrame) -> FoldAnswer:
    outputs, features = network(image_czyx, row)
    scale = network.description.target_scale
    distance = None
    if network.features is not None and features is not None:
        distance = float(network.features.distances(features[None])[0])
    return FoldAnswer(
        outputs=outputs if scale is None else outputs * scale.standard_deviation + scale.mean,
        feature_distance=distance,
    )
