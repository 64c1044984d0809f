"""All networks of a run together on other people: by prediction's ensemble, with what the run itself chose."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import blosc2
import numpy as np
import pandas as pd
import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from scipy.special import softmax

from adnext_plugin.errors import AdnextError, PathsError, SettingsError
from adnext_plugin.images import foreground_box
from adnext_plugin.prediction.ensemble import read_stored
from adnext_plugin.prediction.from_run import read_run
from adnext_plugin.prediction.inputs import read_prepared
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.splits.audit import refuse_same_people
from adnext_plugin.stamps import OTHER_PEOPLE
from adnext_plugin.subjects import permute_targets, read_dataset
from adnext_plugin.workflows import evaluate
from adnext_plugin.workflows.evaluate_external import Request, Result, evaluate_external
from adnext_plugin.workflows.trainer_lookup import find_trainer

OWN, OTHER = "Dataset301_Toy", "Dataset302_Others"
REQUEST = {"dataset": 301, "trainer": "ADNeXtTrainer_T", "external": 302, "resamples": 100, "device": "cpu"}


@pytest.fixture
def others(trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A dataset of other people: the toy scans under new names, with other hashes."""
    preprocessed = tmp_path / "preprocessed"
    shutil.copytree(trained.workspace.preprocessed / OWN, preprocessed / OWN)
    shutil.copytree(trained.workspace.preprocessed / OWN, preprocessed / OTHER)
    monkeypatch.setenv("nnUNet_preprocessed", str(preprocessed))
    folder = preprocessed / OTHER
    _rewrite(
        folder,
        lambda table: table.assign(
            subject_id="other_" + table["subject_id"], image_sha256="other_" + table["image_sha256"]
        ),
    )
    return folder


def _rewrite(folder: Path, change) -> None:
    table = pd.read_csv(folder / "subjects.csv", dtype=str, keep_default_na=False)
    change(table).to_csv(folder / "subjects.csv", index=False)


def _logits_of_trainers(run: RunFolder, cases: list[str]) -> np.ndarray:
    """What every fold's trainer gives with its checkpoint loaded, in batches, (folds, N, classes)."""
    plans, dataset = (json.loads(path.read_text()) for path in (run.plans_file, run.dataset_file))
    found = []
    for fold in range(4):
        trainer = find_trainer(run.trainer)(plans, run.configuration, fold, dataset, device=torch.device("cpu"))
        assert isinstance(trainer, nnUNetTrainer)
        checkpoint = json.loads(run.fold(fold).summary_file.read_text())["evaluated_checkpoint"]
        trainer.load_checkpoint(str(run.fold(fold).path / checkpoint))
        loader = trainer._loader(cases)
        outputs = trainer._validate(loader)
        logits = np.concatenate([output["outputs"].double().numpy() for output in outputs])
        found.append(logits[np.argsort(np.concatenate([output["indices"].numpy() for output in outputs]))])
    return np.stack(found)


def _let_folds_choose_differently(run: RunFolder) -> None:
    """Change what every fold says of `selection`, so that temperatures and thresholds differ, and evaluate again."""
    for number in range(4):
        path = run.fold(number).predictions_file
        table = pd.read_csv(path, dtype={"subject_id": str})
        chosen_on = table["part"] == "selection"
        is_patient = table.loc[chosen_on, "target"] == "AD"
        is_wrong = table.loc[chosen_on, "subject_id"] == table.loc[chosen_on, "subject_id"].min()
        odds = np.exp((0.6 + 0.5 * number) * np.where(is_patient ^ is_wrong, 1, -1) + 0.3 * number)
        table.loc[chosen_on, "prob_AD"] = odds / (1 + odds)
        table.loc[chosen_on, "prob_CN"] = 1 / (1 + odds)
        table.to_csv(path, index=False)
    evaluate.evaluate(evaluate.Request(dataset=301, trainer="ADNeXtTrainer_T", resamples=100))


