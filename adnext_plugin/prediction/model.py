"""A trained model in memory, and its networks at work."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import torch
from torch import nn

from adnext_plugin.data.centre import CentreCrop
from adnext_plugin.errors import WeightsError
from adnext_plugin.explanations.method import ExplainedNetwork
from adnext_plugin.networks.features import feature_layer
from adnext_plugin.networks.with_covariates import network_of_images
from adnext_plugin.plan import Plan
from adnext_plugin.prediction.built_networks import possible_networks
from adnext_plugin.prediction.description import FoldDescription, ModelDescription
from adnext_plugin.prediction.features import FeatureProfile
from adnext_plugin.preprocessing.fitted import with_states
from adnext_plugin.run_records import Corpus
from adnext_plugin.training.covariates import plain_columns
from adnext_plugin.training.precision import Arithmetic, of_earlier_version


@dataclass(frozen=True, kw_only=True)
class FoldModel:
    """Tensors of one network, and what its features look like; None where that is not known.

    `learned` is what the plan's fitted preprocessing steps have learned from the fold's training part.
    """

    weights: Mapping[str, torch.Tensor]
    features: FeatureProfile | None = None
    learned: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Model:
    """An ensemble: `folds` are those of the description, in its order.

    `seen`: whom each of its networks has seen, as a run's checkpoints say in digests; nothing of a bundle.
    """

    description: ModelDescription
    folds: tuple[FoldModel, ...]
    seen: tuple[Corpus | None, ...] = ()


class FoldNetwork:
    """One network of an ensemble, ready to predict.

    Args:
        model: the ensemble.
        index: which of its networks.
        device: cpu, cuda or mps.

    Raises:
        WeightsError: the tensors are not those of the network that the plan names.
    """

    def __init__(self, model: Model, index: int, device: str) -> None:
        self.description: FoldDescription = model.description.folds[index]
        self.features: FeatureProfile | None = model.folds[index].features
        self._plan: Plan = model.description.plan
        self._in_channels = model.description.in_channels
        where = f"what fold {self.description.name} has learned"
        self._fitted = with_states(self._plan.preprocessing, model.folds[index].learned, where)
        self._device = torch.device(device)
        precision = self.description.precision or of_earlier_version(self._device)
        self.arithmetic = Arithmetic(precision=precision, device=self._device)
        self._network = _with_weights(model, index)
        self._network.eval().to(self._device)
        crop = self._plan.training.get("crop_voxels")
        self._cut = CentreCrop(crop) if crop else None
        self._seen: list[torch.Tensor] | None = None  # inputs of the last layer, while a scan is being predicted
        layer = feature_layer(self._image_network)
        if self.features is not None and (layer is None or layer.in_features != len(self.features.mean)):
            raise WeightsError(f"the features of fold {self.description.name} are of another network; export it again")
        if layer is not None:
            layer.register_forward_pre_hook(lambda _, inputs: self._see(inputs[0]))

    @property
    def network(self) -> nn.Module:
        """The network itself, in eval mode."""
        return self._network

    @property
    def input_size_voxels(self) -> tuple[int, int, int]:
        """(Z, Y, X) of what the network is fed."""
        return self._plan.network_input_voxels

    @property
    def knows_features(self) -> bool:
        """Whether its features can be compared with those of its training cases."""
        return self.features is not None and self.description.feature_distance is not None

    @property
    def columns(self) -> tuple[str, ...]:
        """What it must be told of a person beside the scan, as columns are called in `subjects.csv`."""
        own = getattr(self._network, "columns", ())
        return tuple(own or self._plan.training.get("covariates", ()))

    @torch.inference_mode()
    def __call__(self, image_czyx: np.ndarray, row: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
        """Outputs (K,) and features (D,) of one scan, float64; None where `feature_layer` finds none.

        Args:
            image_czyx: prepared, float16.
            row: one row with the columns named by `columns`.
        """
        inputs = [torch.from_numpy(self.input_of(image_czyx))[None].to(self._device)]
        if self.columns:
            inputs.append(torch.from_numpy(self._covariates(row)).to(self._device))
        self._seen = []
        with self.arithmetic():
            outputs = self._network(*inputs)
        seen, self._seen = self._seen, None
        features = None
        if seen:
            # blocks of one scan are averaged
            tokens = seen[0].float().reshape(-1, seen[0].shape[-1])
            features = tokens.mean(dim=0).cpu().double().numpy()
        return outputs[0].float().cpu().double().numpy(), features

    def input_of(self, image_czyx: np.ndarray) -> np.ndarray:
        """What the network is fed of a prepared scan, (C, Z, Y, X) float32: changed by fitted steps, cut to size."""
        image_czyx = image_czyx.astype(np.float32)
        if self._fitted is not None:
            # rounded as the stores of training round
            image_czyx = self._fitted(image_czyx).astype(np.float16).astype(np.float32)
        return image_czyx if self._cut is None else self._cut(torch.from_numpy(image_czyx), 0).numpy()

    def explained(self, row: pd.DataFrame) -> ExplainedNetwork:
        """The network as a method of explanation takes it, answering about one person; images are those of `input_of`.

        It computes in float32 whatever the run does: a map is made of differences between scores that are close.

        Args:
            row: one row with the columns named by `columns`.
        """
        covariates_1n = torch.from_numpy(self._covariates(row)) if self.columns else None
        shape = (self._in_channels, *self._plan.network_input_voxels)
        return ExplainedNetwork(
            network=self._network,
            task=self._plan.known_task,
            image_shape=shape,
            covariates_1n=covariates_1n,
            arithmetic=Arithmetic(precision="float32", device=self._device),
        )

    def _see(self, features: torch.Tensor) -> None:
        if self._seen is not None:
            self._seen.append(features)

    @property
    def _image_network(self) -> nn.Module:
        return network_of_images(self._network)

    def _covariates(self, row: pd.DataFrame) -> np.ndarray:
        if self.description.covariate_scale is not None:
            return self.description.covariate_scale.apply(row)
        return plain_columns(row, self.columns, self._plan.known_task, self._plan.network.name or "of the plan")


def _with_weights(model: Model, index: int) -> nn.Module:
    problem = None
    for network in possible_networks(model.description):
        try:
            network.load_state_dict(model.folds[index].weights)
            return network
        except RuntimeError as error:
            problem = error
    description = model.description
    raise WeightsError(
        f"the weights of fold {description.folds[index].name} are of another network than the plan's "
        f"{description.plan.network.name}; train or export it again, or install the package of {description.trainer}"
    ) from problem
