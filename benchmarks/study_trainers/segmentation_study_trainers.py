"""Trainers of `segmentation_hippocampus.py`: nnU-Net's own at equal length, and pre-training that saves once."""

import json
import os
from pathlib import Path

import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from adnext_plugin.trainers.segmentation.cases import take_cases
from adnext_plugin.trainers.variants.amaes import TRAINERS

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

    def on_train_end(self) -> None:
        self.inference_allowed_mirroring_axes = None
        super().on_train_end()

    def do_split(self) -> tuple[list[str], list[str]]:
        training, held_out = super().do_split()
        count = self.study.get("n_train") or len(training)
        return take_cases(training, count, self.study.get("seed", 42)), held_out


class _SavedOnce:
    """Writes its last state alone: epochs of a second are shorter than what it takes to write one."""

    def save_checkpoint(self, filename: str) -> None:
        if Path(filename).name == "checkpoint_final.pth":
            super().save_checkpoint(filename)  # type: ignore[misc]


class AMAESOfStudy_UNetB(_SavedOnce, TRAINERS["ADNeXtAMAESTrainer_UNetB"]):  # type: ignore[misc]
    """`ADNeXtAMAESTrainer_UNetB`."""


class AMAESOfStudy_MedNeXtM(_SavedOnce, TRAINERS["ADNeXtAMAESTrainer_MedNeXtM"]):  # type: ignore[misc]
    """`ADNeXtAMAESTrainer_MedNeXtM`."""
