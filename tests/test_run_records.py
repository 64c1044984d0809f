"""What is written of runs is read as records, also as 0.1.0 wrote it, and refused where it is something else."""

import json
import math
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from adnext_plugin.case_properties import read_case_properties
from adnext_plugin.cohort import Cohort
from adnext_plugin.errors import AdnextError, FormatError, SettingsError, WeightsError
from adnext_plugin.evaluation.subjects.evaluated_runs import read_run as read_evaluation
from adnext_plugin.evaluation.subjects.fold_files import read_folds
from adnext_plugin.paths import BLOCK
from adnext_plugin.prediction.from_run import read_run
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.run_metrics import RunMetrics, read_metrics, write_metrics
from adnext_plugin.run_records import (
    FoldSummary,
    PretrainingSummary,
    Provenance,
    RunInfo,
    read_fold_summary,
    read_run_info,
    read_summary,
    write_run_info,
    write_summary,
)
from adnext_plugin.training.checkpoint_notes import CheckpointNotes, find_notes, notes_of
from adnext_plugin.training.provenance import provenance
from adnext_plugin.training.weights import read_checkpoint

# of two toy runs of one epoch, classes with covariates and a number; checkpoints without their tensors
OLD = Path(__file__).parent / "files_of_0_1_0"
RUNS = {
    name: RunFolder(OLD / "results" / name / "ADNeXtTrainer_T__ADNeXtPlans__3d_fullres")
    for name in ("Dataset301_Toy", "Dataset302_Age")
}
STAMP = ("format", "format_version")


def _unstamped(path: Path) -> dict[str, Any]:
    return {key: value for key, value in json.loads(path.read_text()).items() if key not in STAMP}


# ---------------------------------------------------------------------- version 0.1.0


@pytest.mark.parametrize("dataset", RUNS)
def test_files_of_version_0_1_0_are_read_and_written_again_with_the_same_content(dataset, tmp_path) -> None:
    run, again = RUNS[dataset], tmp_path / "again.json"
    for fold in map(run.fold, range(4)):
        write_summary(read_fold_summary(fold.summary_file), again)
        assert json.dumps(_unstamped(again)) == json.dumps(json.loads(fold.summary_file.read_text()))
        write_run_info(read_run_info(fold.run_file), again)
        assert json.dumps(_unstamped(again)) == json.dumps(json.loads(fold.run_file.read_text()))
    write_metrics(read_metrics(run.evaluation.metrics_file), again)
    stored = json.loads(run.evaluation.metrics_file.read_text())
    assert json.dumps(_without_empty_notes(_unstamped(again))) == json.dumps(_without_empty_notes(stored))


def _without_empty_notes(content: Any) -> Any:
    """Estimates of that version had no place to say why they have no interval."""
    if isinstance(content, dict):
        kept = {name: value for name, value in content.items() if (name, value) != ("note", None)}
        return {name: _without_empty_notes(value) for name, value in kept.items()}
    return [_without_empty_notes(value) for value in content] if isinstance(content, list) else content


@pytest.mark.parametrize("dataset", RUNS)
def test_a_checkpoint_of_version_0_1_0_keeps_its_notes(dataset) -> None:
    for fold in map(RUNS[dataset].fold, range(4)):
        checkpoint = read_checkpoint(fold.checkpoint_best)
        again = notes_of(checkpoint, fold.checkpoint_best).block()
        assert [again.pop(key) for key in STAMP] == ["adnext_checkpoint", 1]
        assert again["pretraining_data"].pop("people") == []  # which that version did not list
        assert json.dumps(again) == json.dumps(checkpoint[BLOCK])


def test_a_run_of_version_0_1_0_is_evaluated_compared_and_predicts() -> None:
    cohort, run = Cohort.open(OLD / "preprocessed" / "Dataset301_Toy"), RUNS["Dataset301_Toy"]
    files = read_folds(run, cohort, "")
    assert (files.protocol, files.warning, len(files.cohort.subjects)) == ("honest", None, 17)
    assert [summary.best_epoch for summary in files.summaries] == [0] * 4
    compared = read_evaluation(run, cohort.task)
    assert compared.splits_sha256 == cohort.splits_sha256 and len(compared.predictions.targets) == 16
    model = read_run(run).description
    assert [fold.name for fold in model.folds] == ["0", "1", "2", "3"]
    assert model.folds[0].covariate_scale.names == ("age", "sex")
    assert model.trained_with["torch"].startswith("2.") and len(model.trained_with) == 8


