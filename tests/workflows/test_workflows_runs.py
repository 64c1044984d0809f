"""Use cases as a Python program calls them: a request goes in, a result comes out, nothing is printed."""

import json
from dataclasses import FrozenInstanceError, asdict

import numpy as np
import pandas as pd
import pytest

from adnext_plugin.errors import AdnextError, PathsError, SettingsError, TableError, UnknownNameError, WeightsError
from adnext_plugin.plans.advice import advice, recommended_trainer
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.workflows import audit, compare, demo, evaluate, probe, report, train
from adnext_plugin.workflows.common import DatasetRequest
from adnext_plugin.workflows.unnamed_trainer import trainer_that_was_trained, trainer_to_begin_with

DATASET = "Dataset301_Toy"
TINY = {"dataset": 301, "trainer": "ADNeXtTrainer_T"}
SETTINGS = {"epochs": 1, "learning_rate": 1e-2, "augmentation": "none"}


def test_one_fold_is_trained_and_what_was_searched_before_is_told(toy, capsys) -> None:
    told: list[str] = []
    request = train.Request(**TINY, fold=1, settings=SETTINGS, device="cpu")
    result = train.train(request, told.append)
    assert result.run == RunFolder(toy.results / DATASET / "ADNeXtTrainer_T__ADNeXtPlans__3d_fullres")
    assert result.folds == (1,) and result.evaluation is None and not result.further_seeds
    assert told[0].startswith("Audit: nobody on both sides of a fold") and told[-1].startswith("Held-out fold 1: AUC")
    assert told[0] not in capsys.readouterr().out  # which has nnU-Net's own log alone
    assert json.loads(result.run.fold(1).summary_file.read_text())["epochs"] == 1
    settings = json.loads(result.run.fold(1).run_file.read_text())["settings"]
    assert {name: settings[name] for name in SETTINGS} == SETTINGS

    seen = train.Request(
        **TINY,
        fold=0,
        settings=SETTINGS,
        device="cpu",
        pretrained_weights=result.run.fold(1).path / "checkpoint_final.pth",
    )
    with pytest.raises(AdnextError, match=r"is held out and was seen by fold_1/checkpoint_final\.pth"):
        train.train(seen)
    assert not result.run.fold(0).path.exists()


def test_a_trainer_need_not_be_named_to_begin_with_nor_where_there_is_one(trained) -> None:
    told: list[str] = []
    which = DatasetRequest(dataset=301)
    assert trainer_to_begin_with(which, "cpu", told.append) == "ADNeXtTrainer_T_Small"
    learn_from = len(json.loads((which.dataset_folder / "splits_final.json").read_text())[0]["train"])
    assert told.pop().startswith(f"Training ADNeXtTrainer_T_Small, recommended for {learn_from} subjects")
    # of pre-training, which has fold_all alone, there is nothing to evaluate
    (trained.run.parent / "ADNeXtFCMAETrainer_T__ADNeXtPlans__3d_fullres" / "fold_all").mkdir(parents=True)
    assert trainer_that_was_trained(which, told.append) == "ADNeXtTrainer_T"
    assert told == ["Run: ADNeXtTrainer_T, the only one of Dataset301_Toy."]
    (trained.run.parent / "ADNeXtTrainer_B__ADNeXtPlans__3d_fullres" / "fold_2").mkdir(parents=True)
    with pytest.raises(PathsError, match="has runs of ADNeXtTrainer_B, ADNeXtTrainer_T; say which with -tr"):
        trainer_that_was_trained(which)
    with pytest.raises(PathsError, match="no fold of Dataset301_Toy has been trained under Other"):
        trainer_that_was_trained(DatasetRequest(dataset=301, plans="Other"))


@pytest.mark.parametrize(
    ("learn_from", "has_gpu", "name"),
    [(999, True, "T_Small"), (1000, True, "B"), (1000, False, "T_Small"), (50, False, "T_Small")],
)
def test_the_recommended_trainer_is_that_of_the_advice(learn_from: int, has_gpu: bool, name: str) -> None:
    assert recommended_trainer(learn_from, has_gpu=has_gpu) == f"ADNeXtTrainer_{name}"
    assert f"-tr ADNeXtTrainer_{name}" in advice(learn_from, 10, 20, 4, None if has_gpu else 2)


