"""Whatever an encoder is pre-trained to do: it learns, resumes to the bit, hands on, and is compared with guesses."""

import json
import math
import shutil
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Workspace, empty_workspace, write_cohort

from adnext_plugin.cli import import_dataset, plan_and_preprocess
from adnext_plugin.errors import OtherDataError, SettingsError
from adnext_plugin.files import read_json
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.families import swin_unetr
from adnext_plugin.plan import NetworkSettings, Plan, PreprocessingSettings
from adnext_plugin.pretraining.objective import find_objective, objective_of
from adnext_plugin.registry import OBJECTIVES
from adnext_plugin.settings import PretrainingSettings
from adnext_plugin.trainers.self_supervised import SelfSupervisedTrainer
from adnext_plugin.training.weights import load_encoder, read_checkpoint

DATASET = "Dataset305_Tiny"
SIZE = (64, 32, 32)  # two whole patches of 32³
TINY_ADNEXT = NetworkSettings(name="adnext_t", options={"init": "fan_in"})

TINY_VIT = NetworkSettings(name="vit_small_mim", options={"width": 24, "mlp_width": 32, "depth": 2, "num_heads": 2})


@dataclass(frozen=True)
class Tiny:
    """How an objective is made small: its network, and what differs from the settings of its paper."""

    network: NetworkSettings = TINY_ADNEXT
    settings: dict[str, Any] = field(default_factory=dict)
    columns: list[str] = field(default_factory=list)  # of subjects.csv that it reads


FCMAE = {"mask_ratio": 0.5, "decoder_width": 16, "sparse_convolution": ["halo"] * 4}
# every objective of this project has a row
TINY = {
    "amaes": Tiny(settings={"options": {"token_voxels": 8}}),
    "contrastive": Tiny(
        settings={"options": {"categories": ["sex"], "projector_widths": [16, 8]}}, columns=["age", "sex"]
    ),
    "fcmae": Tiny(settings={"options": FCMAE}),
    "hybrid": Tiny(settings={"options": {"masked_options": FCMAE, "projector_widths": [16, 8]}}, columns=["age"]),
    "mae": Tiny(
        TINY_VIT,
        {"options": {"decoder_width": 24, "decoder_mlp_width": 32, "decoder_depth": 1, "decoder_heads": 2}},
    ),
    "proxy": Tiny(columns=["age", "sex"]),
    "simmim": Tiny(TINY_VIT),
    "swinunetr": Tiny(NetworkSettings(name="swin_unetr_48"), {"options": {"plane": "yx"}}),
}


def test_every_objective_has_a_row_here() -> None:
    ours = {entry.name for entry in entry_points(group=OBJECTIVES) if entry.module.startswith("adnext_plugin.")}
    assert set(TINY) == ours


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Twelve toy people of known age and sex, as inputs of 64 × 32 × 32 voxels."""
    workspace = empty_workspace(tmp_path_factory.mktemp("tiny"))
    table = write_cohort(workspace.source, subjects=12)
    preset = workspace.source / "preset.json"
    preset.write_text(json.dumps({"preprocessing": {"input_size_voxels": SIZE, "spacing_mm": [2.5] * 3}}))
    with pytest.MonkeyPatch.context() as monkeypatch:
        workspace.use(monkeypatch)
        assert import_dataset.main(["305", "Tiny", "--table", str(table), "--target", "diagnosis", "-np", "1"]) == 0
        assert plan_and_preprocess.main(["-d", "305", "-np", "1", "--preset", str(preset)]) == 0
    return workspace


@pytest.fixture
def tiny(prepared: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Those people, in use, with a results folder of its own."""
    workspace = replace(prepared, results=tmp_path / "results")
    workspace.results.mkdir()
    workspace.use(monkeypatch)
    return workspace


def _trainer(
    workspace: Workspace, name: str, network: NetworkSettings | None = None, **changes: Any
) -> SelfSupervisedTrainer:
    small = TINY[name]
    settings = replace(
        find_objective(name).settings, **{"epochs": 2, "batch_size": 3, "warmup_epochs": 0, **small.settings, **changes}
    )
    network = network or small.network
    kind = type("TinyTrainer", (SelfSupervisedTrainer,), {"settings": settings, "network_settings": network})
    folder = workspace.preprocessed / DATASET
    plans, dataset = read_json(folder / "ADNeXtPlans.json"), read_json(folder / "dataset.json")
    trainer = kind(plans=plans, configuration="3d_fullres", fold=0, dataset_json=dataset, device=torch.device("cpu"))
    trainer.initialize()
    return trainer


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "checkpoint_final.pth")["network_weights"]


