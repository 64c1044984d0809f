"""Linear models of voxels as trainers.

Of a scan they are weighted sums of voxels, which the network `linear` computes, so that prediction and explanation know
nothing of kernels.

Sources: Samper-González et al. 2018, NeuroImage 183:504, and Bron et al. 2021, NeuroImage: Clinical 31:102712, hold
such models against networks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import cast

import numpy as np
import torch

from adnext_plugin.errors import SettingsError, UnknownNameError, nearest_names
from adnext_plugin.evaluation.studies.kernel_fit import KernelModel
from adnext_plugin.evaluation.studies.smoothing import Smoothing
from adnext_plugin.networks.families.linear import VoxelMask, VoxelWeights
from adnext_plugin.paths import REGION_VOLUME
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.settings import LinearSettings
from adnext_plugin.trainers.fitted import FittedTrainer
from adnext_plugin.trainers.linear_fit import VoxelKernel, mask_of

# of an image's regions, those with which Alzheimer's disease is told best on few people
REGIONS_OF_AD = tuple(f"hippocampus_{side}_fluid{REGION_VOLUME}" for side in ("left", "right"))


class ADNeXtLinearTrainer(FittedTrainer):
    """L2-penalised logistic regression of smoothed voxels, or ridge regression of a number."""

    settings: LinearSettings = LinearSettings()
    network_settings = NetworkSettings(name="linear")
    takes_network_options = False

    def initialize(self) -> None:
        """Build the network whose weights will be set.

        Raises:
            SettingsError: as of any model that is fitted at once.
            UnknownNameError: the settings name a channel that there is not.
        """
        self._require_channels()
        super().initialize()

    def products(self) -> np.ndarray:
        """Of smoothed voxels and covariates."""
        return self._kernel.gram()

    def set_weights(self, model: KernelModel) -> str:
        """Voxels get weights inside the mask; how many those are."""
        voxels, images = self._kernel.weights(model), self.network_of_images()
        mask, weights = cast(VoxelMask, images.encoder), cast(VoxelWeights, images.head)
        with torch.no_grad():
            mask.mask.copy_(torch.from_numpy(voxels.mask_czyx))
            weights.weight.copy_(torch.from_numpy(voxels.weights_kczyx))
            weights.bias.copy_(torch.from_numpy(voxels.offset))
        return f"{int(voxels.mask_czyx.sum())} voxels"

    # ------------------------------------------------------------------ private

    @cached_property
    def _kernel(self) -> VoxelKernel:
        settings, cases = self.settings, self.fitted_cases
        return VoxelKernel(
            self._images,
            cases,
            mask_of(self._images, cases, settings.mask_share, self._channels),
            Smoothing.of(settings.smoothing_mm, self.plan.preprocessing.spacing_mm),
            self.fitted_covariates,
            settings.image_weight,
        )

    def _images(self, cases: Sequence[str]) -> Iterator[np.ndarray]:
        for batch in self._loader(list(cases)).batches(epoch=0):
            yield from batch.images.cpu().numpy()  # of volumes that are kept on a GPU

    def _require_channels(self) -> None:
        for name in self.settings.channels:
            if name not in self.channel_names:
                near = nearest_names(name, self.channel_names)
                raise UnknownNameError(f"channels: the dataset has no channel {name!r}{near}")

    @property
    def _channels(self) -> list[int]:
        """Places of the channels that are looked at."""
        wanted = self.settings.channels or self.channel_names
        return [place for place, name in enumerate(self.channel_names) if name in wanted]


class ADNeXtLinearSVMTrainer(ADNeXtLinearTrainer):
    """A linear support vector machine of smoothed voxels, with Platt's probabilities."""

    settings = replace(ADNeXtLinearTrainer.settings, classifier="svm")


class ADNeXtRegionsTrainer(ADNeXtLinearTrainer):
    """L2-penalised logistic or ridge regression of age, sex and what `adnext_regions` measured; images say nothing.

    Fluid where hippocampi should be says most of Alzheimer's disease at 2 mm, and with a hundred people more columns
    cost more than they say (docs/anatomy.md).
    """

    settings = replace(
        ADNeXtLinearTrainer.settings,
        covariates=("age", "sex", *REGIONS_OF_AD),
        image_weight=0.0,
        learn_from_selection=True,
    )

    def initialize(self) -> None:
        """Build the model.

        Raises:
            SettingsError: as of any linear model, or regions have not been measured.
        """
        missing = [name for name in self.settings.covariates if name not in self._data.subjects]
        if missing:
            raise SettingsError(
                f"covariates: subjects.csv has no column {missing[0]!r}; run adnext_regions -d "
                f"{self._data.dataset_folder.name}, or name other columns: --set 'covariates=[...]'"
            )
        super().initialize()
