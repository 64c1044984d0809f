"""Importing, planning, training, evaluating and comparing from Python: the commands' files, and clear refusals."""

import filecmp
import json
import shutil

import pandas as pd
import pytest
from conftest import PRESET, write_cohort

import adnext_plugin as a
from adnext_plugin.cli import compare, evaluate
from adnext_plugin.errors import ImageError, PathsError, SettingsError, TableError, UnknownNameError
from adnext_plugin.plan import Plan
from adnext_plugin.records import from_json

CLASSES = {"CN": ["CN"], "AD": ["AD"]}


def test_importing_and_planning_write_what_the_commands_write(toy_workspace, fresh) -> None:
    said: list[str] = []
    table = toy_workspace.source / "table.csv"
    dataset = a.import_dataset(
        301, "Toy", table=table, target="diagnosis", classes=CLASSES, with_masks=True, processes=1, tell=said.append
    )
    assert (dataset.cases, dataset.task.classes) == (17, ("CN", "AD"))
    assert said[-1] == f"17 cases are in {fresh.raw / 'Dataset301_Toy'}"
    names = ["subjects.csv", "dataset.json", "import_report.json"]
    by_command = toy_workspace.raw / "Dataset301_Toy"
    assert filecmp.cmpfiles(dataset.folder, by_command, names, shallow=False)[0] == names

    prepared = a.plan_and_preprocess(301, preset=from_json(Plan, PRESET, "preset"), processes=1, tell=said.append)
    assert (prepared.folds, prepared.scans, len(prepared.prepared), prepared.reused) == (4, 17, 17, ())
    by_command = toy_workspace.preprocessed / "Dataset301_Toy"
    names = ["ADNeXtPlans.json", "splits_final.json"]
    assert filecmp.cmpfiles(prepared.folder, by_command, names, shallow=False)[0] == names
    volumes = [path.name for path in prepared.prepared_folder.glob("*.b2nd")]
    same = filecmp.cmpfiles(
        prepared.prepared_folder, by_command / prepared.prepared_folder.name, volumes, shallow=False
    )
    assert sorted(same[0]) == sorted(volumes) and len(volumes) == 17
    again = a.plan_and_preprocess(301, preset=toy_workspace.source / "preset.json", processes=1, tell=said.append)
    assert again.prepared == () and len(again.reused) == 17


def test_scans_that_fail_are_an_error_and_cost_no_other(fresh) -> None:
    table = write_cohort(fresh.source)
    a.import_dataset(7, "Toy", table=table, target="diagnosis", classes=CLASSES, processes=1, tell=lambda _: None)
    (fresh.source / "sub03_M00.nii.gz").write_bytes(b"damaged since")
    options = {"input_size_voxels": (16, 16, 16), "brain_extraction": "none", "processes": 1, "tell": lambda _: None}
    with pytest.raises(ImageError, match=r"1 of 17 cases failed, the first is sub03_M00: .*sub03_M00"):
        a.plan_and_preprocess(7, **options)
    assert len(list((fresh.preprocessed / "Dataset007_Toy").glob("*/*.b2nd"))) == 16


def test_a_fold_is_trained_with_the_settings_given(toy) -> None:
    said: list[str] = []
    options = {"epochs": 1, "learning_rate": 1e-2, "augmentation": "none", "seed": 3}
    done = a.train(301, 2, trainer="ADNeXtTrainer_T", device="cpu", tell=said.append, **options)
    assert done.folds == (2,) and done.evaluation is None
    settings = json.loads(done.run.fold(2).run_file.read_text())["settings"]
    assert {name: settings[name] for name in options} == options
    assert len(pd.read_csv(done.run.fold(2).predictions_file)) > 4
    assert said[0].startswith("Audit") and said[-1].startswith("Held-out fold 2: AUC") and len(said) == 4


def test_evaluating_and_comparing_give_what_the_commands_write(trained, tmp_path) -> None:
    other = trained.run.with_name("ADNeXtTrainer_S__ADNeXtPlans__3d_fullres")
    shutil.copytree(trained.run, other)
    files = [trained.run / "crossval_results" / name for name in ("metrics.json", "predictions.csv")]
    arguments = ["301", "-tr", "ADNeXtTrainer_T", "--resamples", "300", "--baseline", "age", "--prevalence", "0.2"]
    assert evaluate.main(arguments) == 0
    by_command = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()
    results = a.evaluate(301, trainer="ADNeXtTrainer_T", resamples=300, baselines=[["age"]], prevalences=[0.2])
    assert [file.read_bytes() for file in files] == by_command
    assert results.metrics["scores"] == json.loads(by_command[0])["scores"]

    runs = ["ADNeXtTrainer_T", str(other)]
    assert compare.main(["301", *runs, "--resamples", "300", "-o", str(tmp_path / "command.json")]) == 0
    found = a.compare(301, ["ADNeXtTrainer_T", other], resamples=300, output=tmp_path / "api.json")
    assert (tmp_path / "api.json").read_bytes() == (tmp_path / "command.json").read_bytes()
    (pair,) = found.comparison.pairs
    assert pair.tests.auc_difference.value == 0  # of a run with its copy


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: a.train(99), PathsError, "no dataset '99'"),
        (lambda: a.train(301, 9, device="cpu"), SettingsError, "there is no fold 9; give 0 to 3"),
        (
            lambda: a.train(301, 0, trainer="ADNextTrainer_T", device="cpu"),
            UnknownNameError,
            "did you mean 'ADNeXtTrai",
        ),
        (lambda: a.train(301, 0, trainer="ADNeXtTrainer_T", device="cpu", epoch=1), SettingsError, "mean 'epochs'"),
        (lambda: a.evaluate(301, trainer="ADNeXtTrainer_S"), PathsError, "train first"),
        (lambda: a.evaluate(301, trainer="ADNeXtTrainer_T", resamples=3), SettingsError, "at least 100"),
        (lambda: a.compare(301, ["ADNeXtTrainer_T"]), SettingsError, "at least two runs"),
        (lambda: a.plan_and_preprocess(301, preset="papr"), UnknownNameError, "did you mean 'paper'"),
        (lambda: a.plan_and_preprocess(301, spacing=(1, 1, 1)), SettingsError, "unknown key 'spacing'"),
        (lambda: a.import_dataset(302, "New", target="x"), SettingsError, "either --table or --bids"),
        (lambda: a.import_dataset(302, "New", table="t.csv"), SettingsError, "give one of --target"),
        (lambda: a.import_dataset(302, "New", table="t.csv", target="x"), (PathsError, TableError), r"t\.csv"),
        (lambda: a.import_dataset(0, "New", table="t.csv", target="x"), SettingsError, "1 to 999, got 0"),
    ],
)
def test_a_mistake_is_one_clear_line(toy, call, error, message) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert isinstance(caught.value, a.AdnextError) and "\n" not in str(caught.value)
