"""The examples of a preprocessing step and of an explanation in CONTRIBUTING.md do what it says."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
from conftest import Trained, Workspace

from adnext_plugin.case_properties import read_case_properties
from adnext_plugin.cli import plan_and_preprocess
from adnext_plugin.data.store import CaseStore
from adnext_plugin.explanations.method import load_explanation
from adnext_plugin.images import read_volume
from adnext_plugin.plan import Plan, read_plan
from adnext_plugin.prediction.from_run import read_run
from adnext_plugin.prediction.model import FoldNetwork
from adnext_plugin.preprocessing.chain import preparation_in_words, prepare
from adnext_plugin.registry import EXPLANATIONS, STEPS
from adnext_plugin.run_folder import RunFolder

PAGE = (Path(__file__).parents[2] / "CONTRIBUTING.md").read_text()


def _block(section: str, language: str) -> str:
    """The first block of code in a language below a heading."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return next(code for name, code in blocks if name == language)


def _install_example(install, section: str, group: str) -> str:
    """Install a section's example as a package of its own; gives its name in the group."""
    name, _, declared = _block(section, "").strip().partition(" = ")
    install(f"example_of_{name}", _block(section, "python"), {group: {name: declared.rpartition(":")[2]}})
    return name


def test_the_step_example_is_taken_by_a_dataset_that_names_it_in_its_preset(toy: Workspace, install, tmp_path) -> None:
    assert _install_example(install, "Add a preprocessing step", STEPS) == "gamma"
    preset = json.loads(_block("Add a preprocessing step", "json"))
    preset["preprocessing"] |= {"input_size_voxels": [32, 32, 32], "spacing_mm": [2.5, 2.5, 2.5]}
    (tmp_path / "preset.json").write_text(json.dumps(preset))
    arguments = ["-d", "301", "-p", "GammaPlans", "-np", "1", "--preset", str(tmp_path / "preset.json")]
    assert plan_and_preprocess.main(arguments) == 0
    folder = toy.preprocessed / "Dataset301_Toy"
    plan = read_plan(folder / "GammaPlans.json", "3d_fullres")
    assert "intensities to the power of 0.7" in preparation_in_words(plan)
    case = "sub01_M00"
    stored = CaseStore(folder / "GammaPlans_3d_fullres", [case], (32, 32, 32))[0]
    scan = read_volume(toy.raw / "Dataset301_Toy" / "imagesTr" / f"{case}_0000.nii.gz")
    np.testing.assert_array_equal(stored, prepare(scan, plan.preprocessing).image_czyx)
    plain = CaseStore(folder / "ADNeXtPlans_3d_fullres", [case], (32, 32, 32))[0]
    assert np.abs(stored.astype(float) - plain).max() > 0.1
    # the box of the brain is the same, as 0 stays 0
    places = [folder / plans / f"{case}.pkl" for plans in ("GammaPlans_3d_fullres", "ADNeXtPlans_3d_fullres")]
    boxes = [read_case_properties(path).foreground_box for path in places]
    assert boxes[0] == boxes[1]
    assert Plan(preprocessing=plan.preprocessing).preprocessing.steps[0].version == 1


def test_the_explanation_example_explains_a_trained_network_by_name(trained: Trained, install) -> None:
    name = _install_example(install, "Add an explanation", EXPLANATIONS)
    assert len([line for line in _block("Add an explanation", "python").splitlines() if line.strip()]) <= 12
    model = read_run(RunFolder(trained.run), ["0"])
    network = FoldNetwork(model, 0, "cpu")
    folder = trained.workspace.preprocessed / "Dataset301_Toy"
    image_czyx = CaseStore(folder / "ADNeXtPlans_3d_fullres", ["sub01_M00"], (32, 32, 32))[0]
    row = pd.read_csv(folder / "subjects.csv").set_index("case_id").loc[["sub01_M00"]]
    explained, image = network.explained(row), network.input_of(image_czyx)
    map_zyx = load_explanation(name)(explained, image, "AD")
    assert map_zyx.shape == (32, 32, 32) and map_zyx.min() >= 0 and map_zyx.max() > 0
    # and occlusion, on the same network: covering all of the brain is one box, whose fall the network itself gives
    whole = {"box_voxels": [32, 32, 32], "stride_voxels": [32, 32, 32]}
    fall = load_explanation("occlusion", whole)(explained, image, "AD")
    before, after = (network(one, row)[0] for one in (image_czyx, np.zeros_like(image_czyx)))
    expected = (before[1] - before[0]) - (after[1] - after[0])
    np.testing.assert_allclose(fall[image[0] != 0], expected, rtol=1e-2, atol=1e-4)
