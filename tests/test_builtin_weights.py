"""Weights that come with the package are whole, predict and begin runs, and the audit knows their people."""

import json
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Workspace, toy_brain, write_scan

import adnext_plugin
from adnext_plugin.builtin.card import card_page
from adnext_plugin.builtin.weights import FOLDER, builtin_names, card_of, is_builtin, model_folder, weights_file
from adnext_plugin.cli import audit, predict, train, weights
from adnext_plugin.networks.costs import count_parameters
from adnext_plugin.prediction.bundle import read_bundle
from adnext_plugin.prediction.model import FoldNetwork
from adnext_plugin.run_records import read_run_info
from adnext_plugin.training.checkpoint_notes import notes_of
from adnext_plugin.training.corpus import describe_corpus, joined
from adnext_plugin.training.weights import read_checkpoint
from adnext_plugin.workflows.audit import check_weights

NAME = "builtin:brain_age"
every_name = pytest.mark.parametrize("name", builtin_names())
ROOT = Path(__file__).parents[1]


def _subjects(*ids: str) -> pd.DataFrame:
    return pd.DataFrame({"case_id": ids, "subject_id": ids})


def _seen(network: str | Path, *ids: str) -> list[str]:
    """Those of the ids that the leak audit finds among whom weights have seen."""
    check = check_weights(weights_file(network, "all"), _subjects(*ids))
    assert not check.unknown
    return [line.split(" is held out")[0] for line in check.leaks]


@every_name
def test_they_are_whole_and_their_card_is_true(name: str) -> None:
    card, model = card_of(name), read_bundle(model_folder(name))
    plan = model.description.plan
    network = FoldNetwork(model, 0, "cpu")._network
    assert card.name == name and card.parameters == count_parameters(network)
    assert (card.spacing_mm, card.input_size_voxels) == (plan.preprocessing.spacing_mm, plan.network_input_voxels)
    assert card.trainer == model.description.trainer
    assert (FOLDER / name / "MODEL_CARD.md").read_text() == card_page(card)
    assert {source.name for source in card.sources} == {"IXI", "OASIS-1"}
    assert all(score.guessing is not None and score.low <= score.value <= score.high for score in card.scores)
    notes = [notes_of(read_checkpoint(file), file) for file in model_folder(name).glob("fold_*.safetensors")]
    assert all(one.pretraining_data is not None and one.pretraining_data.complete for one in notes)
    assert max(one.pretraining_data.subject_count for one in notes) <= sum(source.people for source in card.sources)


def test_the_page_about_weights_states_what_they_are_worth() -> None:
    page = (ROOT / "docs" / "weights.md").read_text()
    for score in card_of(NAME).scores:
        assert f"| {score.of} | {score.people} | {score.in_words} | {score.guessing:.1f} |" in page


def test_the_wheel_takes_all_of_their_files_along() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    package = ROOT / "adnext_plugin"
    found = (package / FOLDER.name).rglob("*")
    files = {path for path in found if path.is_file() and path.suffix not in (".py", ".pyc")}
    taken = {path for pattern in patterns["adnext_plugin"] for path in package.glob(pattern)}
    assert len(files) > 4 and files <= taken
    assert all((FOLDER.parent / path.relative_to(package)).is_file() for path in files)  # where it is installed, too


def test_the_leak_audit_recognises_their_people_however_they_are_written(tmp_path: Path) -> None:
    file = weights_file(NAME, "all")
    corpus = notes_of(read_checkpoint(file), file).pretraining_data
    assert corpus.subject_count > 250
    everyone = [f"IXI{number:03d}" for number in range(1, 663)] + [f"OAS1_{number:04d}" for number in range(1, 458)]
    found = _seen(NAME, *everyone)
    assert len(found) == corpus.subject_count
    ixi, oasis = (next(one for one in found if one.startswith(cohort)) for cohort in ("IXI", "OAS1"))
    spelt = [f"{ixi}-Guys-0828-T1", f"sub-{ixi}", f"{oasis}_MR1", f"sub-{oasis.replace('_', '')}"]
    assert _seen(NAME, *spelt, "sub-01", "123_S_4567") == sorted(spelt)


def test_nobody_of_the_task_of_alzheimers_disease_was_seen(real_data: Path) -> None:
    people = pd.read_csv(real_data / "oasis1" / "oasis1.csv")
    old = people.loc[people["Age"] >= 60, "subject_id"].unique()
    assert len(old) > 140 and _seen(NAME, *old) == []


def test_whom_they_have_seen_is_handed_on_beside_a_projects_own_list(tmp_path: Path) -> None:
    file = weights_file(NAME, "all")
    theirs = notes_of(read_checkpoint(file), file).pretraining_data
    own = describe_corpus(_subjects("a", "b"), "Dataset001_Own", tmp_path)
    both = joined(own, theirs)
    assert both == replace(own, published=(theirs,)) and both.complete
    # and on, through a run of the same project
    task = describe_corpus(_subjects("c"), "Dataset002_Task", tmp_path)
    again = joined(task, both)
    assert again.published == (theirs,) and again.complete and again.subject_count == 3
    assert joined(again, both).published == (theirs,)
    elsewhere = describe_corpus(_subjects("d"), "Dataset003_Task", tmp_path / "elsewhere")
    assert joined(elsewhere, both).published == (theirs,) and not joined(elsewhere, both).complete


