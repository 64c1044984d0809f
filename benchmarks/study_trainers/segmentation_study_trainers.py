"""nnU-Net's own trainer, as long and on as few cases as the others of `segmentation_hippocampus.py`."""

import json
import os

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from adnext_plugin.trainers.segmentation.cases import take_cases

STUDY = "ADNEXT_SEGMENTATION_STUDY"  # environment variable: numbers of the study, as JSON


class StockOfStudy(nnUNetTrainer):
    """`nnUNetTrainer` with other numbers of steps and cases, and predictions that are not mirrored."""

    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008  nnU-Net's signature
    ) -> None:
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.study = json.loads(os.environ.get(STUDY, "{}"))
        self.num_epochs = self.study.get("epochs", 10)
        self.num_iterations_per_epoch = self.study.get("steps_per_epoch", 250)
        self.num_val_iterations_per_epoch = self.study.get("validation_steps", 50)
        self.save_every = 1

    def on_train_end(self) -> None:
        self.inference_allowed_mirroring_axes = None
        super().on_train_end()

    def do_split(self) -> tuple[list[str], list[str]]:
        training, held_out = super().do_split()
        return take_cases(training, self.study.get("n_train", len(training)), self.study.get("seed", 42)), held_out
