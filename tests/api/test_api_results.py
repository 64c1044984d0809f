"""Reading an evaluated run as tables, against the files it left."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

import adnext_plugin as a
from adnext_plugin.errors import FormatError, PathsError


def test_scores_folds_and_baselines_are_those_of_metrics_json(trained) -> None:
    results = a.read_results(trained.run)
    metrics = json.loads((trained.run / "crossval_results" / "metrics.json").read_text())
    assert results.metrics == metrics
    assert list(results.scores) == ["value", "low", "high"]
    for name, estimate in metrics["scores"].items():
        expected = [np.nan if estimate[key] is None else estimate[key] for key in ("value", "low", "high")]
        np.testing.assert_array_equal(results.scores.loc[name], expected)
    assert results.folds["threshold"].tolist() == [fold["threshold"] for fold in metrics["folds"]]
    assert results.folds["auc"].tolist() == [fold["scores"]["auc"] for fold in metrics["folds"]]
    voxels = next(baseline for baseline in metrics["baselines"] if "voxel" in baseline["name"])
    found = results.baselines.loc[voxels["name"]]
    assert found.loc["auc_mean_of_folds", "value"] == voxels["scores"]["auc_mean_of_folds"]["value"]
    shown = repr(results)
    assert f"{metrics['scores'][metrics['primary_score']]['value']:.3f}" in shown and "Dataset301_Toy" in shown


def test_predictions_are_read_without_taking_names_for_missing_values(trained) -> None:
    path = trained.run / "crossval_results" / "predictions.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.loc[0, ["subject_id", "target"]] = ["007", "NA"]
    table.to_csv(path, index=False)
    predictions = a.read_results(trained.run).predictions
    assert predictions.loc[0, ["subject_id", "target"]].tolist() == ["007", "NA"]
    np.testing.assert_array_equal(predictions["prob_AD"], table["prob_AD"].astype(float))
    assert len(predictions) == 17 and set(predictions["fold"]) == {0, 1, 2, 3}


def test_learning_curves_have_a_row_per_fold_and_epoch(trained_once) -> None:
    curves = a.read_results(trained_once.run).learning_curves
    assert curves.index.tolist() == [(str(fold), 0) for fold in range(4)]
    assert curves["train_losses"].between(0.1, 10).all() and "val_auc" in curves


def test_figures_are_those_that_were_drawn(trained) -> None:
    results = a.read_results(trained.run)
    assert [path.name for path in results.figures] == ["roc.png", "confusion.png"]
    results.evaluation.roc_figure.unlink()
    assert [path.name for path in results.figures] == ["confusion.png"]


def test_what_was_not_evaluated_is_said_in_one_line(trained) -> None:
    with pytest.raises(PathsError, match="is not the folder of a run"):
        a.read_results(trained.run / "nowhere")
    with pytest.raises(PathsError, match=r"checkpoint_final\.pth"):
        _ = a.read_results(trained.run).learning_curves  # the copy of the run that tests may break has none
    (trained.run / "crossval_results" / "metrics.json").write_text("{}")
    with pytest.raises(FormatError, match="evaluate the run again"):
        a.read_results(trained.run)
    shutil.rmtree(trained.run / "crossval_results")
    with pytest.raises(PathsError, match="evaluate the run first"):
        a.read_results(trained.run)
