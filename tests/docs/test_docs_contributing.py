"""The examples of CONTRIBUTING.md do what it says: each is taken from the page, installed and run."""

import json
import re
import sys
from pathlib import Path

import pandas as pd
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from adnext_plugin.cli import plan_and_preprocess, train
from adnext_plugin.paths import hook_dir
from adnext_plugin.registry import NETWORKS, TRAINERS, load

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()


def _blocks(language: str) -> list[str]:
    return [
        code for name, code in re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE) if name == language
    ]


def _entry(declaration: str) -> dict[str, str]:
    name = declaration.partition("=")[0].strip()
    return {name: name}


def test_the_trainer_example_is_ten_lines_and_found_by_name(toy, install, monkeypatch) -> None:
    code, declaration = _blocks("python")[0], _blocks("")[0]
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    install("example_long", code, {TRAINERS: _entry(declaration)})
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    found = recursive_find_trainer_class_by_name("ADNeXtTrainer_T_Long")
    assert found is load(TRAINERS, "ADNeXtTrainer_T_Long")
    assert (found.settings.epochs, found.settings.warmup_epochs, found.network_settings.name) == (300, 10, "adnext_t")


def test_the_trainer_example_also_works_as_a_loose_file_in_a_folder_of_ones_own(toy, tmp_path, monkeypatch) -> None:
    (tmp_path / "my_trainers.py").write_text(_blocks("python")[0])
    monkeypatch.setenv("nnUNet_extTrainer", str(tmp_path))
    arguments = ["301", "3d_fullres", "0", "-tr", "ADNeXtTrainer_T_Long", "-device", "cpu"]
    assert train.main([*arguments, "--set", "epochs=1", "--set", "warmup_epochs=0"]) == 0
    assert (toy.results / "Dataset301_Toy" / "ADNeXtTrainer_T_Long__ADNeXtPlans__3d_fullres" / "fold_0").is_dir()


def test_the_network_example_is_trained_from_its_preset(toy, install, tmp_path) -> None:
    code, declaration = _blocks("python")[1], _blocks("")[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    install("example_tiny", code, {NETWORKS: _entry(declaration)})
    preset = json.loads(_blocks("json")[0])
    preset["preprocessing"] = {"input_size_voxels": [32, 32, 32], "spacing_mm": [2.5, 2.5, 2.5]}
    (tmp_path / "preset.json").write_text(json.dumps(preset))
    arguments = ["-d", "301", "-p", "TinyPlans", "-np", "1", "--preset", str(tmp_path / "preset.json")]
    assert plan_and_preprocess.main(arguments) == 0
    arguments = ["301", "3d_fullres", "2", "-tr", "ADNeXtTrainer", "-p", "TinyPlans", "-device", "cpu"]
    assert train.main([*arguments, "--set", "epochs=1"]) == 0
    fold = toy.results / "Dataset301_Toy" / "ADNeXtTrainer__TinyPlans__3d_fullres" / "fold_2"
    assert len(pd.read_csv(fold / "validation" / "predictions.csv")) > 4
    assert "example_tiny" in sys.modules
