"""Linear models of what a frozen encoder makes of scans: linear probes that are networks like any other.

A hundred people who have a diagnosis are too few to move the millions of weights that a pre-training has found, and
descent by gradients is a poor way to the few of a last layer: its answer depends on rate, epochs and order. Here the
last layer is the optimum of a penalised logistic or ridge regression, and the same whenever it is fitted.

Where the encoder was taught by the objective `proxy`, a model may be confined to what it tells of some columns, such as
volumes of the hippocampus: two numbers instead of hundreds of features. As all of this is linear, the network that
comes out is the plan's own, with another last layer.

Sources: Alain and Bengio 2016, arXiv:1610.01644 (linear probes); Koh et al. 2020, arXiv:2007.04612 (what was told as a
bottleneck).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import nn

from adnext_plugin.errors import SettingsError, UnknownNameError, WeightsError, nearest_names
from adnext_plugin.evaluation.studies.kernel_fit import KernelModel
from adnext_plugin.networks.features import feature_layer
from adnext_plugin.pretraining.proxy.options import ProxyOptions
from adnext_plugin.records import from_json
from adnext_plugin.settings import ProbeSettings
from adnext_plugin.trainers.fitted import FittedTrainer
from adnext_plugin.training.checkpoint_notes import find_notes
from adnext_plugin.training.weights import read_checkpoint


@dataclass(frozen=True, kw_only=True, eq=False)
class Standardised:
    """What a model sees of cases, `values` (N, P), as `weight @ features + bias`, with `weight` (P, D)."""

    values: np.ndarray
    weight: np.ndarray
    bias: np.ndarray


class ADNeXtProbeTrainer(FittedTrainer):
    """L2-penalised logistic or ridge regression of the features of the plan's network, whose encoder stays as it is."""

    settings: ProbeSettings = ProbeSettings()

    def on_train_start(self) -> None:
        """Take over the encoder.

        Raises:
            SettingsError: there are no weights to begin with, or the network does not end in one linear layer.
            WeightsError: they were not taught by `proxy`.
            UnknownNameError: they were not taught what the model is to be confined to.
        """
        if self.settings.pretrained_weights is None:
            raise SettingsError(
                f"{type(self).__name__} reads the features of an encoder that has learned something; name its "
                "checkpoint: -pretrained_weights FILE"
            )
        begins_confined = bool(self.settings.bottleneck) and self.current_epoch == 0
        if begins_confined:
            self._rows_told()
        super().on_train_start()
        if begins_confined:
            self._take_over_norms()

    def require_trainable(self) -> None:
        """Refuse a network without the layer that is fitted.

        Raises:
            SettingsError: it does not end in one linear layer.
        """
        super().require_trainable()
        _ = self._layer

    def products(self) -> np.ndarray:
        """Of features, or of what was told of columns, and of covariates."""
        values, covariates = self._seen.values, self.fitted_covariates
        return values @ values.T + covariates @ covariates.T

    def set_weights(self, model: KernelModel) -> str:
        """The last layer gets the weights."""
        seen = self._seen
        coefficients = model.dual @ seen.values
        with torch.no_grad():
            self._layer.weight.copy_(torch.from_numpy(coefficients @ seen.weight))
            self._layer.bias.copy_(torch.from_numpy(model.offset + coefficients @ seen.bias))
        if self.settings.bottleneck:
            return f"what the encoder tells of {', '.join(self.settings.bottleneck)}"
        return f"{seen.weight.shape[1]} features"

    # ------------------------------------------------------------------ private

    @cached_property
    def _seen(self) -> Standardised:
        """Of `fitted_cases`; in deviations of the training cases."""
        cases, training = self.fitted_cases, set(self.do_split()[0])
        features = self._features(cases)
        width = features.shape[1]
        weight, bias = self._told if self.settings.bottleneck else (np.eye(width), np.zeros(width))
        values = features @ weight.T + bias
        of_training = values[[case in training for case in cases]]
        means, deviations = of_training.mean(axis=0), of_training.std(axis=0)
        # all features together count as much as a covariate, and so does each column that is told
        share = self.settings.image_weight / (1 if self.settings.bottleneck else width)
        scale = np.sqrt(share) / np.where(deviations > 0, deviations, 1.0)
        return Standardised(
            values=(values - means) * scale, weight=scale[:, None] * weight, bias=scale * (bias - means)
        )

    @torch.no_grad()
    def _features(self, cases: list[str]) -> np.ndarray:
        """What the last layer is given of each case, (N, D) float64."""
        network, layer = self.network_of_images().eval(), self._layer
        is_told = bool(getattr(network, "columns", ()))
        given: list[torch.Tensor] = []
        found = []
        hook = layer.register_forward_pre_hook(lambda _, inputs: given.append(inputs[0].float()))
        try:
            for batch in self._loader(cases).batches(epoch=0):
                batch = batch.to(self.device)
                with self.arithmetic():
                    outputs = network(batch.images, batch.covariates) if is_told else network(batch.images)
                # what is averaged after the last layer, as answers for a scan and its mirror image, may be so before it
                rows = torch.stack([one.reshape(len(outputs), -1, one.shape[-1]).mean(dim=1) for one in given]).mean(0)
                given.clear()
                own = rows @ layer.weight.float().T + layer.bias.float()
                if own.shape != outputs.shape or not torch.allclose(own, outputs.float(), rtol=1e-2, atol=1e-2):
                    raise self._no_last_layer()
                found.append(rows.cpu())
        finally:
            hook.remove()
        return torch.cat(found).double().numpy()

    @property
    def _layer(self) -> nn.Linear:
        layer = feature_layer(self.network_of_images())
        if layer is None or layer.bias is None:
            raise self._no_last_layer()
        return layer

    def _no_last_layer(self) -> SettingsError:
        return SettingsError(
            f"network {self.plan.network.name} does not end in one linear layer, which is what {type(self).__name__} "
            "fits; choose another network, or train with layer_decay=0"
        )

    def _take_over_norms(self) -> None:
        """What lies between the encoder and the last layer is part of what was told."""
        network, saved = self.network_of_images(), self._first["network_weights"]
        own, last = network.state_dict(), f"{self._name_of_layer}."
        # of a network that ends in two layers, which is refused later, the other one does not fit either
        fitting = [name for name in own if name in saved and saved[name].shape == own[name].shape]
        network.load_state_dict({**own, **{name: saved[name] for name in fitting if not name.startswith(last)}})

    @cached_property
    def _first(self) -> dict:
        path = self._first_weights()
        assert path is not None
        return read_checkpoint(path)  # on the CPU: it is asked once, and would take memory of a GPU to the end

    @property
    def _name_of_layer(self) -> str:
        layer = self._layer
        return next(name for name, module in self.network_of_images().named_modules() if module is layer)

    @property
    def _told(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights (P, D) and biases (P,) by which the first weights' last layer tells the bottleneck's columns."""
        rows, tensors = self._rows_told(), self._first["network_weights"]
        weight, bias = (tensors[f"{self._name_of_layer}.{kind}"].cpu().double().numpy() for kind in ("weight", "bias"))
        return weight[rows], bias[rows]

    def _rows_told(self) -> np.ndarray:
        """Which outputs of the first weights' network are of the columns of the bottleneck.

        Raises:
            WeightsError: they were not taught by `proxy`.
            UnknownNameError: they were not taught one of the columns.
        """
        notes = find_notes(self._first, str(self._first_weights()))
        settings = {} if notes is None else notes.settings
        if settings.get("objective") != "proxy":
            raise WeightsError(
                f"{self._first_weights()} was not taught by the objective proxy, so that it tells nothing of "
                f"{self.settings.bottleneck[0]!r}; leave bottleneck out, or give weights of an ADNeXtProxyTrainer"
            )
        options = from_json(ProxyOptions, settings["options"], f"{self._first_weights()}, options")
        ends = np.cumsum(options.outputs)
        places = dict(zip(options.columns, zip(ends - options.outputs, ends, strict=True), strict=True))
        for name in self.settings.bottleneck:
            if name not in places:
                near = nearest_names(name, places)
                raise UnknownNameError(f"bottleneck: {self._first_weights()} tells nothing of {name!r}{near}")
        return np.concatenate([np.arange(*places[name]) for name in self.settings.bottleneck])