def test_a_run_begins_with_them_and_says_so(toy: Workspace, tmp_path: Path, capsys) -> None:
    command = ["301", "3d_fullres", "0", "-tr", "ADNeXtTrainer_T_Small", "-device", "cpu", "--set", "epochs=1"]
    command += ["--set", "precise_batch_norm=false", "--set", "warmup_epochs=0"]
    command += ["-pretrained_weights", NAME]
    assert train.main(command) == 0
    said = capsys.readouterr().out
    assert f"Weights from {NAME}: " in said and f"a held-out person seen by {NAME}: none" in said
    fold = toy.results / "Dataset301_Toy" / "ADNeXtTrainer_T_Small__ADNeXtPlans__3d_fullres" / "fold_0"
    assert read_run_info(fold / "run.json").settings["pretrained_weights"].startswith(f"{NAME}, SHA-256 ")
    assert "warning" not in json.loads((fold / "validation" / "summary.json").read_text())
    # the run's own weights bring the list along
    known = next(name for name in (f"IXI{number:03d}" for number in range(1, 663)) if _seen(NAME, name))
    final = fold / "checkpoint_final.pth"
    assert _seen(final, known, "nobody") == [known] and len(_seen(final, "sub02", "sub03", "sub04", "sub05")) > 0
    assert audit.main(["301", "-pretrained_weights", NAME, "-o", str(tmp_path / "audit.json")]) == 0
    assert f"a held-out person seen by {NAME}: none" in capsys.readouterr().out


def test_a_model_predicts_by_name_and_says_what_it_is_worth(fresh: Workspace, tmp_path: Path, capsys) -> None:
    scan = write_scan(tmp_path / "scan.nii.gz", toy_brain(1, has_hole=False))
    arguments = ["-i", str(scan), "-o", str(tmp_path / "out"), "-m", NAME, "-device", "cpu", "-np", "1"]
    assert predict.main(arguments) == 0
    said = capsys.readouterr().out
    assert f"mean absolute error {card_of(NAME).scores[0].in_words}" in said
    (age,) = pd.read_csv(tmp_path / "out" / "predictions.csv")["prediction"]
    assert np.isfinite(age)
    loaded = adnext_plugin.load_model(NAME, device="cpu").predict(str(scan), processes=1)
    assert loaded["prediction"].iloc[0] == pytest.approx(age, abs=1e-3)


def test_a_raw_head_gets_an_age_near_its_own(real_data: Path, fresh: Workspace, tmp_path: Path) -> None:
    people = pd.read_csv(real_data / "bids_ds000011" / "participants.tsv", sep="\t").set_index("participant_id")
    head = next((real_data / "bids_ds000011" / "sub-05").rglob("*_T1w.nii.gz"))
    arguments = ["-i", str(head), "-o", str(tmp_path), "-m", NAME, "-device", "cpu", "-np", "1"]
    assert predict.main(arguments) == 0
    (age,) = pd.read_csv(tmp_path / "predictions.csv")["prediction"]
    assert abs(age - people.loc["sub-05", "age"]) < 25  # several times the expected error


def test_create_network_takes_their_encoder() -> None:
    network = adnext_plugin.create_network(
        "adnext_t",
        1,
        2,
        (32, 32, 32),
        pretrained=NAME,
        **read_bundle(model_folder(NAME)).description.plan.network.options,
    )
    saved = read_checkpoint(weights_file(NAME, "all"))["network_weights"]
    own = network.state_dict()
    encoder = [name for name in own if name.startswith("encoder.")]
    assert len(encoder) > 50 and all(torch.equal(own[name], saved[name]) for name in encoder)


def test_the_command_lists_them_and_prints_a_card(capsys) -> None:
    assert weights.main([]) == 0
    said = capsys.readouterr().out
    assert NAME in said and "mean absolute error" in said and "guessing" in said
    assert weights.main(["brain_age"]) == 0
    assert capsys.readouterr().out == card_page(card_of("brain_age"))


def test_names_that_there_are_not_are_refused_in_one_line(toy: Workspace, tmp_path: Path, capsys) -> None:
    assert is_builtin("builtin:x") and not is_builtin("builtin:brain_age, SHA-256 abc") and not is_builtin(None)
    commands = [
        (weights.main, ["brian_age"]),
        (predict.main, ["-i", str(tmp_path), "-o", str(tmp_path / "out"), "-m", "builtin:brian_age"]),
        (train.main, ["301", "3d_fullres", "0", "-pretrained_weights", "builtin:brian_age"]),
        (weights.main, ["builtin:brian_age", "--to-hub", str(tmp_path / "hub")]),
    ]
    for main, arguments in commands:
        assert main(arguments) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "no built-in weights builtin:brian_age" in line and "brain_age" in line.replace("brian_age", "")


def test_what_training_needs_alone_is_not_loaded_to_predict() -> None:
    code = f"import sys\nimport adnext_plugin\nadnext_plugin.load_model({NAME!r}, device='cpu')\n"
    code += "assert not {'monai', 'nnunetv2'} & set(sys.modules)"  # seconds of a start
    subprocess.run([sys.executable, "-c", code], check=True)