def test_a_model_whose_folds_were_trained_on_different_devices_names_them_all(tmp_path) -> None:
    run = RunFolder(shutil.copytree(RUNS["Dataset301_Toy"].path, tmp_path / RUNS["Dataset301_Toy"].path.name))
    for number, device in enumerate(("cuda:0 NVIDIA H100", "cuda:0 NVIDIA H100", "cpu AMD EPYC", "cuda:0 NVIDIA A100")):
        path = run.fold(number).checkpoint_best
        checkpoint = torch.load(path, weights_only=False)
        checkpoint[BLOCK]["device"] = device
        torch.save(checkpoint, path)
    assert read_run(run).description.trained_with["device"] == "cuda:0 NVIDIA H100, cpu AMD EPYC, cuda:0 NVIDIA A100"


def test_a_regression_of_version_0_1_0_predicts_in_the_unit_of_its_target() -> None:
    model = read_run(RUNS["Dataset302_Age"]).description
    assert all(60 < fold.target_scale.mean < 76 and fold.threshold is None for fold in model.folds)
    assert read_metrics(RUNS["Dataset302_Age"].evaluation.metrics_file).details is None


def test_a_pretraining_and_a_prepared_case_of_version_0_1_0_are_read() -> None:
    summary = read_summary(OLD / "pretraining" / "summary.json")
    assert isinstance(summary, PretrainingSummary) and summary.cases == 5
    assert set(summary.report["mean_squared_error_of_masked_voxels"]) > {"network"}
    assert read_case_properties(OLD / "case.pkl").fit == "pad_crop"


# ---------------------------------------------------------------------- written and read now

SUMMARY = FoldSummary(
    trainer="T",
    protocol="paper",
    fold=3,
    epochs=2,
    best_epoch=None,
    evaluated_checkpoint="checkpoint_final.pth",
    seed=1,
    metrics={"val": {"cases": 4, "auc": float("nan"), "loss": 0.1}},
    warning="OPTIMISTIC",
    permute_labels=5,
)
MADE_WITH = Provenance(**dict.fromkeys(Provenance.__dataclass_fields__, "x"))
INFO = RunInfo(settings={"epochs": 3, "augmentation": "none", "seed": 1}, provenance=MADE_WITH)


def test_what_trained_is_what_the_record_has_a_place_for() -> None:
    assert list(provenance()) == list(Provenance.__dataclass_fields__)


def test_records_of_a_fold_are_read_as_they_were_written(tmp_path) -> None:
    path = tmp_path / "summary.json"
    write_summary(SUMMARY, path)
    found = read_fold_summary(path)
    assert math.isnan(found.metrics["val"]["auc"]) and isinstance(found.metrics["val"]["cases"], int)
    assert replace(found, metrics={}) == replace(SUMMARY, metrics={})
    pretraining = PretrainingSummary(
        trainer="P", fold="all", epochs=1, seed=1, cases=0, report={"mse": {"network": 1.5}}
    )
    write_summary(pretraining, path)
    assert read_summary(path) == pretraining and json.loads(path.read_text())["mse"] == {"network": 1.5}
    write_run_info(INFO, path)
    assert read_run_info(path) == INFO


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"covariates": 3, "protocol": "honest"}, SettingsError, "covariates"),
        ({"epochs": "many"}, SettingsError, "epochs"),
        ({"epochs": 0}, SettingsError, "epochs must be at least 1"),
        ({"augmentation": None}, SettingsError, "augmentation"),
        ({"seed": ...}, FormatError, "'seed' is missing; train the fold again"),
        ({"of_my_own": [1]}, None, ""),  # of a trainer of another package
    ],
)
def test_settings_that_no_run_can_have_had_are_refused_in_one_line(tmp_path, change, error, message) -> None:
    path = tmp_path / "run.json"
    settings = {name: value for name, value in {**INFO.settings, **change}.items() if value is not ...}
    write_run_info(replace(INFO, settings=settings), path)
    if error is None:
        assert read_run_info(path).settings == settings
        return
    with pytest.raises(error, match=message) as refused:
        read_run_info(path)
    assert str(path) in str(refused.value)


def test_a_file_says_first_what_it_is(tmp_path) -> None:
    write_summary(SUMMARY, tmp_path / "summary.json")
    content = json.loads((tmp_path / "summary.json").read_text())
    assert list(content.items())[:2] == [("format", "adnext_fold_summary"), ("format_version", 1)]


def test_nnunets_own_keys_may_stand_beside_ours(tmp_path) -> None:
    path = tmp_path / "summary.json"
    write_summary(SUMMARY, path)
    content = json.loads(path.read_text())
    path.write_text(json.dumps({"metric_per_case": [], "mean": {}, **content, "foreground_mean": {}}))
    assert read_fold_summary(path).permute_labels == 5


