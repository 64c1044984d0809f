"""`adnext_predict` on scans from every kind of source, against what the trainer itself predicts."""

import json
import re
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from conftest import toy_brain, write_scan
from scipy.special import softmax

from adnext_plugin.cli import install, predict
from adnext_plugin.prediction.inputs import of_files


def _predict(source: object, model: object, output: Path, *options: str, code: int = 0) -> tuple[pd.DataFrame, dict]:
    arguments = ["-i", str(source), "-o", str(output), "-m", str(model), "-device", "cpu", "-np", "1", *options]
    assert predict.main(arguments) == code
    table = pd.read_csv(output / "predictions.csv", dtype={"case_id": str}, keep_default_na=False)
    return table.set_index("case_id"), json.loads((output / "predictions.json").read_text())


def _table(trained) -> Path:
    return trained.workspace.source / "table.csv"


def test_a_folds_held_out_people_get_the_trainers_own_probabilities_calibrated_on_selection(trained, tmp_path) -> None:
    table, content = _predict(_table(trained), trained.run, tmp_path / "out", "--folds", "2")
    own = pd.read_csv(trained.run / "fold_2" / "validation" / "predictions.csv").set_index("case_id")
    metrics = json.loads((trained.run / "crossval_results" / "metrics.json").read_text())
    classes = content["model"]["task"]["classes"]
    temperature = metrics["details"]["temperatures"][2]["value"]
    assert abs(temperature - 1) > 0.01
    expected = softmax(own[[f"logit_{name}" for name in classes]] / temperature, axis=1)
    found = table.loc[own.index, [f"prob_{name}" for name in classes]].astype(float)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    # the call is that of the uncalibrated probability at the threshold chosen on `selection`
    positive = own[f"prob_{classes[1]}"] >= metrics["folds"][2]["threshold"]
    assert (table.loc[own.index, "called"] == positive.map({True: classes[1], False: classes[0]})).all()


def test_scans_and_people_that_networks_were_trained_on_are_named_and_shown(trained, tmp_path) -> None:
    shutil.copy(trained.workspace.source / "sub05_M00.nii.gz", tmp_path / "copied.nii.gz")
    write_scan(tmp_path / "other.nii.gz", toy_brain(103, has_hole=True))
    write_scan(tmp_path / "new.nii.gz", toy_brain(199, has_hole=True))
    rows = ["subject,path,age,sex", "someone,copied.nii.gz,70,F", "sub-SUB03,other.nii.gz,70,F", "new,new.nii.gz,70,M"]
    (tmp_path / "scans.csv").write_text("\n".join(rows) + "\n")
    table, _ = _predict(tmp_path / "scans.csv", trained.run, tmp_path / "out")
    table = table.set_index("subject_id")
    seen = {who: cell.partition(", so that")[0] for who, cell in table["warnings"].items() if "trained on: " in cell}
    assert seen == {
        "someone": "trained on: 3 of 4 networks have seen this very scan",  # and the fourth has held it out
        "sub-SUB03": "trained on: 3 of 4 networks have seen a person of this id",
    }
    calls = (table["prob_AD"].astype(float) >= table["threshold"].astype(float)).map({True: "AD", False: "CN"})
    assert (calls == table["called"]).all()

    page = (tmp_path / "out" / "predictions.html").read_text()
    assert len(re.findall(r'<img src="data:image/jpeg', page)) == 3 and "http" not in page.replace("http-equiv", "")
    assert "3 of 4 networks have seen this very scan" in page and "3 scans, " in page
    probability = float(table.loc["new", "prob_AD"])
    assert f"probability of AD {probability:.2f}, called AD from {float(table.loc['new', 'threshold']):.2f} on" in page
    assert re.search(r"more than for \d+% of 9 held-out CN and \d+% of 8 held-out AD, by the one network", page)
    # the network that has held the scan out, alone, has nothing to say of it
    splits = json.loads((trained.workspace.preprocessed / "Dataset301_Toy" / "splits_final.json").read_text())
    (fold,) = [number for number, parts in enumerate(splits) if any("sub05" in case for case in parts["val"])]
    alone, _ = _predict(tmp_path / "scans.csv", trained.run, tmp_path / "alone", "--folds", str(fold))
    assert "trained on" not in alone.set_index("subject_id")["warnings"]["someone"]


