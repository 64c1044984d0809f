"""What cannot be trained is refused while a finished run still lies where it was."""

import json
from pathlib import Path

import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args

from adnext_plugin.errors import AdnextError
from adnext_plugin.networks.build import build_network
from adnext_plugin.paths import FITTED_STEPS_FILE, hook_dir
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.trainers.labelled import ADNeXtTrainer
from adnext_plugin.trainers.lifecycle import RunTrainer

DATASET = "Dataset301_Toy"
FINISHED = ("checkpoint_final.pth", "checkpoint_best.pth", FITTED_STEPS_FILE, "validation/summary.json")
REFUSED = {
    "a batch that a head cannot normalise over": ("ADNeXtTrainer_T_Small", {"batch_size": 1}, "batch_size 1"),
    "parts of one case": (
        "ADNeXtTrainer_T_Small",
        {"batch_size": 4, "accumulate": 4},
        "at most 2, or batch_size at least 8",
    ),
    "a last part of one case": (
        "ADNeXtTrainer_T_Small",
        {"batch_size": 3, "accumulate": 2},
        "at most 1, or batch_size",
    ),
    "parts of the only batch": ("ADNeXtTrainer_T_Small", {"batch_size": 50, "accumulate": 5}, "of 8 .* at most 4$"),
    "no blocks to compute again": ("ADNeXtTrainer_T", {"recompute": True}, "no parts that it can compute"),
    "the target among covariates": ("ADNeXtTrainer_T", {"covariates": ["diagnosis"]}, "gives the target"),
    "a cut larger than the volumes": ("ADNeXtTrainer_T", {"crop_voxels": [64, 32, 32]}, "is larger than"),
    "first weights of another network": ("ADNeXtTrainer_S", {"pretrained_weights": "FIRST"}, "FIRST"),
    "a model without such a channel": ("ADNeXtLinearTrainer", {"channels": ["FLAIR"]}, "no channel 'FLAIR'"),
    "a model of a column that is not there": ("ADNeXtLinearTrainer", {"covariates": ["weight"]}, "no column 'weight'"),
    "parts of a loss among scans": ("ADNeXtContrastiveTrainer_T", {"accumulate": 2}, "can therefore not be cut"),
    "an objective that does not know a column": ("ADNeXtProxyTrainer", {"numbers": ["weight"]}, "'weight'"),
}


def _trainer(monkeypatch: pytest.MonkeyPatch, name: str, **settings) -> RunTrainer:
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({"epochs": 1, "warmup_epochs": 0, **settings}))
    return get_trainer_from_args(DATASET, "3d_fullres", 0, name, "ADNeXtPlans", False, torch.device("cpu"))


def _finished(trainer: RunTrainer) -> dict[Path, bytes]:
    """Files of a finished run in the trainer's folder, and what is in them."""
    folder = Path(trainer.output_folder)
    for name in FINISHED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"{name} of a finished run")
    (folder.parent / "plans.json").write_text("{}")
    return _files(folder.parent)


def _files(run: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.suffix != ".txt"}


@pytest.mark.parametrize("what", REFUSED)
def test_a_refused_command_leaves_a_finished_run_where_it_was(toy, monkeypatch, what: str) -> None:
    name, settings, said = REFUSED[what]
    other = build_network(NetworkSettings(name="resnet10"), 1, 2, (32, 32, 32))
    if "recompute" in settings:
        monkeypatch.setattr(ADNeXtTrainer, "build_network", classmethod(lambda *_: other))
    if "pretrained_weights" in settings:
        first = toy.results / "FIRST.pth"
        torch.save({"network_weights": other.state_dict()}, first)
        settings = {"pretrained_weights": str(first)}
    trainer = _trainer(monkeypatch, name, **settings)
    before = _finished(trainer)
    with pytest.raises(AdnextError, match=said):
        trainer.on_train_start()
    assert _files(Path(trainer.output_folder).parent) == before


@pytest.mark.parametrize("name", ["ADNeXtTrainer_T", "ADNeXtLinearTrainer", "ADNeXtContrastiveTrainer_T"])
def test_what_can_be_trained_sets_a_finished_run_aside(toy, monkeypatch, name: str) -> None:
    trainer = _trainer(monkeypatch, name)
    before, folder = _finished(trainer), Path(trainer.output_folder)
    trainer.on_train_start()
    (aside,) = folder.glob("earlier_run_*")
    assert all((aside / one).read_bytes() == before[folder / one] for one in FINISHED)
    assert not any((folder / one).exists() for one in FINISHED)