def _of_0_1_0(content: dict[str, Any], without: str) -> None:
    for key in (*STAMP, without):
        del content[key]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            lambda it: it.update(format_version=2),
            FormatError,
            r"format version 2, .* reads up to 1; install",
        ),
        (lambda it: it.update(format_version="new"), FormatError, "format version 'new'"),
        (lambda it: it.update(format="somebodys"), FormatError, "is not a summary of an AD-NeXt trainer"),
        (lambda it: _of_0_1_0(it, "protocol"), FormatError, r"is not a summary of an AD-NeXt trainer .*adnext_train"),
        (lambda it: it.update(epoch=3), SettingsError, r"unknown key 'epoch'; did you mean 'epochs'"),
        (lambda it: _of_0_1_0(it, "seed"), SettingsError, "'seed' is missing"),
        (lambda it: it.update(protocol="honset"), SettingsError, "protocol = 'honset'"),
    ],
)
def test_a_summary_of_something_else_is_refused_in_one_line(tmp_path, change, error, message) -> None:
    path = tmp_path / "summary.json"
    write_summary(SUMMARY, path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(error, match=message) as found:
        read_fold_summary(path)
    assert str(path) in str(found.value) and "\n" not in str(found.value)


def test_a_summary_of_nnunets_own_trainers_and_one_of_pretraining_are_told_from_a_models(tmp_path) -> None:
    path = tmp_path / "summary.json"
    path.write_text(json.dumps({"foreground_mean": {}, "mean": {}, "metric_per_case": []}))
    with pytest.raises(FormatError, match="is not a summary of an AD-NeXt trainer that predicts"):
        read_summary(path)
    with pytest.raises(FormatError, match="a pre-trained encoder is not a model yet"):
        read_fold_summary(OLD / "pretraining" / "summary.json")


def _metrics() -> RunMetrics:
    return read_metrics(RUNS["Dataset301_Toy"].evaluation.metrics_file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(format_version=3), "format version 3"),
        (lambda content: content.pop("splits_sha256") and content.pop("format"), "is not what adnext_evaluate writes"),
        (lambda content: content["folds"][0].update(treshold=1), r"unknown key 'folds.0.treshold'"),
        (lambda content: content["scores"]["brier"].pop("low"), "'scores.brier.low' is missing"),
        (lambda content: content["details"].pop("temperatures"), "'details.temperatures' is missing"),
    ],
)
def test_metrics_of_something_else_are_refused_in_one_line(tmp_path, change, message) -> None:
    path = tmp_path / "metrics.json"
    write_metrics(_metrics(), path)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(AdnextError, match=message) as found:
        read_metrics(path)
    assert str(path) in str(found.value) and "\n" not in str(found.value)


def test_probes_and_a_warning_are_in_the_file_only_where_there_are_any(tmp_path) -> None:
    path = tmp_path / "metrics.json"
    write_metrics(replace(_metrics(), probes=None), path)
    assert not {"probes", "warning"} & set(json.loads(path.read_text()))
    stamped = replace(_metrics(), warning="PERMUTED")
    write_metrics(stamped, path)
    assert read_metrics(path) == stamped and asdict(read_metrics(path))["warning"] == "PERMUTED"


NOTES = CheckpointNotes(settings={"seed": 1}, best=(-np.inf, -np.inf), best_epoch=None, provenance=MADE_WITH)


def test_notes_of_a_checkpoint_survive_torchs_safe_loading(tmp_path) -> None:
    notes = replace(NOTES, further={"label_scale": [1.0, 2.0]})
    torch.save({"network_weights": {}, BLOCK: notes.block()}, tmp_path / "a.pth")
    assert notes_of(read_checkpoint(tmp_path / "a.pth"), "a.pth") == notes


@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [
        ({}, "a.pth was not made by an AD-NeXt trainer; train with one"),
        ({BLOCK: NOTES.block() | {"format_version": 9}}, "a.pth, adnext is of format version 9"),
        ({BLOCK: NOTES.block() | {"bets": 1}}, "unknown key 'bets'; did you mean 'best'"),
        ({BLOCK: [1]}, "a.pth, adnext is not a checkpoint of an AD-NeXt trainer"),
        ({BLOCK: {"settings": {}}}, "'adnext_plugin' is missing"),
    ],
)
def test_notes_that_cannot_be_read_are_refused_in_one_line(checkpoint, message) -> None:
    with pytest.raises(WeightsError, match=message):
        notes_of(checkpoint, "a.pth")
    if checkpoint:
        with pytest.raises(WeightsError, match=message):
            find_notes(checkpoint, "a.pth")
    else:
        assert find_notes(checkpoint, "a.pth") is None