def test_people_and_sessions_of_files_are_those_of_their_names_as_far_as_they_say() -> None:
    names = ["sub-01_ses-M24_T1w", "OAS1_0061_MR1", "123_S_4567", "scan3", "7"]
    scans = of_files([Path("scans", f"{name}.nii.gz") for name in names], Path("scans")).scans
    assert [scan.subject_id for scan in scans] == ["sub-01", "OAS1_0061_MR1", "123_S_4567", "", ""]
    assert [scan.session_id for scan in scans] == ["M24", "", "", "", ""]


def test_all_sources_of_the_same_scans_and_the_installed_bundle_agree(trained, tmp_path, monkeypatch, capsys) -> None:
    by_table, _ = _predict(_table(trained), trained.run, tmp_path / "table")
    assert install.main([str(trained.bundle)]) == 0
    # nothing but the bundle is needed
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.setenv(name, str(tmp_path / "nowhere"))
    by_bundle, content = _predict(_table(trained), "toy", tmp_path / "bundle")
    preprocessed = trained.workspace.preprocessed / "Dataset301_Toy"
    by_dataset, _ = _predict(preprocessed, "toy", tmp_path / "dataset")
    by_raw, _ = _predict(trained.workspace.raw / "Dataset301_Toy", "toy", tmp_path / "raw")
    answers = [f"prob_{name}" for name in content["model"]["task"]["classes"]]
    assert len(by_table) == 17
    for other in (by_bundle, by_dataset, by_raw):
        np.testing.assert_allclose(
            other.loc[by_table.index, answers].astype(float), by_table[answers].astype(float), atol=1e-5
        )
        assert (other.loc[by_table.index, "called"] == by_table["called"]).all()
    assert content["not_checked"] == []
    assert "17 scans predicted" in capsys.readouterr().out


