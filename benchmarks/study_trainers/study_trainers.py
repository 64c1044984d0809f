"""Levers of the study of recipes that are more than settings. `nnUNet_extTrainer` leads nnU-Net to this folder."""

from dataclasses import replace

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from adnext_plugin.trainers.small import ADNeXtTrainer_T_Small

MIXUP_BETA = 0.4
LABEL_SMOOTHING = 0.1
AVERAGE_DECAY = 0.98  # per step: over about two epochs of 27 steps


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


class ADNeXtTrainer_T_FromAge(ADNeXtTrainer_T_Small):
    """Only the head learns, on an encoder that knows about age: --set pretrained_weights=FILE (brain_age.py)."""

    settings = replace(ADNeXtTrainer_T_Small.settings, layer_decay=0.0)


class ADNeXtTrainer_T_FromAgeOfFold(ADNeXtTrainer_T_FromAge):
    """The head is told age and sex as well: what counts is how much older a brain looks than it is."""

    settings = replace(ADNeXtTrainer_T_FromAge.settings, covariates=("age", "sex"))
