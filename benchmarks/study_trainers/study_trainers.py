"""Levers of the study of recipes that are more than settings. `nnUNet_extTrainer` leads nnU-Net to this folder."""

from dataclasses import replace
from functools import cached_property

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from adnext_plugin.networks.families.adnext import ClassificationHead, initialise
from adnext_plugin.plan import Plan
from adnext_plugin.trainers.variants.small import ADNeXtTrainer_T_Small
from adnext_plugin.training.covariates import CovariateScale

MIXUP_BETA = 0.4
LABEL_SMOOTHING = 0.1
AVERAGE_DECAY = 0.98  # per step: over about two epochs of 27 steps
AUXILIARY = ("age", "sex")
AUXILIARY_WEIGHT = 0.5


class ADNeXtTrainer_T_Mixup(ADNeXtTrainer_T_Small):
    """Every scan is blended with another, and so are their answers. Source: Zhang et al. 2018."""

    def batch_loss(self, batch) -> torch.Tensor:
        share = float(torch.distributions.Beta(MIXUP_BETA, MIXUP_BETA).sample())
        other = torch.randperm(len(batch.images), device=batch.images.device)
        outputs = self.network(share * batch.images + (1 - share) * batch.images[other])
        return share * self.loss(outputs, batch.targets) + (1 - share) * self.loss(outputs, batch.targets[other])


class ADNeXtTrainer_T_Smoothed(ADNeXtTrainer_T_Small):
    """Wrong classes get a share of the answer."""

    def build_loss(self, training_targets):
        loss = super().build_loss(training_targets)
        return nn.CrossEntropyLoss(weight=loss.weight, label_smoothing=LABEL_SMOOTHING)


class ADNeXtTrainer_T_Averaged(ADNeXtTrainer_T_Small):
    """Scored with a running average of the weights. It cannot be resumed: the average is not saved."""

    def train_step(self, batch) -> dict:
        if not hasattr(self, "_average"):
            average = get_ema_multi_avg_fn(AVERAGE_DECAY)
            self._average = AveragedModel(self.network, multi_avg_fn=average, use_buffers=True)
        result = super().train_step(batch)
        self._average.update_parameters(self.network)
        return result

    def on_validation_epoch_start(self) -> None:
        self._trained = self.network
        self.network = self._average.module
        super().on_validation_epoch_start()

    def on_epoch_end(self) -> None:
        super().on_epoch_end()
        self.network = self._trained


class MeanAndMaxHead(ClassificationHead):
    """Mean and maximum over space."""

    def __init__(self, width: int, num_outputs: int) -> None:
        super().__init__(2 * width, num_outputs, "batch")

    def pool(self, x_bzyxc: torch.Tensor) -> torch.Tensor:
        return torch.cat((super().pool(x_bzyxc), x_bzyxc.amax(dim=(1, 2, 3))), dim=1)


class AttentionHead(ClassificationHead):
    """A mean over space weighted by a learned score of each token. Source: Ilse, Tomczak and Welling 2018, eq. 7."""

    def __init__(self, width: int, num_outputs: int) -> None:
        super().__init__(width, num_outputs, "batch")
        self.score = nn.Linear(width, 1)

    def pool(self, x_bzyxc: torch.Tensor) -> torch.Tensor:
        tokens_bnc = x_bzyxc.flatten(1, 3)
        return (self.score(tokens_bnc).softmax(dim=1) * tokens_bnc).sum(dim=1)


class AuxiliaryHead(ClassificationHead):
    """In training the head tells age and sex, too, standardised: (B, outputs + 2)."""

    def __init__(self, width: int, num_outputs: int) -> None:
        super().__init__(width, num_outputs + len(AUXILIARY), "batch")

    def forward(self, x_bzyxc: torch.Tensor) -> torch.Tensor:
        outputs = super().forward(x_bzyxc)
        return outputs if self.training else outputs[:, : -len(AUXILIARY)]


class OtherHead(ADNeXtTrainer_T_Small):
    """The same encoder under another head."""

    head: type[ClassificationHead]

    @classmethod
    def build_network(cls, plan: Plan, in_channels: int) -> nn.Module:
        network = super().build_network(plan, in_channels)
        linear = network.head.seg_layers[-1]
        network.head = cls.head(linear.in_features, linear.out_features)
        initialise(network.head, "fan_in")
        return network


class ADNeXtTrainer_T_MeanMax(OtherHead):
    head = MeanAndMaxHead


class ADNeXtTrainer_T_Attention(OtherHead):
    head = AttentionHead


class ADNeXtTrainer_T_Auxiliary(OtherHead):
    """Learns age and sex of the training people beside the task."""

    head = AuxiliaryHead

    @cached_property
    def _auxiliary(self) -> torch.Tensor:
        rows = self._data.rows(self.do_split()[0])
        return torch.from_numpy(CovariateScale.of(rows, AUXILIARY, self.task).apply(rows)).to(self.device)

    def compute_loss(self, outputs: torch.Tensor, batch) -> torch.Tensor:
        outputs, auxiliary = outputs[:, : -len(AUXILIARY)], outputs[:, -len(AUXILIARY) :]
        error = nn.functional.mse_loss(auxiliary.float(), self._auxiliary[batch.indices])
        return super().compute_loss(outputs, batch) + AUXILIARY_WEIGHT * error


class ADNeXtTrainer_T_FromAge(ADNeXtTrainer_T_Small):
    """Only the head learns, on an encoder that knows about age: --set pretrained_weights=FILE (brain_age.py)."""

    settings = replace(ADNeXtTrainer_T_Small.settings, layer_decay=0.0)


class ADNeXtTrainer_T_FromAgeOfFold(ADNeXtTrainer_T_FromAge):
    """The head is told age and sex as well: what counts is how much older a brain looks than it is."""

    settings = replace(ADNeXtTrainer_T_FromAge.settings, covariates=("age", "sex"))