def test_a_reason_to_skip_the_search_is_told(toy) -> None:
    told: list[str] = []
    request = train.Request(**TINY, fold=7, settings={"skip_audit": "twins"}, device="cpu")
    with pytest.raises(SettingsError, match="there is no fold 7; give 0 to 3"):
        train.train(request, told.append)
    assert told == []
    with pytest.raises(PathsError, match=r"checkpoint_final\.pth"):
        train.train(
            train.Request(**TINY, fold=0, settings={"skip_audit": "twins"}, device="cpu", only_validate=True),
            told.append,
        )
    assert told == ["AUDIT SKIPPED: twins"]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: train.Request(**TINY, fold=0, resume=True, only_validate=True), SettingsError, "give one of them"),
        (lambda: train.Request(**TINY, fold=0, resume=True, restart=True), SettingsError, "--c continues a run; give"),
        (lambda: train.Request(**TINY, fold=0, restart=True, only_validate=True), SettingsError, "--val judges"),
        (lambda: train.Request(**TINY, fold=0, seeds=2), SettingsError, "'cv' instead of a fold"),
        (lambda: train.Request(**TINY, fold="cv", seeds=0), SettingsError, "a number from 1 on"),
        (lambda: train.Request(**TINY, fold=0, resume=True, pretrained_weights="a.pth"), WeightsError, "own weights"),
        (lambda: evaluate.Request(**TINY, resamples=99), SettingsError, "at least 100"),
        (lambda: probe.Request(**TINY, seed=-1), SettingsError, "--seed must be from 0 to 4294967295, got -1"),
        (lambda: demo.Request(seed=2**32), SettingsError, "--seed must be from 0 to 4294967295"),
        (lambda: demo.Request(effect=float("nan")), SettingsError, "--effect must be a number from 0 on, got nan"),
        (lambda: compare.Request(dataset=301, runs=("A",)), SettingsError, "at least two runs, got 'A' alone"),
        (lambda: compare.Request(dataset=301, runs=()), SettingsError, "got none"),
        (lambda: compare.Request(dataset=301, runs=("A", "B"), resamples=9), SettingsError, "at least 100"),
    ],
)
def test_an_impossible_request_cannot_be_made(make, error: type[AdnextError], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"dataset": 555}, PathsError, "no dataset '555'"),
        ({"configuration": "3d_lowres"}, SettingsError, "no configuration '3d_lowres'"),
        ({"trainer": "ADNeXtTrainer_X"}, UnknownNameError, "did you mean 'ADNeXtTrainer_"),
        ({"settings": {"epoch": 3}}, SettingsError, "unknown key 'epoch'; did you mean 'epochs'"),
        ({"pretrained_weights": "absent.pth"}, PathsError, "absent.pth does not exist"),
        ({"fold": "two"}, SettingsError, "there is no fold two"),
        ({"settings": {"permute_labels": -1}}, SettingsError, "permute_labels must be from 0 to 4294967295, got -1"),
        ({"settings": {"seed": -3}}, SettingsError, "seed must be from 0 to 4294967295, got -3"),
        ({"settings": {"seed": 2**32}}, SettingsError, "seed must be from 0"),
    ],
)
def test_what_cannot_be_trained_is_an_error_of_its_kind(
    toy, changed: dict, error: type[AdnextError], message: str
) -> None:
    with pytest.raises(error, match=message):
        train.train(train.Request(**{**TINY, "fold": 0, "device": "cpu", **changed}))
    assert not list(toy.results.rglob("*.pth"))


