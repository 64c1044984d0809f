"""The BIDS App as a Python command; the container runs the same."""

import json
from importlib.metadata import version
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from conftest import toy_brain, write_scan
from test_deployment_programs import TINY_VIT, made_model

from adnext_plugin.cli import bids_app, import_dataset, predict
from adnext_plugin.deployment.writers import write_program
from adnext_plugin.errors import SettingsError
from adnext_plugin.images import read_volume
from adnext_plugin.prediction.derivative import Derivative
from adnext_plugin.prediction.ensemble import Prediction
from adnext_plugin.prediction.inputs import ScanInput, of_files
from adnext_plugin.preprocessing.brains import brain_networks
from adnext_plugin.preprocessing.brains.brain_masks import within_mask


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
    answers = sorted(path.relative_to(out).as_posix() for path in out.rglob("*_prediction.json"))
    assert answers[1] == "sub-02/ses-a/anat/sub-02_ses-a_desc-adnext_prediction.json" and len(answers) == 4
    assert json.loads((out / "dataset_description.json").read_text())["DatasetType"] == "derivative"


def test_who_is_not_there_is_named(dataset: Path, tmp_path: Path, capsys) -> None:
    words = [str(dataset), str(tmp_path / "out"), "participant", "-m", str(tmp_path / "m.pt")]
    assert bids_app.main([*words, "--participant-label", "77"]) == 2
    assert "--participant-label 77: " in capsys.readouterr().err
    assert bids_app.main([str(tmp_path / "nowhere"), *words[1:]]) == 2
    assert "give the root of a BIDS dataset" in capsys.readouterr().err


def _head(path: Path) -> None:
    """A ball of six litres with noise around it, stored from left to right."""
    radius = np.linalg.norm(np.stack(np.meshgrid(*[np.linspace(-1, 1, 60)] * 3)), axis=0)
    head = np.where(radius < 0.95, 100.0, 0.0) + np.random.default_rng(0).random((60, 60, 60))
    affine = np.diag([-4.0, 4.0, 4.0, 1.0])
    affine[0, 3] = 236.0
    nibabel.save(nibabel.Nifti1Image(head.astype(np.float32), affine), path)


def test_masks_and_answers_are_a_bids_derivative_with_sidecars(
    dataset: Path, tmp_path: Path, capsys, monkeypatch
) -> None:
    def by_deepbet(volume_zyx: np.ndarray, device: str) -> np.ndarray:
        mask = np.zeros(volume_zyx.shape, bool)
        mask[10:50, 10:50, 5:45] = True  # more on the left
        return mask

    monkeypatch.setattr(brain_networks, "_by_deepbet", by_deepbet)
    scan = dataset / "sub-10" / "ses-a" / "anat" / "sub-10_ses-a_run-2_T1w.nii.gz"
    scan.with_name("sub-10_ses-a_T1w.nii.gz").unlink()
    _head(scan)
    folder = dataset / "derivatives" / "adnext"
    command = ["-i", str(dataset), "-o", str(tmp_path / "out"), "-m", str(tmp_path / "m.pt"), "-np", "1"]
    assert predict.main([*command, "--bids-derivatives", str(folder)]) == 0
    assert f"A BIDS derivative is in {folder}" in capsys.readouterr().out

    description = json.loads((folder / "dataset_description.json").read_text())
    assert description["DatasetType"] == "derivative" and description["DatasetLinks"] == {"raw": "../.."}
    made_by = description["GeneratedBy"][0]
    assert (made_by["Name"], made_by["Version"]) == ("adnext_plugin", version("adnext_plugin"))
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("sub-*") if path.is_file())
    stem = "sub-10/ses-a/anat/sub-10_ses-a_run-2_desc"
    assert files == [
        *(
            f"sub-{who}/ses-{when}/anat/sub-{who}_ses-{when}_desc-adnext_prediction.json"
            for who, when in (("01", "a"), ("02", "a"), ("02", "b"))
        ),
        f"{stem}-adnext_prediction.json",
        f"{stem}-brain_mask.json",
        f"{stem}-brain_mask.nii.gz",
    ]
    assert (folder / ".bidsignore").read_text().startswith("*_prediction.json\n")

    mask, head = nibabel.load(folder / f"{stem}-brain_mask.nii.gz"), nibabel.load(scan)
    assert mask.shape == head.shape and np.array_equal(mask.affine, head.affine)
    voxels = np.asarray(mask.dataobj)
    assert set(np.unique(voxels)) == {0, 1} and voxels[:15].sum() == 0 < voxels[54].sum()  # x runs to the left
    assert within_mask(read_volume(scan), folder / f"{stem}-brain_mask.nii.gz").volume_zyx.any()
    sidecar = json.loads((folder / f"{stem}-brain_mask.json").read_text())
    source = ["bids:raw:sub-10/ses-a/anat/sub-10_ses-a_run-2_T1w.nii.gz"]
    assert sidecar["Type"] == "Brain" and sidecar["Sources"] == source and sidecar["Method"] == "deepbet"
    assert sidecar["BrainLitres"] == pytest.approx(40**3 * 64e-6)
    answer = json.loads((folder / f"{stem}-adnext_prediction.json").read_text())
    table = pd.read_csv(tmp_path / "out" / "predictions.csv", dtype=str).set_index("subject_id")
    assert answer["Sources"] == source and answer["Called"] == table.loc["sub-10", "called"]
    assert answer["Probabilities"]["AD"] == pytest.approx(float(table.loc["sub-10", "prob_AD"]))
    assert not any(str(tmp_path) in path.read_text() for path in folder.rglob("*.json"))
    # and the tree is still one of four scans
    monkeypatch.setenv("nnUNet_raw", str(tmp_path / "raw"))
    assert import_dataset.main(["9", "All", "--bids", str(dataset), "--unlabelled", "--dry-run", "-np", "1"]) == 0
    assert "cases                             4" in capsys.readouterr().out


