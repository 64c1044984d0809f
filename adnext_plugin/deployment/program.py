"""All networks of a model as one module: from prepared scans to calibrated answers, as it is written to a file.

What the layers do differently for the sake of training (own gradients, a few planes at a time) is switched off in eval
mode, so that nothing but ordinary operators is left.
"""

import numpy as np
import torch
from torch import nn

from adnext_plugin.deployment.notes import ANSWER, CALLED, COVARIATES, DISTANCES, IMAGE, OUTPUTS, SPREAD
from adnext_plugin.errors import SettingsError
from adnext_plugin.images import centre
from adnext_plugin.networks.features import feature_layer
from adnext_plugin.networks.with_covariates import network_of_images
from adnext_plugin.prediction.features import FeatureProfile
from adnext_plugin.prediction.model import FoldNetwork, Model


class Program(nn.Module):
    """An ensemble with all that is done to what its networks give.

    Args:
        model: the ensemble.

    Raises:
        SettingsError: a step of its preparation is fitted for each network, which is done in Python only.
        WeightsError: the tensors are not those of the networks that the plan names.
    """

    def __init__(self, model: Model) -> None:
        super().__init__()
        if any(fold.learned for fold in model.folds):
            raise SettingsError(
                "the plan has preprocessing steps that are fitted to each fold, which run in Python only; write "
                "--format zip, and predict with adnext_predict"
            )
        description = model.description
        networks = [FoldNetwork(model, index, "cpu") for index in range(len(model.folds))]
        self.columns = networks[0].columns
        self.in_channels = description.in_channels
        self.input_size_voxels = description.plan.preprocessing.input_size_voxels
        self.folds = nn.ModuleList(_Fold(network, self.input_size_voxels) for network in networks)
        self.is_regression = description.task.kind == "regression"
        self.threshold = description.threshold
        # as the ensemble has it: all distances, or none
        self.has_distances = all(network.knows_features for network in networks)
        self.eval()

    @property
    def input_names(self) -> list[str]:
        """What `forward` takes, in its order."""
        return [IMAGE, COVARIATES] if self.columns else [IMAGE]

    @property
    def output_names(self) -> list[str]:
        """What `forward` gives, in its order."""
        called = [] if self.is_regression else [CALLED]
        return [ANSWER, SPREAD, OUTPUTS, *called, *([DISTANCES] if self.has_distances else [])]

    def forward(self, image_bczyx: torch.Tensor, covariates_bn: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """Answers of B scans.

        Args:
            image_bczyx: prepared, float32.
            covariates_bn: what `columns` says of each person, as it is in `subjects.csv`; NaN where it is not known.

        Returns:
            Mean over networks of the K probabilities, or of the number; its standard deviation over networks; the
            logits or the number of each of the F networks; the index of the class that is called; and how far each
            network's features are from those of its training cases. The last two where there are such.
        """
        found = [fold(image_bczyx, covariates_bn) for fold in self.folds]
        outputs_bfk = torch.stack([outputs for outputs, _, _ in found], dim=1)
        answers_bfk = torch.stack([answer for _, answer, _ in found], dim=1)
        answer_bk = answers_bfk.mean(dim=1)
        spread_bk = (answers_bfk - answer_bk[:, None]).square().mean(dim=1).sqrt()
        results = [answer_bk, spread_bk, outputs_bfk]
        if not self.is_regression:
            results.append(self._call(answer_bk))
        if self.has_distances:
            results.append(torch.stack([distance for _, _, distance in found], dim=1))
        return tuple(results)

    def _call(self, answer_bk: torch.Tensor) -> torch.Tensor:
        if self.threshold is None:
            return answer_bk.argmax(dim=1)
        return (answer_bk[:, 1] >= self.threshold).long()


class _Fold(nn.Module):
    """One network: outputs (B, K) in the target's unit, answers (B, K), distances (B,) of its features."""

    def __init__(self, fold: FoldNetwork, size_voxels: tuple[int, int, int]) -> None:
        super().__init__()
        self.network = fold.network
        description = fold.description
        self.temperature = description.temperature
        self.target_scale = description.target_scale
        scale = description.covariate_scale
        self.means = self.deviations = None
        if scale is not None:
            self.means, self.deviations = list(scale.means), list(scale.deviations)
        self.cut = centre(size_voxels, fold.input_size_voxels)
        self.distance = _Distance(fold.features) if fold.features is not None else None
        self.seen: list[torch.Tensor] = []
        if self.distance is not None:
            layer = feature_layer(network_of_images(self.network))
            assert layer is not None  # whose features the profile is of
            layer.register_forward_pre_hook(lambda _, inputs: self.seen.append(inputs[0]))

    def forward(
        self, image_bczyx: torch.Tensor, covariates_bn: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
        z, y, x = self.cut
        inputs = [image_bczyx[:, :, z, y, x]]
        if covariates_bn is not None:
            inputs.append(self._scaled(covariates_bn))
        self.seen.clear()
        outputs_bk = self.network(*inputs).float()
        if self.target_scale is not None:
            outputs_bk = outputs_bk * self.target_scale.standard_deviation + self.target_scale.mean
            answer_bk = outputs_bk
        else:
            answer_bk = (outputs_bk / self.temperature).softmax(dim=1)
        distance_b = None
        if self.distance is not None:
            features = self.seen[0]
            # blocks of one scan are averaged, as in `FoldNetwork`
            distance_b = self.distance(features.reshape(outputs_bk.shape[0], -1, features.shape[-1]).mean(dim=1))
            self.seen.clear()
        return outputs_bk, answer_bk, distance_b

    def _scaled(self, covariates_bn: torch.Tensor) -> torch.Tensor:
        if self.means is None:
            return covariates_bn
        scaled = (covariates_bn - torch.tensor(self.means)) / torch.tensor(self.deviations)
        # the training mean stands in for what is not known
        return torch.where(covariates_bn.isnan(), torch.zeros_like(scaled), scaled)


class _Distance(nn.Module):
    """`FeatureProfile.distances` of features (B, D)."""

    def __init__(self, profile: FeatureProfile) -> None:
        super().__init__()
        self.mean: torch.Tensor
        self.whiten: torch.Tensor
        self.register_buffer("mean", torch.from_numpy(profile.mean.astype(np.float32)))
        whiten = np.linalg.inv(np.linalg.cholesky(profile.covariance.astype(np.float64))) / profile.spread
        self.register_buffer("whiten", torch.from_numpy(whiten.astype(np.float32)))

    def forward(self, features_bd: torch.Tensor) -> torch.Tensor:
        return torch.linalg.vector_norm((features_bd - self.mean) @ self.whiten.T, dim=1)