def test_an_evaluation_is_returned_as_it_is_written_and_again_the_same(trained, capsys) -> None:
    run = RunFolder(trained.run)
    files = (run.evaluation.metrics_file, run.evaluation.predictions_file)
    before = [path.read_bytes() for path in files]
    shown: list[evaluate.Result] = []
    result = evaluate.evaluate(evaluate.Request(**TINY), shown.append)
    assert capsys.readouterr() == ("", "")
    assert [path.read_bytes() for path in files] == before  # those of adnext_train cv
    metrics = json.loads(run.evaluation.metrics_file.read_text())
    assert json.loads(json.dumps(asdict(result.evaluation))).items() <= metrics.items()
    assert list(result.notes) == metrics["notes"] and result.seeds is None and result.inflation_meter is None
    assert (shown[0].evaluation, shown[0].report) == (result.evaluation, None) and len(shown) == 1
    assert result.report == run.evaluation.report_file and result.report_problem is None
    written = pd.read_csv(run.evaluation.predictions_file, float_precision="round_trip")
    np.testing.assert_array_equal(written["prob_AD"], result.table["prob_AD"])
    assert len(result.predictions.targets) == result.evaluation.subjects == 16
    with pytest.raises(FrozenInstanceError):
        result.warning = "none"


def test_scores_are_shown_before_features_are_probed(trained) -> None:
    shown: list[evaluate.Result] = []
    request = evaluate.Request(**TINY, resamples=100, probes=("sex", "sex"), device="cpu")
    result = evaluate.evaluate(request, shown.append)
    assert shown[0].probes == () and [one.column for one in result.probes] == ["sex"]
    written = json.loads(result.folder.metrics_file.read_text())["probes"]
    assert written == json.loads(json.dumps([asdict(one) for one in result.probes]))
    with pytest.raises(TableError, match=r"--probe: subjects\.csv has no column 'seks'"):
        evaluate.evaluate(evaluate.Request(**TINY, probes=("seks",)), shown.append)
    assert len(shown) == 1


def test_an_evaluation_without_logs_says_why_it_has_no_report(trained) -> None:
    RunFolder(trained.run).fold(2).run_file.unlink()
    result = evaluate.evaluate(evaluate.Request(**TINY, resamples=100))
    assert result.report is None and result.report_problem is not None and "fold_2" in result.report_problem
    with pytest.raises(PathsError, match="fold_2"):
        report.report(report.Request(**TINY))


def test_a_run_is_compared_with_its_like(trained, tmp_path, capsys) -> None:
    twin = trained.run.with_name("Twin__ADNeXtPlans__3d_fullres")
    twin.symlink_to(trained.run)
    output = tmp_path / "comparison.json"
    request = compare.Request(dataset=301, runs=("ADNeXtTrainer_T", "Twin"), resamples=100, output=output)
    with pytest.raises(SettingsError, match="is named twice"):
        compare.compare(request)
    twin.unlink()
    (twin / "crossval_results").mkdir(parents=True)
    for name in ("metrics.json", "predictions.csv"):
        (twin / "crossval_results" / name).write_bytes((trained.run / "crossval_results" / name).read_bytes())
    result = compare.compare(request)
    assert capsys.readouterr() == ("", "")
    assert [run.path for run in result.runs] == [trained.run, twin] and result.warnings == ()
    (pair,) = result.comparison.pairs
    difference = pair.tests.auc_difference
    assert (difference.value, difference.low, difference.note) == (0, None, "the two order the subjects alike")
    content = json.loads(output.read_text())
    assert json.loads(json.dumps(asdict(result.comparison))).items() <= content.items()
    assert content["splits_sha256"] == result.cohort.splits_sha256

    page = report.report(report.Request(**TINY, comparison=output, output=tmp_path / "page.html")).page
    assert "Twin" in page.read_text() and capsys.readouterr().out == ""


def test_an_audit_returns_its_findings(trained, tmp_path, capsys) -> None:
    request = audit.Request(dataset=301, trainer="ADNeXtTrainer_T", output=tmp_path / "audit.json")
    result = audit.audit(request)
    assert capsys.readouterr().out == ""
    assert result.leaks == () and result.file == tmp_path / "audit.json"
    assert json.loads(result.file.read_text())["checks"] == json.loads(
        json.dumps([asdict(one) for one in result.checks])
    )
    # the copies of these runs have no last checkpoints, so that there is nothing to ask them
    assert len(result.checks) == 5 and result.checks[3].name == "other data than those trained on"
    with pytest.raises(PathsError, match="train first"):
        audit.audit(audit.Request(dataset=301, trainer="ADNeXtTrainer_L"))
