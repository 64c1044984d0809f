"""Names that files and command lines give to files and folders never lead anywhere else."""

import json
import shutil

import pandas as pd
import pytest

from adnext_plugin.cli import evaluate, plan_and_preprocess, predict, quality, train
from adnext_plugin.cohort import Cohort
from adnext_plugin.errors import SettingsError, TableError
from adnext_plugin.names import LONGEST_BYTES, problem_of_file_name, require_file_name, whole_number
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.trainers.variants.adnext import ADNeXtTrainer_T

ELSEWHERE = ["../../x", "/abs/x", "..", ".", "", "a/b", "a\\b", "a\0b", "a\nb", "a\x1b[2Jb", "ä" * 121, 5, None]


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_name_that_leads_elsewhere_or_is_none_is_refused(name) -> None:
    with pytest.raises(SettingsError, match="the name of plans "):
        require_file_name(name, "the name of plans")


@pytest.mark.parametrize("name", ["sub-01_ses-M00", "..x", "李明", "a b", "x" * LONGEST_BYTES, "-1", ".hidden", "a.b"])
def test_a_plain_name_is_taken_as_it_is(name) -> None:
    assert problem_of_file_name(name) == "" and require_file_name(name, "a name") == name


@pytest.mark.parametrize("case", ["../../x", "/abs/x", "..", "a\\b", "x" * 300])
def test_a_case_of_subjects_csv_is_never_a_path(toy, tmp_path, monkeypatch, capsys, case) -> None:
    """Neither is the case written, nor what lies where it leads deleted."""
    raw = tmp_path / "raw" / "Dataset301_Toy"
    shutil.copytree(toy.raw / "Dataset301_Toy", raw, symlinks=True)
    victim = tmp_path / "preprocessed" / "x.b2nd"  # where ../../x of a dataset's volumes is
    victim.parent.mkdir()
    victim.write_text("not to be touched")
    table = pd.read_csv(raw / "subjects.csv", dtype=str)
    table.loc[3, "case_id"] = case
    table.to_csv(raw / "subjects.csv", index=False)
    monkeypatch.setenv("nnUNet_raw", str(raw.parent))
    monkeypatch.setenv("nnUNet_preprocessed", str(victim.parent))
    assert plan_and_preprocess.main(["-d", "301", "-np", "1"]) == 2
    assert "subjects.csv, line 5 (case_id" in capsys.readouterr().err
    assert victim.read_text() == "not to be touched" and len(list(victim.parent.iterdir())) == 1
    with pytest.raises(TableError, match="line 5"):
        Cohort.open(raw)


@pytest.mark.parametrize("where", ["plans", "trainer", "configuration"])
def test_a_name_on_the_command_line_is_never_a_path(toy, capsys, where) -> None:
    before = sorted(toy.preprocessed.parent.rglob("*"))
    options = {"plans": ["-p", "../../x"], "trainer": ["-tr", "../../x"], "configuration": []}[where]
    configuration = "../../x" if where == "configuration" else "3d_fullres"
    if where == "plans":
        assert plan_and_preprocess.main(["-d", "301", "-np", "1", *options]) == 2
        assert quality.main(["-d", "301", *options]) == 2
    assert train.main(["301", configuration, "0", "-device", "cpu", *options]) == 2
    assert evaluate.main(["301", "-c", configuration, *options]) == 2
    assert all(line.startswith("error: ") for line in capsys.readouterr().err.splitlines())
    assert sorted(toy.preprocessed.parent.rglob("*")) == before


@pytest.mark.parametrize("key", ["dataset_name", "plans_name", "data_identifier"])
def test_a_name_in_plans_is_never_a_path(trained, tmp_path, monkeypatch, capsys, key) -> None:
    folder = tmp_path / "preprocessed" / "Dataset301_Toy"
    shutil.copytree(trained.workspace.preprocessed / "Dataset301_Toy", folder)
    monkeypatch.setenv("nnUNet_preprocessed", str(folder.parent))
    path = folder / "ADNeXtPlans.json"
    plans = json.loads(path.read_text())
    place = plans["configurations"]["3d_fullres"] if key == "data_identifier" else plans
    place[key] = "../../x"
    path.write_text(json.dumps(plans))
    assert train.main(["301", "3d_fullres", "0", "-device", "cpu"]) == 2
    assert predict.main(["-m", str(trained.run), "-i", str(folder), "-o", str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err
    assert errors.count(f"{key} holds a separator of folders, got '../../x'") == 2 and "Traceback" not in errors
    # and where nnU-Net's own command makes the trainer, which would make the run's folder
    with pytest.raises(SettingsError, match=key):
        ADNeXtTrainer_T(plans, "3d_fullres", 0, json.loads((folder / "dataset.json").read_text()))
    assert not (tmp_path / "x").exists() and not list(tmp_path.glob("*x*"))


@pytest.mark.parametrize(
    "names", [("../T", "P", "C"), ("T", "/P", "C"), ("T", "P", ".."), ("T" * 100, "P" * 100, "C" * 50)]
)
def test_a_run_lies_in_the_folder_of_results(names, fresh) -> None:
    with pytest.raises(SettingsError):
        RunFolder.of("Dataset301_Toy", *names)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("7", 7),
        ("007", 7),
        ("9" * 18, 10**18 - 1),
        ("9" * 5000, None),
        ("²", None),
        ("٣", None),
        ("-1", None),
        ("", None),
    ],
)
def test_a_number_is_one_that_can_be_read(text: str, number: int | None) -> None:
    assert whole_number(text) == number


@pytest.mark.parametrize("number", ["9" * 5000, "²"])
def test_a_number_without_end_is_no_dataset_and_no_fold(toy, capsys, number: str) -> None:
    assert train.main([number, "3d_fullres", "0", "-device", "cpu"]) == 2
    assert train.main(["301", "3d_fullres", number, "-tr", "ADNeXtTrainer_T", "-device", "cpu"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert errors[0].startswith("error: no dataset ") and errors[1].startswith("error: there is no fold ")