def test_one_bad_scan_is_reported_and_the_others_are_predicted(trained, tmp_path, capsys) -> None:
    lines = _table(trained).read_text().splitlines()[:4]
    shutil.copytree(trained.workspace.source, tmp_path / "source")
    lines += ["bad,M00,bad.nii.gz,,70,F", "gone,M00,gone.nii.gz,,70,F", "ageless,M00,sub01_M00.nii.gz,,,M"]
    (tmp_path / "source" / "new.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "source" / "bad.nii.gz").write_bytes((tmp_path / "source" / "sub00_M00.nii.gz").read_bytes()[:5000])
    table, content = _predict(tmp_path / "source" / "new.csv", trained.run, tmp_path / "out", code=2)
    assert list(table["error"] != "") == [False, False, False, True, True, False]
    assert "bad.nii.gz cannot be read" in table.loc["bad_M00", "error"]
    assert content["failed"] == 2 and len(content["scans"]) == 6
    assert "age is not known" in table.loc["ageless_M00", "warnings"]
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2 and "gone" in errors[1]


def test_scans_unlike_those_trained_on_are_said_to_be(trained, tmp_path) -> None:
    assert install.main([str(trained.bundle)]) == 0
    source = tmp_path / "source"
    usual = toy_brain(100, has_hole=False)
    write_scan(source / "usual.nii.gz", usual)
    write_scan(source / "small.nii.gz", usual, spacing_mm=0.7)
    skewed = usual.copy()
    skewed[:10] *= 20
    write_scan(source / "skewed.nii.gz", skewed)
    image = nibabel.Nifti1Image(usual, np.diag([2.0, 2, 2, 1]))
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nibabel.save(image, source / "unsaid.nii.gz")
    image = nibabel.Nifti1Image(usual, np.diag([2.0, 2, 2, 1]))
    image.set_qform(np.diag([-2.0, 2, 2, 1]), 1)
    nibabel.save(image, source / "both.nii.gz")
    names = [path.name.split(".")[0] for path in sorted(source.iterdir())]
    rows = "".join(f"{name},{name}.nii.gz,65,M\n" for name in names)
    (source / "new.csv").write_text("subject,path,age,sex\n" + rows)
    table, _ = _predict(source / "new.csv", "toy", tmp_path / "out")
    warnings = table["warnings"]
    assert warnings["usual"] == ""
    assert "; size along x: " in warnings["small"] and "voxel size along x: 0.7 mm" in warnings["small"]
    assert "intensities: percentile 95" in warnings["skewed"] and "features:" in warnings["skewed"]
    assert "left and right may be exchanged" in warnings["unsaid"]
    assert "both RAS (sform, used) and LAS (qform)" in warnings["both"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("absent", "absent does not exist; give a scan, a folder, a table or a dataset"),
        ("note.txt", "neither an image"),
        ("empty", "empty has no image"),
        ("dicom", "dicom holds DICOM files, not NIfTI; convert it first, for example with dcm2niix"),
        ("dicom/IM0", "IM0 is a DICOM file; convert it first"),
        ("scans", "needs to know age, sex of every person"),
        ("777", "no dataset '777'"),
    ],
)
def test_impossible_inputs_are_one_line(trained, tmp_path, monkeypatch, capsys, source: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("note.txt").write_text("hello")
    Path("empty").mkdir()
    Path("dicom").mkdir()
    Path("dicom/IM0").write_bytes(bytes(128) + b"DICM")
    write_scan(Path("scans/deep/one.nii.gz"), toy_brain(0, has_hole=True))
    assert predict.main(["-i", source, "-o", "out", "-m", str(trained.run), "-device", "cpu"]) == 2
    errors = capsys.readouterr().err.splitlines()
    errors = [line for line in errors if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]


def test_a_run_of_all_cases_predicts_uncalibrated_and_a_missing_evaluation_is_named(trained, tmp_path, capsys) -> None:
    (trained.run / "crossval_results" / "metrics.json").unlink()
    arguments = ["-i", str(_table(trained)), "-o", str(tmp_path / "out"), "-m", str(trained.run), "-device", "cpu"]
    assert predict.main(arguments) == 2
    assert "metrics.json does not exist; it holds the thresholds: score the run with" in capsys.readouterr().err
    (trained.run / "fold_0").rename(trained.run / "fold_all")
    table, content = _predict(_table(trained), trained.run, tmp_path / "out", "--folds", "all")
    (fold,) = content["model"]["folds"]
    assert (fold["temperature"], fold["threshold"]) == (1.0, 0.5)
    assert content["not_checked"] == ["features"]
    positive = table["prob_AD"].astype(float) >= 0.5
    assert (table["called"] == positive.map({True: "AD", False: "CN"})).all()


def test_a_model_of_nnunets_own_preprocessing_refuses_scans_and_takes_its_datasets(trained, tmp_path, capsys) -> None:
    plans = json.loads((trained.run / "plans.json").read_text())
    plans["configurations"]["3d_fullres"]["adnext"]["prepared_by"] = "nnunet"
    (trained.run / "plans.json").write_text(json.dumps(plans))
    arguments = ["-i", str(_table(trained)), "-o", str(tmp_path / "out"), "-m", str(trained.run), "-device", "cpu"]
    assert predict.main(arguments) == 2
    assert "preprocess them as a dataset with nnUNetv2_preprocess" in capsys.readouterr().err
    assert predict.main(["-i", "301", *arguments[2:]]) == 2
    assert "the dataset was prepared differently" in capsys.readouterr().err


def test_what_was_not_trained_to_predict_is_no_model(trained, tmp_path, capsys) -> None:
    for model, message in (
        (tmp_path, "is not a trained model"),
        (trained.bundle, "install a bundle with adnext_install first"),
        ("absent", "is not a trained model"),
    ):
        arguments = ["-i", str(_table(trained)), "-o", str(tmp_path / "out"), "-m", str(model), "-device", "cpu"]
        assert predict.main(arguments) == 2
        assert message in capsys.readouterr().err
    assert predict.main([*arguments[:5], str(trained.run), "-f", "7", "-device", "cpu"]) == 2
    assert "fold_7" in capsys.readouterr().err
