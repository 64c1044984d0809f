"""Folds of one's own through training and evaluation: repeated, one hold-out, and such as leave a class out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args
from sklearn.metrics import roc_auc_score

from adnext_plugin.cli import compare, evaluate, train
from adnext_plugin.errors import SplitError
from adnext_plugin.paths import hook_dir
from adnext_plugin.splits.drawing import make_splits
from adnext_plugin.subjects import read_dataset

DATASET = "Dataset301_Toy"
TRAIN = ["301", "3d_fullres", "cv", "-tr", "ADNeXtTrainer_T", "-device", "cpu"]
FAST = ["--set", "epochs=1", "--set", "augmentation=none"]


@pytest.fixture
def dataset(toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The preprocessed toy dataset in a folder of its own."""
    shutil.copytree(toy.preprocessed, tmp_path / "preprocessed")
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    return tmp_path / "preprocessed" / DATASET


def _use(splits: list[dict], dataset: Path) -> list[dict]:
    (dataset / "splits_final.json").write_text(json.dumps(splits))
    return splits


def _drawn(dataset: Path, folds: int, seed: int) -> list[dict]:
    task, subjects = read_dataset(dataset)
    return make_splits(subjects, task, folds=folds, seed=seed)


def _area(rows: pd.DataFrame) -> float:
    people = rows.groupby("subject_id").agg(target=("target", "first"), prob=("prob_AD", "mean"))
    return float(roc_auc_score(people["target"] == "AD", people["prob"]))


def test_a_repeated_cross_validation_is_trained_and_scored_repeat_by_repeat(toy, dataset, capsys) -> None:
    _use([*_drawn(dataset, 2, 1), *_drawn(dataset, 2, 2)], dataset)
    assert train.main([*TRAIN, *FAST]) == 0
    out = capsys.readouterr().out
    assert "Repeated cross-validation: 2 repeats of 2 folds" in out and "auc mean of folds by repeat" in out
    folder = toy.results / DATASET / "ADNeXtTrainer_T__ADNeXtPlans__3d_fullres" / "crossval_results"
    table = pd.read_csv(folder / "predictions.csv", float_precision="round_trip")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert sorted(table["repeat"].unique()) == [0, 1] and (table["repeat"] == table["fold"] // 2).all()
    assert (table.groupby("case_id").size() == 2).all() and metrics["subjects"] == 16
    by_repeat = [
        np.mean([_area(fold) for _, fold in rows.groupby("fold")]) for _, rows in table.groupby("repeat", sort=True)
    ]
    design = metrics["design"]
    assert [one["scores"]["auc_mean_of_folds"] for one in design["repeats"]] == pytest.approx(by_repeat, abs=1e-12)
    assert metrics["scores"]["auc_mean_of_folds"]["value"] == pytest.approx(np.mean(by_repeat), abs=1e-12)
    page = (folder / "report.html").read_text()
    assert "held out once in each of 2 repeats of 2 folds" in page
    assert compare.main(["301", "ADNeXtTrainer_T", "ADNeXtTrainer_B"]) == 2
    assert "has a repeated cross-validation" in capsys.readouterr().err
    before = (folder / "predictions.csv").read_bytes()
    assert evaluate.main(["301", "-tr", "ADNeXtTrainer_T", "--probe", "sex", "--resamples", "100"]) == 0
    assert (folder / "predictions.csv").read_bytes() == before


def test_with_a_fixed_hold_out_one_fold_is_trained_and_its_people_are_scored(toy, dataset, capsys) -> None:
    (split,) = _use(_drawn(dataset, 2, 4)[:1], dataset)
    assert train.main([*TRAIN, *FAST]) == 0
    out = capsys.readouterr().out
    run = toy.results / DATASET / "ADNeXtTrainer_T__ADNeXtPlans__3d_fullres"
    assert [path.name for path in sorted(run.glob("fold_*"))] == ["fold_0"]
    table = pd.read_csv(run / "crossval_results" / "predictions.csv", float_precision="round_trip")
    metrics = json.loads((run / "crossval_results" / "metrics.json").read_text())
    assert sorted(table["case_id"]) == sorted(split["val"]) and "repeat" not in table
    held_out = table["subject_id"].nunique()
    assert f"Fixed hold-out: {held_out} of 16 subjects" in out and "pooled" not in out
    assert metrics["design"] == {"kind": "fixed hold-out", "held_out": held_out, "subjects": 16, "repeats": []}
    assert metrics["scores"]["auc_mean_of_folds"]["value"] == pytest.approx(_area(table), abs=1e-12)
    assert "auc_pooled" not in metrics["scores"] and metrics["subjects"] == held_out
    page = (run / "crossval_results" / "report.html").read_text()
    assert f"{held_out} of 16 subjects" in page and "folds pooled" not in page


def test_a_class_missing_from_any_folds_training_part_is_refused_before_training(
    toy, dataset, monkeypatch, capsys
) -> None:
    splits = _drawn(dataset, 4, 1)
    _, subjects = read_dataset(dataset)
    patients = set(subjects.loc[subjects["diagnosis"] == "AD", "case_id"])
    splits[2]["selection"] += [case for case in splits[2]["train"] if case in patients]
    splits[2]["train"] = [case for case in splits[2]["train"] if case not in patients]
    _use(splits, dataset)
    assert train.main([*TRAIN, *FAST]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "The training part of fold 2 has no case of class 'AD'" in line and "splits_final.json" in line
    assert not list(toy.results.rglob("*.pth"))
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    arguments = DATASET, "3d_fullres", 2, "ADNeXtTrainer_T", "ADNeXtPlans", False, torch.device("cpu")
    with pytest.raises(SplitError, match="training part of fold 2 has no case of class 'AD'"):
        get_trainer_from_args(*arguments).on_train_start()
    # under the paper's protocol the selection part is trained on as well
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({"protocol": "paper"}))
    training, _ = get_trainer_from_args(*arguments).do_split()
    assert set(training) & patients
