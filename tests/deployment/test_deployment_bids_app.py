"""The BIDS App as a Python command; the container runs the same."""

import json
from pathlib import Path

import pandas as pd
import pytest
from conftest import toy_brain, write_scan
from test_deployment_programs import TINY_VIT, made_model

from adnext_plugin.cli import bids_app
from adnext_plugin.deployment.writers import write_program


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three people, one of them twice, and a model as a program."""
    root = tmp_path / "bids"
    for index, (label, session) in enumerate([("01", "a"), ("02", "a"), ("02", "b"), ("10", "a")]):
        name = f"sub-{label}_ses-{session}_T1w.nii.gz"
        write_scan(root / f"sub-{label}" / f"ses-{session}" / "anat" / name, toy_brain(index, has_hole=False))
    (root / "participants.tsv").write_text("participant_id\tage\nsub-01\t70\nsub-02\t81\nsub-10\t64\n")
    (root / "dataset_description.json").write_text('{"Name": "toy", "BIDSVersion": "1.9.0"}')
    write_program(made_model(TINY_VIT, 32), "torchscript", tmp_path / "m.pt")
    return root


def test_people_are_predicted_one_by_one_and_joined(dataset: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "derivatives"
    model = ["-m", str(tmp_path / "m.pt"), "-np", "1"]
    assert bids_app.main([str(dataset), str(out), "group", *model]) == 2
    assert "run the level participant first" in capsys.readouterr().err
    some = ["--participant-label", "01", "sub-02"]
    assert bids_app.main([str(dataset), str(out), "participant", *model, *some]) == 0
    assert sorted(folder.name for folder in out.iterdir() if folder.is_dir()) == ["sub-01", "sub-02"]
    assert len(pd.read_csv(out / "sub-02" / "predictions.csv")) == 2
    assert bids_app.main([str(dataset), str(out), "participant", *model, "--participant-label", "10"]) == 0
    assert bids_app.main([str(dataset), str(out), "group", *model]) == 0
    table = pd.read_csv(out / "predictions.csv", dtype={"subject_id": str})
    assert len(table) == 4 and table["prob_AD"].between(0, 1).all()
    assert json.loads((out / "dataset_description.json").read_text())["DatasetType"] == "derivative"


def test_who_is_not_there_is_named(dataset: Path, tmp_path: Path, capsys) -> None:
    words = [str(dataset), str(tmp_path / "out"), "participant", "-m", str(tmp_path / "m.pt")]
    assert bids_app.main([*words, "--participant-label", "77"]) == 2
    assert "--participant-label 77: " in capsys.readouterr().err
    assert bids_app.main([str(tmp_path / "nowhere"), *words[1:]]) == 2
    assert "give the root of a BIDS dataset" in capsys.readouterr().err
