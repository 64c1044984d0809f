"""Models that are fitted at once, and from then on are what any network is.

They see what networks see (the same folds, inputs and covariates) and leave the same files, so that everything which
can be done with a network's run can be done with theirs. What they learn are weights of a linear layer, found from
products between the cases to learn from, with the penalty that is best for people left out.
"""

from abc import abstractmethod
from functools import cached_property
from typing import Any

import numpy as np
import torch

from adnext_plugin.errors import SettingsError
from adnext_plugin.evaluation.studies.kernel_fit import KernelModel, fit_classes, fit_number
from adnext_plugin.memory_shortage import FOR_PREDICTION
from adnext_plugin.networks.with_covariates import WithCovariates
from adnext_plugin.settings import FittedSettings
from adnext_plugin.trainers.labelled import ADNeXtTrainer
from adnext_plugin.training.plan_resolution import COMMAND_LAYERS, Layer
from adnext_plugin.training.predictions import Predictions


class FittedTrainer(ADNeXtTrainer):
    """Subclasses say what a case is to the model, and where in the network its weights go."""

    settings: FittedSettings

    # ------------------------------------------------------------------ what a subclass says

    @abstractmethod
    def products(self) -> np.ndarray:
        """Products between `fitted_cases` of what the model sees of them, (N, N) float64."""

    @abstractmethod
    def set_weights(self, model: KernelModel) -> str:
        """Give the network of images the weights of the model of `fitted_cases`; in words, what of images it sees."""

    # ------------------------------------------------------------------ the life of a run

    @classmethod
    def _with_layer(cls, settings: Any, layer: Layer) -> Any:
        values, where = layer
        if where not in COMMAND_LAYERS:
            # a plan speaks to every trainer; of what it says of rates and epochs nothing is meant for this one
            values = {name: value for name, value in values.items() if name not in cls.settings.means_nothing}
        return super()._with_layer(settings, (values, where))

    def initialize(self) -> None:
        """Build the network whose weights will be set.

        Raises:
            SettingsError: as of any trainer, or there are several processes.
        """
        if self.is_ddp:
            raise SettingsError(f"{type(self).__name__} fits in one process; leave out -num_gpus")
        super().initialize()

    def require_trainable(self) -> None:
        """Nothing goes through the network in batches to be trained on, so that none is too small."""

    def about_run(self) -> list[str]:
        """The stamps; nothing is kept for a gradient, which would need memory."""
        return list(self._stamps())

    def memory_advice(self) -> str:
        """Batches only go through the network, as in prediction."""
        return FOR_PREDICTION

    def run_epoch(self) -> None:
        """Fit, score `selection`, save."""
        self.on_epoch_start()
        fitted = self._fitted
        of_images = self.set_weights(fitted)
        network = self._plain_network()
        if isinstance(network, WithCovariates):
            with torch.no_grad():
                network.covariate_head.weight.copy_(torch.from_numpy(fitted.dual @ self.fitted_covariates))
        self.print_to_log_file(
            f"Fitted on {len(self.fitted_cases)} cases and {self._looked_at(of_images)}; strength "
            f"{fitted.strength:.2g} was best for people left out ({self._chosen_by} {fitted.inner_score:.4g})"
        )
        self._losses = [self._predict(self.do_split()[0]).summary()["loss"]]
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
        """What outputs are relative to, how strong the penalty is, and what was said of `selection` unseen."""
        if self._noted is None:
            fitted = self._fitted
            self._noted = {"strength": fitted.strength, "inner_score": fitted.inner_score}
            if self.settings.learn_from_selection:
                self._noted["selection_outputs"] = self._left_out.tolist()
        return {**super().checkpoint_notes(), **self._noted}

    @property
    def fitted_cases(self) -> list[str]:
        """Those of `train`, and those of `selection` where the settings say so."""
        training, compared_on = self.do_split()
        return sorted([*training, *compared_on]) if self.settings.learn_from_selection else training

    @property
    def fitted_covariates(self) -> np.ndarray:
        """The settings' covariates of `fitted_cases`, (N, L) float64."""
        cases = self.fitted_cases
        covariates = self.covariates(cases) if self.settings.covariates else None
        return np.zeros((len(cases), 0)) if covariates is None else covariates.astype(np.float64)

    # ------------------------------------------------------------------ private

    def _predict(self, cases: list[str]) -> Predictions:
        if self.settings.learn_from_selection and cases and cases == self._data.parts["selection"]:
            return self._predict_selection()
        return super()._predict(cases)

    def _predict_selection(self) -> Predictions:
        """What inner folds say of the cases of `selection` that they left out: thresholds need unseen people."""
        cases = self._data.parts["selection"]
        noted = (self._noted or {}).get("selection_outputs")
        outputs = torch.from_numpy(self._left_out if noted is None else np.array(noted, dtype=np.float64))
        return self._predictions(cases, [{"indices": torch.arange(len(cases)), "outputs": outputs}])

    @property
    def _left_out(self) -> np.ndarray:
        """Outputs for the cases of `selection`, (N, K)."""
        places = {case: place for place, case in enumerate(self.fitted_cases)}
        return self._fitted.left_out[[places[case] for case in self._data.parts["selection"]]]

    @cached_property
    def _fitted(self) -> KernelModel:
        settings, cases = self.settings, self.fitted_cases
        gram, targets = self.products(), self._data.targets(cases)
        people = self._data.rows(cases)["subject_id"].to_numpy()
        if self.task.kind == "regression":
            scale = self._kind.notes()["target_scale"]  # outputs count standard deviations of the training targets
            standardised = (targets - scale["mean"]) / scale["standard_deviation"]
            return fit_number(gram, standardised, people, folds=settings.inner_folds, seed=settings.seed)
        return fit_classes(
            gram,
            targets,
            people,
            classifier=settings.classifier,
            weighting=settings.class_weights,
            folds=settings.inner_folds,
            seed=settings.seed,
        )

    def _looked_at(self, of_images: str) -> str:
        count = len(self.settings.covariates)
        if self.settings.image_weight == 0:
            return f"{count} covariates alone"
        return f"{of_images} and {count} covariates" if count else of_images

    @property
    def _chosen_by(self) -> str:
        return "minus the squared error, in variances" if self.task.kind == "regression" else "minus the log loss"
