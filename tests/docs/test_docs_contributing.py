"""The examples of CONTRIBUTING.md do what it says: each is taken from the page, installed and run."""

import json
import re
import sys
from pathlib import Path

import pandas as pd
import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from adnext_plugin.cli import plan_and_preprocess, train
from adnext_plugin.data.augmentation import Augmentation
from adnext_plugin.files import read_json
from adnext_plugin.paths import hook_dir
from adnext_plugin.registry import AUGMENTATIONS, NETWORKS, OBJECTIVES, TRAINERS, load
from adnext_plugin.training.weights import read_checkpoint

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()


def _block(section: str, language: str) -> str:
    """The first block of code in a language below a heading."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return next(code for name, code in blocks if name == language)


def _install_example(install, section: str, group: str) -> str:
    """Install a section's example as a package of its own; gives its name in the group."""
    name, _, declared = _block(section, "").strip().partition(" = ")
    package = f"example_of_{name.lower()}"
    install(package, _block(section, "python"), {group: {name: declared.rpartition(":")[2]}})
    return name


def _lines(code: str) -> int:
    return len([line for line in code.splitlines() if line.strip()])


def test_the_trainer_example_is_ten_lines_and_found_by_name(toy, install, monkeypatch) -> None:
    assert _lines(_block("Add a trainer", "python")) <= 10
    _install_example(install, "Add a trainer", TRAINERS)
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    found = recursive_find_trainer_class_by_name("ADNeXtTrainer_T_Long")
    assert found is load(TRAINERS, "ADNeXtTrainer_T_Long")
    assert (found.settings.epochs, found.settings.warmup_epochs, found.network_settings.name) == (300, 10, "adnext_t")


def test_the_trainer_example_also_works_as_a_loose_file_in_a_folder_of_ones_own(toy, tmp_path, monkeypatch) -> None:
    (tmp_path / "my_trainers.py").write_text(_block("Add a trainer", "python"))
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    arguments = ["301", "3d_fullres", "0", "-tr", "ADNeXtTrainer_T_Long", "-device", "cpu"]
    assert train.main([*arguments, "--set", "epochs=1", "--set", "warmup_epochs=0"]) == 0
    assert (toy.results / "Dataset301_Toy" / "ADNeXtTrainer_T_Long__ADNeXtPlans__3d_fullres" / "fold_0").is_dir()


def test_the_network_example_is_trained_from_its_preset(toy, install, tmp_path) -> None:
    assert _lines(_block("Add a network", "python")) <= 12
    _install_example(install, "Add a network", NETWORKS)
    preset = json.loads(_block("Add a network", "json"))
    preset["preprocessing"] = {"input_size_voxels": [32, 32, 32], "spacing_mm": [2.5, 2.5, 2.5]}
    (tmp_path / "preset.json").write_text(json.dumps(preset))
    arguments = ["-d", "301", "-p", "TinyPlans", "-np", "1", "--preset", str(tmp_path / "preset.json")]
    assert plan_and_preprocess.main(arguments) == 0
    arguments = ["301", "3d_fullres", "2", "-tr", "ADNeXtTrainer", "-p", "TinyPlans", "-device", "cpu"]
    assert train.main([*arguments, "--set", "epochs=1"]) == 0
    fold = toy.results / "Dataset301_Toy" / "ADNeXtTrainer__TinyPlans__3d_fullres" / "fold_2"
    assert len(pd.read_csv(fold / "validation" / "predictions.csv")) > 4
    assert "example_of_tiny_net" in sys.modules


def test_the_augmentation_example_is_trained_with(toy, install) -> None:
    assert _lines(_block("Add an augmentation", "python")) <= 6
    name = _install_example(install, "Add an augmentation", AUGMENTATIONS)
    augment = Augmentation(name, (32, 32, 32))
    image = torch.rand(1, 4, 4, 4)
    assert len({float(augment(image, seed).sum()) for seed in range(20)}) > 5
    assert all(torch.equal(augment(image, seed), augment(image, seed)) for seed in range(5))
    arguments = ["301", "3d_fullres", "2", "-tr", "ADNeXtTrainer_T", "-device", "cpu", "--set", "epochs=1"]
    assert train.main([*arguments, "--set", f"augmentation={name}"]) == 0


def test_the_objective_example_pretrains_an_encoder_that_a_classifier_takes_over(toy, install, tmp_path) -> None:
    name = _install_example(install, "Add an objective", OBJECTIVES)
    preset = json.loads(_block("Add an objective", "json"))
    preset["preprocessing"] = {"input_size_voxels": [32, 32, 32], "spacing_mm": [2.5, 2.5, 2.5]}
    preset["network"] = {"name": "adnext_t"}
    (tmp_path / "preset.json").write_text(json.dumps(preset))
    arguments = ["-d", "301", "-p", "BrightPlans", "-np", "1", "--preset", str(tmp_path / "preset.json")]
    assert plan_and_preprocess.main(arguments) == 0
    common = ["301", "3d_fullres", "2", "-p", "BrightPlans", "-device", "cpu", "--set", "epochs=1"]
    assert train.main([*common, "-tr", "ADNeXtPretrainer", "--set", "warmup_epochs=0"]) == 0
    fold = toy.results / "Dataset301_Toy" / "ADNeXtPretrainer__BrightPlans__3d_fullres" / "fold_2"
    settings = read_checkpoint(fold / "checkpoint_final.pth")["adnext"]["settings"]
    assert (settings["objective"], settings["augmentation"], settings["batch_size"]) == (name, "pretraining", 4)
    report = read_json(fold / "validation" / "summary.json")["squared_error"]
    assert report["network"] > 0 and 0 < report["mean_of_training_scans"] < 1
    weights = ["-pretrained_weights", str(fold / "checkpoint_final.pth")]
    assert train.main([*common, "-tr", "ADNeXtTrainer", *weights, "--set", "learning_rate=1e-30"]) == 0
    tuned = toy.results / "Dataset301_Toy" / "ADNeXtTrainer__BrightPlans__3d_fullres" / "fold_2"
    before = read_checkpoint(fold / "checkpoint_final.pth")["network_weights"]
    after = read_checkpoint(tuned / "checkpoint_final.pth")["network_weights"]
    encoder = [key for key in before if key.startswith("encoder.")]
    assert encoder and all(torch.equal(before[key], after[key]) for key in encoder)
