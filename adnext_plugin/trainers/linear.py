"""Linear models of voxels as trainers: fitted at once, and from then on what any network is.

They see what networks see (the same folds, inputs and covariates) and leave the same files, so that everything which
can be done with a network's run can be done with theirs. Of a scan they are weighted sums of voxels, which the network
`linear` computes, so that prediction and explanation know nothing of kernels.

Sources: Samper-González et al. 2018, NeuroImage 183:504, and Bron et al. 2021, NeuroImage: Clinical 31:102712, hold
such models against networks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch

from adnext_plugin.errors import SettingsError, UnknownNameError, nearest_names
from adnext_plugin.evaluation.studies.kernel_fit import KernelModel, fit_classes, fit_number
from adnext_plugin.evaluation.studies.smoothing import Smoothing
from adnext_plugin.networks.families.linear import VoxelMask, VoxelWeights
from adnext_plugin.networks.with_covariates import WithCovariates, network_of_images
from adnext_plugin.paths import REGION_VOLUME
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.settings import OF_DESCENT, LinearSettings
from adnext_plugin.trainers.labelled import ADNeXtTrainer
from adnext_plugin.trainers.linear_fit import VoxelKernel, VoxelModel, mask_of
from adnext_plugin.training.plan_resolution import COMMAND_LAYERS, Layer
from adnext_plugin.training.predictions import Predictions

# of an image's regions, those with which Alzheimer's disease is told best on few people
REGIONS_OF_AD = tuple(f"hippocampus_{side}_fluid{REGION_VOLUME}" for side in ("left", "right"))


class ADNeXtLinearTrainer(ADNeXtTrainer):
    """L2-penalised logistic regression of smoothed voxels, or ridge regression of a number."""

    settings: LinearSettings = LinearSettings()
    network_settings = NetworkSettings(name="linear")
    takes_network_options = False

    @classmethod
    def _with_layer(cls, settings: Any, layer: Layer) -> Any:
        values, where = layer
        if where not in COMMAND_LAYERS:
            # a plan speaks to every trainer; of what it says of rates and epochs nothing is meant for this one
            values = {name: value for name, value in values.items() if name not in OF_DESCENT}
        return super()._with_layer(settings, (values, where))

    def initialize(self) -> None:
        """Build the network whose weights will be set.

        Raises:
            SettingsError: as of any trainer, or there are several processes.
            UnknownNameError: the settings name a channel that there is not.
        """
        self._require_channels()
        if self.is_ddp:
            raise SettingsError(f"{type(self).__name__} fits in one process; leave out -num_gpus")
        super().initialize()

    def run_epoch(self) -> None:
        """Fit, score `selection`, save."""
        self.on_epoch_start()
        fitted, voxels = self._fitted
        self._set_weights(voxels)
        self.print_to_log_file(
            f"Fitted on {len(self._fitted_cases)} cases and {self._looked_at(voxels)}; strength "
            f"{fitted.strength:.2g} was best for people left out ({self._chosen_by} {fitted.inner_score:.4g})"
        )
        loss = self._predict(self.do_split()[0]).summary()["loss"]
        self.logger.log("train_losses", float(loss), self.current_epoch)
        self.logger.log("lrs", 0.0, self.current_epoch)
        with torch.no_grad():
            self.on_validation_epoch_start()
            steps = range(self.num_val_iterations_per_epoch)
            self.on_validation_epoch_end([self.validation_step(next(self.dataloader_val)) for _ in steps])
        self.on_epoch_end()

    def epoch_scores(self, outputs: list[dict]) -> dict[str, float]:
        """Of `selection`, by models that have not seen it."""
        if self.settings.learn_from_selection:
            return dict(self._predict_selection().summary())
        return super().epoch_scores(outputs)

    def checkpoint_notes(self) -> dict:
        """What outputs are relative to, and how strong the penalty is."""
        fitted, _ = self._fitted
        return {**super().checkpoint_notes(), "strength": fitted.strength, "inner_score": fitted.inner_score}

    # ------------------------------------------------------------------ private

    def _predict(self, cases: list[str]) -> Predictions:
        if self.settings.learn_from_selection and cases and cases == self._data.parts["selection"]:
            return self._predict_selection()
        return super()._predict(cases)

    def _predict_selection(self) -> Predictions:
        """What inner folds say of the cases of `selection` that they left out: thresholds need unseen people."""
        fitted, _ = self._fitted
        cases = self._data.parts["selection"]
        rows = [self._fitted_cases.index(case) for case in cases]
        outputs = torch.from_numpy(fitted.left_out[rows])
        return self._predictions(cases, [{"indices": torch.arange(len(cases)), "outputs": outputs}])

    @property
    def _fitted_cases(self) -> list[str]:
        training, compared_on = self.do_split()
        return sorted([*training, *compared_on]) if self.settings.learn_from_selection else training

    @cached_property
    def _fitted(self) -> tuple[KernelModel, VoxelModel]:
        """The model; again of the same data in a process that only judges a finished run."""
        settings, cases = self.settings, self._fitted_cases
        covariates = self.covariates(cases)
        kernel = VoxelKernel(
            self._images,
            cases,
            mask_of(self._images, cases, settings.mask_share, self._channels),
            Smoothing.of(settings.smoothing_mm, self.plan.preprocessing.spacing_mm),
            np.zeros((len(cases), 0)) if covariates is None else covariates,
            settings.image_weight,
        )
        gram, targets = kernel.gram(), self._data.targets(cases)
        people = self._data.rows(cases)["subject_id"].to_numpy()
        if self.task.kind == "regression":
            scale = self._kind.notes()["target_scale"]  # outputs count standard deviations of the training targets
            standardised = (targets - scale["mean"]) / scale["standard_deviation"]
            fitted = fit_number(gram, standardised, people, folds=settings.inner_folds, seed=settings.seed)
        else:
            fitted = fit_classes(
                gram,
                targets,
                people,
                classifier=settings.classifier,
                weighting=settings.class_weights,
                folds=settings.inner_folds,
                seed=settings.seed,
            )
        return fitted, kernel.weights(fitted)

    def _images(self, cases: Sequence[str]) -> Iterator[np.ndarray]:
        for batch in self._loader(list(cases)).batches(epoch=0):
            yield from batch.images.numpy()

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

    def _looked_at(self, voxels: VoxelModel) -> str:
        count = len(self.settings.covariates)
        if self.settings.image_weight == 0:
            return f"{count} covariates alone"
        seen = f"{int(voxels.mask_czyx.sum())} voxels"
        return f"{seen} and {count} covariates" if count else seen

    @property
    def _chosen_by(self) -> str:
        return "minus the squared error, in variances" if self.task.kind == "regression" else "minus the log loss"

    def _set_weights(self, voxels: VoxelModel) -> None:
        network = self._plain_network()
        images = network_of_images(network)
        mask, weights = cast(VoxelMask, images.encoder), cast(VoxelWeights, images.head)
        with torch.no_grad():
            mask.mask.copy_(torch.from_numpy(voxels.mask_czyx))
            weights.weight.copy_(torch.from_numpy(voxels.weights_kczyx))
            weights.bias.copy_(torch.from_numpy(voxels.offset))
            if isinstance(network, WithCovariates):
                network.covariate_head.weight.copy_(torch.from_numpy(voxels.covariate_weights))


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
