"""The inflation meter finds the epochs that the paper's protocol would have kept, and what that would have shown."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, roc_auc_score

from adnext_plugin.evaluation.studies.crossval import of_subjects
from adnext_plugin.evaluation.studies.inflation import measure_inflation
from adnext_plugin.task import Task

TASK = Task(name="AD", target="diagnosis", classes=("CN", "AD"))
FOLDS, EPOCHS, PEOPLE = 3, 12, 20


def _epochs(fold: int, generator: np.random.Generator) -> dict[int, pd.DataFrame]:
    """Chance predictions of one fold's held-out part, anew after every epoch."""
    ids = [f"f{fold}s{index:02d}" for index in range(PEOPLE)]
    frame = pd.DataFrame({"case_id": ids, "subject_id": ids, "session_id": "", "fold": fold, "part": "val"})
    frame["target"] = np.where(np.arange(PEOPLE) % 2, "AD", "CN")
    found = {}
    for epoch in range(EPOCHS):
        risk = generator.random(PEOPLE).round(2)
        found[epoch] = frame.assign(prob_CN=1 - risk, prob_AD=risk)
    return found


def test_the_meter_agrees_with_choosing_the_epochs_by_hand() -> None:
    generator = np.random.default_rng(0)
    metered = [_epochs(fold, generator) for fold in range(FOLDS)]
    honest = of_subjects(pd.concat(epochs[5] for epochs in metered), TASK)
    meter = measure_inflation(honest, metered, TASK)

    accuracies, areas, kept = [], [], []
    for fold, epochs in enumerate(metered):
        by_epoch = [
            accuracy_score(table["target"], np.where(table["prob_AD"] > 0.5, "AD", "CN")) for table in epochs.values()
        ]
        assert by_epoch[meter.epochs[fold]] == max(by_epoch)
        accuracies.append(max(by_epoch))
        areas.append([roc_auc_score(table["target"] == "AD", table["prob_AD"]) for table in epochs.values()])
        kept.append(epochs[meter.epochs[fold]])
    pooled = pd.concat(kept)
    expected = {
        "accuracy_mean_of_folds": np.mean(accuracies),
        "accuracy_pooled": np.mean(accuracies),  # folds are of one size
        "auc_mean_of_folds": np.mean([of_fold[epoch] for of_fold, epoch in zip(areas, meter.epochs, strict=True)]),
        "auc_pooled": roc_auc_score(pooled["target"] == "AD", pooled["prob_AD"]),
        "auc_mean_of_folds_any_epoch": np.mean([max(of_fold) for of_fold in areas]),
    }
    assert {name: score.best_held_out_epoch for name, score in meter.scores.items()} == pytest.approx(expected)
    assert meter.scores["auc_mean_of_folds"].honest == pytest.approx(np.mean([of_fold[5] for of_fold in areas]))
    for score in meter.scores.values():
        assert score.inflated_by == pytest.approx(score.best_held_out_epoch - score.honest)
    # of networks that know nothing, the best of twelve epochs looks like one that does
    assert meter.scores["accuracy_mean_of_folds"].best_held_out_epoch > 0.6
    assert meter.warning.startswith("OPTIMISTIC")


def test_the_meter_of_a_quantity_counts_errors_the_right_way_round() -> None:
    task = Task(name="Age", target="age", kind="regression")
    frame = pd.DataFrame({"subject_id": list("abcd"), "fold": [0] * 4, "part": "val", "target": [1.0, 2.0, 3.0, 4.0]})
    epochs = {epoch: frame.assign(prediction=frame["target"] + error) for epoch, error in enumerate((3.0, 1.0, 2.0))}
    meter = measure_inflation(of_subjects(epochs[0], task), [epochs], task)
    assert meter.epochs == (1,)
    assert meter.scores["mae_mean_of_folds"].inflated_by == pytest.approx(2.0)