@pytest.mark.parametrize("name", TINY)
def test_an_objective_learns_resumes_to_the_bit_hands_on_and_is_compared(
    tiny: Workspace, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # of which there are no options, as 48 and 7 are the published network's, which takes minutes
    monkeypatch.setattr(swin_unetr, "WIDTH", 12)
    monkeypatch.setattr(swin_unetr, "WINDOW", 4)
    straight = _trainer(tiny, name)
    first = {key: tensor.clone() for key, tensor in straight.network.encoder.state_dict().items()}
    straight.run_training()
    straight.perform_actual_validation()
    folder = Path(straight.output_folder)
    expected = _weights(folder)
    assert any(not torch.equal(expected[f"encoder.{key}"], tensor) for key, tensor in first.items())

    # the run is bound to the columns that it reads
    assert read_json(folder / "trained_on.json")["covariates"] == TINY[name].columns

    # whom it has seen, a picture, and figures beside guesses
    seen = read_json(folder / "pretraining_data.json")
    parts = straight._data.parts
    assert seen["scan_count"] == len(parts["train"]) + len(parts["selection"]) and len(seen["subjects"][0]) == 64
    assert any(path.stat().st_size > 5_000 for path in (folder / "validation").glob("*.png"))
    summary = read_json(folder / "validation" / "summary.json")
    compared = {key: found for key, found in summary.items() if isinstance(found, dict) and "network" in found}
    assert compared and all(len(found) > 1 for found in compared.values())
    assert all(math.isfinite(value) for found in compared.values() for value in found.values())

    # what is left of a run that was killed after its first epoch
    killed = _trainer(tiny, name)
    killed.on_train_start()
    killed.run_epoch()
    resumed = _trainer(tiny, name)
    resumed.load_checkpoint(str(folder / "checkpoint_latest.pth"))
    assert resumed.current_epoch == 1
    resumed.run_training()
    found = _weights(folder)
    assert found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)

    # an ordinary classifier begins with the encoder and says what it has dropped
    classifier = build_network(TINY[name].network, 1, 2, SIZE)
    report = load_encoder(classifier, folder / "checkpoint_final.pth")
    own = classifier.state_dict()
    assert report.matched and all(torch.equal(own[key], expected[key]) for key in report.matched)
    assert report.dropped and not any(key.startswith("encoder.") for key in report.dropped)
    assert set(report.matched) | set(report.dropped) == set(expected)
    assert classifier.eval()(torch.zeros(1, 1, *SIZE)).isfinite().all()


@pytest.mark.parametrize("name", ["proxy", "contrastive"])
def test_batch_norms_are_handed_on_with_statistics_that_fit_the_weights(tiny: Workspace, name: str) -> None:
    network = replace(TINY_ADNEXT, options={**TINY_ADNEXT.options, "stem": "convolutional"})
    trainer = _trainer(tiny, name, network, epochs=1, learning_rate=1e-2)
    trainer.run_training()
    norm = next(module for module in trainer.network.modules() if isinstance(module, torch.nn.BatchNorm3d))
    seen: list[torch.Tensor] = []
    norm.register_forward_pre_hook(lambda _, images: seen.append(images[0].mean(dim=(0, 2, 3, 4))))
    with torch.no_grad():
        for batch in trainer._unchanged_training_cases.batches(epoch=0):
            trainer.validation_step(batch)
    torch.testing.assert_close(norm.running_mean, torch.stack(seen).mean(dim=0), rtol=1e-4, atol=1e-5)


def test_batches_of_one_scan_leave_batch_norms_as_they_run(tiny: Workspace) -> None:
    network = replace(TINY_ADNEXT, options={**TINY_ADNEXT.options, "stem": "convolutional"})
    trainer = _trainer(tiny, "proxy", network, epochs=1, batch_size=1)
    trainer.run_training()
    norm = next(module for module in trainer.network.modules() if isinstance(module, torch.nn.BatchNorm3d))
    assert int(norm.num_batches_tracked) == len(trainer._data.parts["train"])


def test_a_run_that_reads_ages_is_not_gone_on_with_where_they_have_changed(
    tiny: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = replace(tiny, preprocessed=tmp_path / "preprocessed")
    shutil.copytree(tiny.preprocessed, own.preprocessed)
    own.use(monkeypatch)
    begun = _trainer(own, "proxy")
    begun.on_train_start()
    begun.run_epoch()
    subjects = own.preprocessed / DATASET / "subjects.csv"
    assert ",61.0," in subjects.read_text()
    subjects.write_text(subjects.read_text().replace(",61.0,", ",31.0,"))
    state = Path(begun.output_folder) / "checkpoint_latest.pth"
    with pytest.raises(OtherDataError, match="1 of 13 cases differ in age, sex, the first is 'sub01_M00'"):
        _trainer(own, "proxy").load_checkpoint(str(state))


@pytest.mark.parametrize(
    ("objective", "network", "options"),
    [
        ("hybrid", "adnext_t", {"contrast_augmentation": "paper"}),
        ("amaes", "unet_b", {"reversed": "paper"}),
        ("amaes", "unet_b", {"reversed": "paper", "patch_voxels": [32, 32, 16]}),
    ],
)
def test_an_augmentation_that_turns_what_is_not_square_is_refused_before_anything_is_built(
    objective: str, network: str, options: dict[str, Any]
) -> None:
    size = (32, 32, 32) if "patch_voxels" in options else (32, 64, 32)
    plan = Plan(preprocessing=PreprocessingSettings(input_size_voxels=size), network=NetworkSettings(name=network))
    settings = PretrainingSettings(objective=objective, options=options)
    with pytest.raises(SettingsError, match="'paper' turns the axial plane, which must be square"):
        objective_of(settings, "a test").settled(plan, 1, settings, torch.device("cpu"))