def test_scans_with_names_of_their_own_get_labels_and_two_of_one_name_are_refused(tmp_path: Path) -> None:
    model = made_model(TINY_VIT, 32).description
    images = [tmp_path / "OAS1_0061_MR1.nii.gz", tmp_path / "sub-7_acq-x_T1w.nii.gz", tmp_path / "café 3.nii"]
    scans = of_files(images, tmp_path).scans
    derivative = Derivative(tmp_path / "d", scans, model, None)
    names = [derivative._file(scan, "x", ".json").relative_to(tmp_path / "d").as_posix() for scan in scans]
    assert names == [
        "sub-OAS10061MR1/anat/sub-OAS10061MR1_x.json",
        "sub-7/anat/sub-7_acq-x_x.json",
        "sub-cafe3/anat/sub-cafe3_x.json",
    ]
    both = [ScanInput(case_id="a_1", image=Path("a_1.nii")), ScanInput(case_id="A1", image=Path("A1.nii"))]
    with pytest.raises(SettingsError, match=r"a_1\.nii and A1\.nii would both be sub-A1"):
        Derivative(tmp_path / "e", both, model, None)
    with pytest.raises(SettingsError, match="has no name that a label could be made of"):
        Derivative(tmp_path / "e", [ScanInput(case_id="_", image=Path("_.nii"))], model, None)
    assert not (tmp_path / "e").exists()


def test_no_mask_of_an_earlier_prediction_stands_beside_an_answer_without_one(tmp_path: Path) -> None:
    scan = ScanInput(case_id="sub-7_T1w", image=tmp_path / "sub-7_T1w.nii.gz")
    derivative = Derivative(tmp_path / "d", [scan], made_model(TINY_VIT, 32).description, None)
    folder = tmp_path / "d" / "sub-7" / "anat"
    folder.mkdir(parents=True)
    for ending in (".nii.gz", ".json"):
        (folder / f"sub-7_desc-brain_mask{ending}").touch()
    answer = np.array([0.25, 0.75])
    found = Prediction(answer=answer, spread=np.zeros(2), outputs={}, called=1, feature_distance=None, warnings=())
    derivative.write([(scan, found)])
    assert [path.name for path in folder.iterdir()] == ["sub-7_desc-adnext_prediction.json"]


def test_a_file_in_the_place_of_the_derivative_is_named(dataset: Path, tmp_path: Path, capsys) -> None:
    place = tmp_path / "file"
    place.write_text("x")
    command = ["-i", str(dataset), "-o", str(tmp_path / "out"), "-m", str(tmp_path / "m.pt")]
    assert predict.main([*command, "--bids-derivatives", str(place)]) == 2
    assert f"--bids-derivatives {place} is a file; give a folder" in capsys.readouterr().err