def test_answers_are_means_over_the_folds_trainers_at_their_own_temperatures(trained, others, capsys) -> None:
    _let_folds_choose_differently(RunFolder(trained.run))
    capsys.readouterr()
    result = evaluate_external(Request(**REQUEST))
    assert capsys.readouterr().out == ""
    assert list(result.table["case_id"]) == sorted(result.table["case_id"]) and len(result.table) == 17
    metrics = json.loads((trained.run / "crossval_results" / "metrics.json").read_text())
    temperatures = np.array([one["value"] for one in metrics["details"]["temperatures"]])
    assert np.ptp(temperatures) > 0.3
    # the scans are those that were trained on, so that the trainers find them, age and sex under these names
    logits = _logits_of_trainers(RunFolder(trained.run), list(result.table["case_id"]))
    expected = softmax(logits / temperatures[:, None, None], axis=2).mean(axis=0)
    np.testing.assert_allclose(result.table[["prob_CN", "prob_AD"]], expected, atol=2e-6)
    written = json.loads(result.folder.metrics_file.read_text())
    np.testing.assert_allclose(written["temperatures"], temperatures, rtol=1e-12)
    frozen = [
        1 / (1 + ((1 - fold["threshold"]) / fold["threshold"]) ** (1 / temperature))
        for fold, temperature in zip(metrics["folds"], temperatures, strict=True)
    ]
    assert written["threshold"] == pytest.approx(np.mean(frozen), abs=1e-12)
    assert np.ptp(frozen) > 0.01
    called = result.predictions.probabilities[:, 1] >= np.mean(frozen)
    assert result.scores["accuracy"].value == pytest.approx((called == result.predictions.targets).mean())
    assert written["networks"] == 4 and written["subjects"] == 16 and written["trained_on"] == OWN


def test_only_those_in_the_table_are_predicted_and_all_of_them(others) -> None:
    _rewrite(others, lambda table: table[table["subject_id"] != "other_sub03"])
    result = evaluate_external(Request(**REQUEST))
    assert "sub03_M00" not in set(result.table["case_id"]) and len(result.table) == 16
    (others / "ADNeXtPlans_3d_fullres" / "sub05_M00.b2nd").unlink()
    with pytest.raises(PathsError, match=r"1 of 16 cases are not in .*, the first is 'sub05_M00'"):
        evaluate_external(Request(**REQUEST))


def test_a_damaged_case_stops_the_evaluation_and_leaves_no_result(trained, others) -> None:
    (others / "ADNeXtPlans_3d_fullres" / "sub05_M00.b2nd").write_bytes(b"nothing")
    with pytest.raises(AdnextError, match=r"sub05_M00\.b2nd"):
        evaluate_external(Request(**REQUEST))
    assert not (trained.run / "external").exists()


def test_targets_may_have_another_name_in_the_other_dataset(others) -> None:
    expected = evaluate_external(Request(**REQUEST))
    content = json.loads((others / "dataset.json").read_text())
    content["adnext"]["target"] = "dx"
    (others / "dataset.json").write_text(json.dumps(content))
    _rewrite(others, lambda table: table.rename(columns={"diagnosis": "dx"}))
    assert evaluate_external(Request(**REQUEST)).scores == expected.scores


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda task: task.update(classes=["CN", "MCI"]),
            "is for classification of CN, MCI, but the model for classification of CN, AD",
        ),
        (lambda task: task.update(kind="unlabelled", target=None, classes=[]), "imported without a target"),
    ],
)
def test_a_dataset_for_another_task_is_refused(others, change, message: str) -> None:
    content = json.loads((others / "dataset.json").read_text())
    change(content["adnext"])
    (others / "dataset.json").write_text(json.dumps(content))
    if "MCI" in json.dumps(content):
        _rewrite(others, lambda table: table.assign(diagnosis=table["diagnosis"].replace("AD", "MCI")))
    with pytest.raises(SettingsError, match=message):
        evaluate_external(Request(**REQUEST))


def test_a_dataset_without_the_plans_or_a_needed_column_is_refused(others) -> None:
    _rewrite(others, lambda table: table.drop(columns="age"))
    with pytest.raises(SettingsError, match=r"needs to know age, sex of every person, but .* does not say age"):
        evaluate_external(Request(**REQUEST))
    (others / "ADNeXtPlans.json").unlink()
    with pytest.raises(PathsError, match="preprocess the dataset with the same preset as the one trained on"):
        evaluate_external(Request(**REQUEST))


