"""Objectives of other packages: found by name, trained, resumed and handed on; what cannot be is one line."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args

from adnext_plugin.cli import pretrain, train
from adnext_plugin.errors import SettingsError
from adnext_plugin.files import read_json
from adnext_plugin.paths import hook_dir
from adnext_plugin.pretraining.objective import objective_of
from adnext_plugin.records import from_json, to_json
from adnext_plugin.registry import OBJECTIVES, TRAINERS, load
from adnext_plugin.settings import PretrainingSettings
from adnext_plugin.training.weights import read_checkpoint

DATASET = "Dataset301_Toy"
# two views of a scan drawn from its seed, a label that is standardised by the training people, a loss of the batch
PAIRS = '''
import numpy as np
import torch
from torch import nn

from adnext_plugin.networks.build import build_network
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.pretraining.objective import Objective
from adnext_plugin.records import record
from adnext_plugin.settings import PretrainingSettings
from adnext_plugin.trainers.self_supervised import SelfSupervisedTrainer


@record
class Options:
    column: str = "age"
    weight: float = 1.0


class Projected(nn.Module):
    def __init__(self, encoder, head):
        super().__init__()
        self.encoder, self.projector = encoder, head

    def forward(self, images):
        return self.projector(self.encoder(images))


class Pairs(Objective[Options]):
    """Tell pairs of views apart, and how old who is shown is."""

    settings = PretrainingSettings(objective="pairs", epochs=2, warmup_epochs=0, augmentation="anatomical")
    options_type = Options
    score_names = {"spread": "spread"}
    scale = None

    def build(self, plan, in_channels):
        network = build_network(plan.network, in_channels, 3, plan.preprocessing.input_size_voxels)
        return Projected(network.encoder, network.head)

    def views(self, augmentation):
        return lambda image, seed: torch.stack([augmentation(image, seed), augmentation(image, seed + 1)])

    def unchanged_views(self, augmentation):
        changed = lambda image, seed: augmentation(image, seed) * 0 + image + seed / 2**32
        return lambda image, seed: torch.stack([image, changed(image, seed)])

    def fitted(self, training_rows):
        known = Pairs(self.options)
        ages = training_rows[self.options.column].astype(float)
        known.scale = [float(ages.mean()), float(ages.std())]
        return known

    def labels(self, rows):
        mean, deviation = self.scale
        ages = rows[self.options.column].astype(float).to_numpy()
        return ((ages - mean) / deviation).astype(np.float32)[:, None]

    def losses(self, network, batch, seeds):
        assert batch.images.shape[1:3] == (2, 1) and len(seeds) == len(batch.images)
        first, second = (network(batch.images[:, view]) for view in (0, 1))
        age = self.options.weight * (first[:, 2] - batch.covariates[:, 0]).square()
        return age + nn.functional.cross_entropy(first @ second.T, torch.arange(len(first)), reduction="none")

    def loss(self, network, batch, seeds):
        return self.losses(network, batch, seeds).sum() / len(seeds)

    def outputs(self, network, batch, seeds):
        found = super().outputs(network, batch, seeds)
        return {**found, "shown": batch.images.mean(dim=(2, 3, 4, 5)), "seeds": torch.tensor(seeds)}

    def scores(self, outputs):
        shown = torch.cat([output["shown"] for output in outputs])
        assert all((output["seeds"][:, 1] == 0).all() for output in outputs)
        return {**super().scores(outputs), "spread": float((shown[:, 1] - shown[:, 0]).sum())}

    def report(self, network, evidence, folder):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "learned.txt").write_text("pairs")
        if evidence.scores is None:
            return {}
        served = evidence.held_out, evidence.training, evidence.shown
        counts = [sum(len(batch.images) for batch, _ in steps) for steps in served]
        return {"counts": counts, "spread": evidence.scores["spread"]}

    def notes(self):
        return {"label_scale": self.scale}


class PairsTrainer_T(SelfSupervisedTrainer):
    """Pairs, with AD-NeXt-T."""

    settings = Pairs.settings
    network_settings = NetworkSettings(name="adnext_t")


class Headless(Pairs):
    """Builds something else than an encoder."""

    settings = PretrainingSettings(objective="headless")

    def build(self, plan, in_channels):
        return nn.Linear(1, 1)
'''


@pytest.fixture
def pairs(install, toy, monkeypatch):
    """The toy cohort, and a package with an objective and its trainer."""
    objects = {"pairs": "Pairs", "headless": "Headless", "no_class": "record"}
    install("pairs_package", PAIRS, {OBJECTIVES: objects, TRAINERS: {"PairsTrainer_T": "PairsTrainer_T"}})
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    return toy


def _trainer(monkeypatch, name: str = "PairsTrainer_T", *, resume: bool = False, **settings):
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps(settings))
    return get_trainer_from_args(DATASET, "3d_fullres", 0, name, "ADNeXtPlans", resume, torch.device("cpu"))


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(folder / "checkpoint_final.pth")["network_weights"]


def test_an_objective_of_another_package_is_trained_resumed_to_the_bit_and_handed_on(pairs, monkeypatch) -> None:
    straight = _trainer(monkeypatch, weight=2.0)
    straight.run_training()
    straight.perform_actual_validation()
    folder = Path(straight.output_folder)
    expected, notes = _weights(folder), read_checkpoint(folder / "checkpoint_final.pth")["adnext"]
    assert notes["settings"]["options"] == {"column": "age", "weight": 2.0}
    parts = straight._data.parts
    ages = pd.read_csv(pairs.preprocessed / DATASET / "subjects.csv").set_index("case_id")["age"]
    assert np.allclose(notes["further"]["label_scale"], [ages[parts["train"]].mean(), ages[parts["train"]].std()])
    assert notes["pretraining_data"]["scan_count"] == len(parts["train"]) + len(parts["selection"])
    logged = straight.logger.local_logger.my_fantastic_logging
    # views of those epochs are compared on are the same in every epoch
    assert logged["val_spread"][0] == logged["val_spread"][1] > 0
    summary = read_json(folder / "validation" / "summary.json")
    assert summary["counts"] == [len(parts["val"]), len(parts["train"]), min(4, len(parts["val"]))]
    assert (folder / "validation" / "learned.txt").read_text() == "pairs"

    interrupted = _trainer(monkeypatch, weight=2.0)
    interrupted.on_train_start()
    interrupted.run_epoch()
    resumed = _trainer(monkeypatch, resume=True)
    resumed.load_checkpoint(str(folder / "checkpoint_latest.pth"))
    assert resumed.current_epoch == 1 and resumed.objective.options.weight == 2.0
    resumed.run_training()
    found = _weights(folder)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)

    monkeypatch.delenv("ADNEXT_SETTINGS")
    given = ["-pretrained_weights", str(folder / "checkpoint_final.pth"), "--set", "learning_rate=1e-30"]
    arguments = ["301", "3d_fullres", "0", "-tr", "ADNeXtTrainer_T", "-device", "cpu", "--set", "epochs=1"]
    assert train.main([*arguments, *given]) == 0
    tuned = pairs.results / DATASET / "ADNeXtTrainer_T__ADNeXtPlans__3d_fullres" / "fold_0"
    encoder = {name: tensor for name, tensor in expected.items() if name.startswith("encoder.")}
    assert encoder and all(torch.equal(_weights(tuned)[name], tensor) for name, tensor in encoder.items())
    assert "dropped (projector." in next(tuned.glob("training_log*")).read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-tr", "ADNeXtPretrainer"], "no objective is named; give one (--set objective=NAME, or in the preset), of "),
        (["-tr", "ADNeXtPretrainer", "--set", "objective=pear"], "no objective 'pear'; did you mean 'pairs'?"),
        (["-tr", "ADNeXtPretrainer", "--set", "objective=3"], "objective = 3"),
        (["-tr", "ADNeXtPretrainer", "--set", "objective=no_class"], "'no_class' of the package pairs_package is no"),
        (["-tr", "ADNeXtPretrainer", "--set", "objective=headless"], "without the attribute `encoder`"),
        (["-tr", "PairsTrainer_T", "--set", "objective=fcmae"], "but the trainer is for 'pairs'; use -tr ADNeXtPre"),
        (["-tr", "PairsTrainer_T", "--set", "colum=sex"], "unknown key 'colum'; did you mean 'column'?"),
        (["-tr", "PairsTrainer_T", "--set", "epoch=1"], "unknown key 'epoch'; did you mean 'epochs'?"),
        (["-tr", "PairsTrainer_T", "--set", "mask_ratio=0.5"], "unknown key 'mask_ratio'"),
        (["-tr", "PairsTrainer_T", "--set", "weight=much"], "weight = 'much'"),
        (["-tr", "PairsTrainer_T", "--set", 'options={"weight": "much"}'], "weight = 'much'"),
        (["-tr", "PairsTrainer_T", "--set", "options=3"], "options = 3"),
        (["-tr", "PairsTrainer_T", "--set", "augmentation=anatomic"], "did you mean 'anatomical'?"),
    ],
)
def test_what_cannot_be_pretrained_is_one_line(pairs, capsys, arguments: list[str], message: str) -> None:
    assert pretrain.main(["301", "3d_fullres", *arguments, "-device", "cpu"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and message in lines[0]


def test_a_run_cannot_go_on_with_another_option(pairs, monkeypatch) -> None:
    first = _trainer(monkeypatch, epochs=1)
    first.run_training()
    again = _trainer(monkeypatch, resume=True, epochs=2, weight=3.0)
    with pytest.raises(SettingsError, match=r"trained with weight=1\.0 and cannot continue with weight=3\.0"):
        again.load_checkpoint(str(Path(first.output_folder) / "checkpoint_final.pth"))


FLAT = {"epochs": 7, "mask_ratio": 0.5, "decoder_width": 16, "sparse_convolution": ["halo"] * 4, "warmup_epochs": 1}


def test_settings_from_when_there_was_one_objective_are_read_as_they_were_meant() -> None:
    trainer = load(TRAINERS, "ADNeXtFCMAETrainer")
    nested = {
        "epochs": 7,
        "warmup_epochs": 1,
        "objective": "fcmae",
        "options": {name: FLAT[name] for name in ("mask_ratio", "decoder_width", "sparse_convolution")},
    }
    flat, asked = trainer.settings_with((FLAT, "plans")), trainer.settings_with((nested, "plans"))
    assert flat == asked == trainer.saved_settings({**FLAT, "seed": 42}, "a checkpoint")
    assert flat.options["patch_size_voxels"] == 32
    assert load(TRAINERS, "ADNeXtPretrainer").settings_with((nested, "plans")) == flat
    # what is written is read again, and the last layer has the last word, option by option
    assert from_json(PretrainingSettings, json.loads(json.dumps(to_json(flat))), "x") == flat
    over = trainer.settings_with((nested, "plans"), ({"mask_ratio": 0.7}, "--set"))
    assert (over.options["mask_ratio"], over.options["decoder_width"], over.epochs) == (0.7, 16, 7)
    assert objective_of(over, "x").options.sparse_convolution == ("halo",) * 4
    arm = load(TRAINERS, "ADNeXtFCMAETrainer_B_decoder64")
    assert arm.settings_with(({"mask_ratio": 0.7}, "--set")).options["decoder_width"] == 64


def test_another_objective_brings_its_own_defaults(pairs) -> None:
    settings = load(TRAINERS, "ADNeXtPretrainer").settings_with(
        ({"objective": "pairs"}, "plans"), ({"batch_size": 2}, "--set")
    )
    assert (settings.epochs, settings.augmentation, settings.batch_size) == (2, "anatomical", 2)
    assert settings.options == {"column": "age", "weight": 1.0}
