"""A trained model in memory, and its networks at work."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import nn

from adnext_plugin.data.augmentation import CentreCrop
from adnext_plugin.errors import WeightsError
from adnext_plugin.networks.build import build_planned_network
from adnext_plugin.networks.with_covariates import WithCovariates
from adnext_plugin.plan import Plan
from adnext_plugin.prediction.description import FoldDescription, ModelDescription
from adnext_plugin.prediction.features import FeatureProfile
from adnext_plugin.training.covariates import plain_columns
from adnext_plugin.training.precision import autocast


@dataclass(frozen=True, kw_only=True)
class FoldModel:
    """Tensors of one network, and what its features look like; None where that is not known."""

    weights: Mapping[str, torch.Tensor]
    features: FeatureProfile | None = None


@dataclass(frozen=True, kw_only=True)
class Model:
    """An ensemble: `folds` are those of the description, in its order."""

    description: ModelDescription
    folds: tuple[FoldModel, ...]


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
        self._device = torch.device(device)
        self._network = build_planned_network(self._plan, model.description.in_channels)
        try:
            self._network.load_state_dict(model.folds[index].weights)
        except RuntimeError as error:
            raise WeightsError(
                f"the weights of fold {self.description.name} are of another network than the plan's "
                f"{self._plan.network.name}; train or export it again"
            ) from error
        self._network.eval().to(self._device)
        crop = self._plan.training.get("crop_voxels")
        self._cut = CentreCrop(crop) if crop else None
        self._seen: list[torch.Tensor] = []
        layer = feature_layer(self._image_network)
        if self.features is not None and (layer is None or layer.in_features != len(self.features.mean)):
            raise WeightsError(f"the features of fold {self.description.name} are of another network; export it again")
        if layer is not None:
            layer.register_forward_pre_hook(lambda _, inputs: self._seen.append(inputs[0]))

    @property
    def columns(self) -> tuple[str, ...]:
        """What it must be told of a person beside the scan, as columns are called in `subjects.csv`."""
        own = getattr(self._network, "columns", ())
        return tuple(own or self._plan.training.get("covariates", ()))

    @torch.inference_mode()
    def __call__(self, volume_zyx: np.ndarray, row: pd.DataFrame) -> tuple[np.ndarray, np.ndarray | None]:
        """Outputs (K,) and features (D,) of one scan, float64; None where `feature_layer` finds none.

        Args:
            volume_zyx: prepared, float16.
            row: one row with the columns named by `columns`.
        """
        image_czyx = torch.from_numpy(volume_zyx.astype(np.float32))[None]
        if self._cut is not None:
            image_czyx = self._cut(image_czyx, 0)
        inputs = [image_czyx[None].to(self._device)]
        if self.columns:
            inputs.append(torch.from_numpy(self._covariates(row)).to(self._device))
        self._seen.clear()
        with autocast(self._device):
            outputs = self._network(*inputs)
        features = None
        if self._seen:
            # blocks of one scan are averaged
            tokens = self._seen[0].float().reshape(-1, self._seen[0].shape[-1])
            features = tokens.mean(dim=0).cpu().double().numpy()
        return outputs[0].float().cpu().double().numpy(), features

    @property
    def _image_network(self) -> nn.Module:
        return self._network.network if isinstance(self._network, WithCovariates) else self._network

    def _covariates(self, row: pd.DataFrame) -> np.ndarray:
        if self.description.covariate_scale is not None:
            return self.description.covariate_scale.apply(row)
        return plain_columns(row, self.columns, self._plan.task, self._plan.network.name)


def feature_layer(network: nn.Module) -> nn.Linear | None:
    """The layer whose input is what a network has made of a scan in the end; None if it does not end in such a layer.

    Where the outputs of several are put together (NiT, MiNiT), the first of them.
    """
    layers = [module for module in getattr(network, "head", network).modules() if isinstance(module, nn.Linear)]
    return next((layer for layer in layers if layer.out_features == layers[-1].out_features), None)