def test_a_run_on_permuted_labels_is_judged_on_permuted_labels(trained, others) -> None:
    honest = evaluate_external(Request(**REQUEST))
    task, subjects = read_dataset(others)
    own_task, own = read_dataset(others.with_name(OWN))
    dealt = permute_targets(own, own_task, 5).set_index("case_id")["diagnosis"]
    for fold in range(4):  # what training on permuted labels writes down
        folder = RunFolder(trained.run).fold(fold)
        summary = json.loads(folder.summary_file.read_text())
        folder.summary_file.write_text(json.dumps({**summary, "permute_labels": 5, "warning": "PERMUTED"}))
        table = pd.read_csv(folder.predictions_file, dtype={"subject_id": str})
        table.assign(target=table["case_id"].map(dealt)).to_csv(folder.predictions_file, index=False)
    permuted: Result = evaluate_external(Request(**REQUEST))
    assert permuted.warning == "PERMUTED"
    expected = permute_targets(subjects, task, 5).set_index("case_id")["diagnosis"]
    assert list(permuted.table["target"]) == list(expected[permuted.table["case_id"]])
    assert list(permuted.table["target"]) != list(honest.table["target"])


def test_volumes_that_nnunet_prepared_have_the_voxels_of_their_own_dataset(trained, others) -> None:
    model = read_run(RunFolder(trained.run)).description
    model = replace(model, plan=replace(model.plan, prepared_by="nnunet"), stored_spacing_mm=(1.0, 1.0, 1.0))
    plans = json.loads((others / "ADNeXtPlans.json").read_text())
    configuration = plans["configurations"]["3d_fullres"]
    configuration["adnext"]["prepared_by"] = "nnunet"
    configuration["spacing"] = [5.0, 2.5, 1.25]
    (others / "ADNeXtPlans.json").write_text(json.dumps(plans))
    volume = np.zeros((1, 14, 14, 14), dtype=np.float32)
    volume[:, 2:12, 2:12, 2:12] = 1
    path = others / configuration["data_identifier"] / "sub00_M00.b2nd"
    path.unlink()
    blosc2.asarray(volume, urlpath=str(path))
    inputs = read_prepared(others, model)
    index = next(number for number, scan in enumerate(inputs.scans) if scan.case_id == "sub00_M00")
    found = read_stored(inputs, index, model).image_czyx[0]
    # 10 voxels of 5, 2.5 and 1.25 mm are 20, 10 and 5 of the network's 2.5 mm
    assert [axis.stop - axis.start for axis in foreground_box(found)] == [20, 10, 5]


def test_two_sites_that_number_alike_pass_with_a_reason_that_is_stamped(others) -> None:
    _rewrite(others, lambda table: table.assign(subject_id=table["subject_id"].str.removeprefix("other_")))
    with pytest.raises(AdnextError, match=r"17 of 17 cases, .* show a subject .*--other-people REASON"):
        evaluate_external(Request(**REQUEST))
    result = evaluate_external(Request(**REQUEST, other_people="two hospitals"))
    written = json.loads(result.folder.metrics_file.read_text())
    assert written["warning"] == result.warning == OTHER_PEOPLE
    with pytest.raises(SettingsError, match="needs a reason"):
        Request(**REQUEST, other_people=" ")


def test_people_are_the_same_by_image_or_name_but_not_by_missing_hashes() -> None:
    own = pd.DataFrame({"case_id": ["a", "b"], "subject_id": ["s1", "s2"], "image_sha256": ["x", ""]})
    others = pd.DataFrame({"case_id": ["c", "d"], "subject_id": ["t1", "t2"], "image_sha256": ["", "y"]})
    refuse_same_people(own, others)
    refuse_same_people(own.drop(columns="image_sha256"), others)
    with pytest.raises(AdnextError, match="1 of 2 cases, the first 'd', show a scan"):
        refuse_same_people(own, others.assign(image_sha256=["", "x"]))
    with pytest.raises(AdnextError, match="1 of 2 cases, the first 'c', show a subject"):
        refuse_same_people(own, others.assign(subject_id=["s2", "t2"]))
