"""Whom a run trains on, chooses on and measures its scales on, on the toy cohort."""

import json
from dataclasses import replace

import pandas as pd
import pytest
from conftest import Trained, Workspace

from adnext_plugin.cohort import Cohort
from adnext_plugin.errors import AdnextError
from adnext_plugin.evaluation.subjects.fold_files import read_folds
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.settings import TrainerSettings
from adnext_plugin.splits.folds import ensure_splits
from adnext_plugin.subjects import read_dataset
from adnext_plugin.task import Task
from adnext_plugin.trainers.fold_data import FoldData, open_data
from adnext_plugin.trainers.fold_scales import scales_of
from adnext_plugin.training.weights import read_checkpoint

AGE = Task(name="Toy", kind="regression", target="age", derived_from=("age",))


@pytest.fixture
def fold(toy: Workspace) -> FoldData:
    """Fold 1 of the toy cohort."""
    return replace(open_data(toy.preprocessed / "Dataset301_Toy", "ADNeXtPlans", "3d_fullres"), fold=1)


def test_an_honest_run_trains_on_train_and_chooses_on_selection_and_the_papers_run_does_not(fold: FoldData) -> None:
    task, subjects = read_dataset(fold.dataset_folder)
    parts = ensure_splits(fold.dataset_folder, subjects, task)[1]
    assert fold.parts == {part: sorted(parts[part]) for part in parts}
    assert fold.cases_to_train_on(TrainerSettings()) == (sorted(parts["train"]), sorted(parts["selection"]))
    training, compared_on = fold.cases_to_train_on(TrainerSettings(protocol="paper"))
    assert training == sorted(parts["train"] + parts["selection"])
    assert compared_on == sorted(parts["val"])


def test_a_share_of_the_training_part_leaves_selection_whole(fold: FoldData) -> None:
    training, compared_on = fold.cases_to_train_on(TrainerSettings(train_fraction=0.5))
    assert set(training) < set(fold.parts["train"]) and compared_on == fold.parts["selection"]


def test_a_rehearsal_learns_of_a_few_people_of_every_class_and_leaves_selection_whole(
    fold: FoldData, monkeypatch
) -> None:
    fast = TrainerSettings(fast=True)
    assert fold.cases_to_train_on(fast) == fold.cases_to_train_on(TrainerSettings())  # there are no more than a few
    monkeypatch.setattr("adnext_plugin.trainers.fold_data.FAST_SUBJECTS", 4)
    training, compared_on = fold.cases_to_train_on(fast)
    rows = fold.rows(training)
    assert set(training) < set(fold.parts["train"]) and compared_on == fold.parts["selection"]
    assert rows.groupby("diagnosis")["subject_id"].nunique().to_dict() == {"AD": 2, "CN": 2}
    halved, _ = fold.cases_to_train_on(TrainerSettings(fast=True, train_fraction=0.5))
    assert set(halved) < set(training)


def test_what_inputs_are_relative_to_is_measured_on_the_training_part_alone(trained: Trained) -> None:
    folder = trained.workspace.preprocessed / "Dataset301_Toy"
    task, subjects = read_dataset(folder)
    splits, people = ensure_splits(folder, subjects, task), subjects.set_index("case_id")
    for number, parts in enumerate(splits):
        summary = json.loads((trained.run / f"fold_{number}" / "validation" / "summary.json").read_text())
        notes = read_checkpoint(trained.run / f"fold_{number}" / summary["evaluated_checkpoint"])["adnext"]
        ages = people.loc[parts["train"], "age"]
        assert notes["covariate_scale"]["means"][0] == pytest.approx(ages.mean(), abs=1e-9)
        assert notes["covariate_scale"]["deviations"][0] == pytest.approx(ages.std(ddof=0), abs=1e-9)
        assert abs(ages.mean() - people["age"].mean()) > 1e-3


def test_the_scale_of_a_number_is_measured_on_the_training_part_alone(fold: FoldData) -> None:
    numbers = replace(fold, plan=replace(fold.plan, task=AGE))
    ages = numbers.rows(numbers.parts["train"])["age"]
    found = scales_of(numbers, TrainerSettings())
    assert found["mean of the target"] == pytest.approx(ages.mean())
    assert found["standard deviation of the target"] == pytest.approx(ages.std(ddof=0))


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("part", "train", "is not of fold 1 of splits_final.json"),
        ("part", "selection", "is not of fold 1 of splits_final.json"),
        ("case_id", "1", "is not of fold 1 of splits_final.json"),
        ("fold", 2, "is not of fold 1 of splits_final.json"),
        ("subject_id", "somebody", "is of another subject than in subjects.csv by now"),
    ],
)
def test_rows_of_other_people_parts_or_folds_are_not_scored(trained: Trained, column, value, message) -> None:
    run, cohort = RunFolder(trained.run), Cohort.open(trained.workspace.preprocessed / "Dataset301_Toy")
    path = run.fold(1).predictions_file
    assert len(read_folds(run, cohort, "").predictions)  # as they are, they are read
    table = pd.read_csv(path, dtype=str)
    for part in ("val", "selection"):
        row = table.index[table["part"] == part][0]
        changed = table.copy()
        changed.loc[row, column] = str(value)
        if changed.equals(table):
            continue
        changed.to_csv(path, index=False)
        with pytest.raises(AdnextError, match=message):
            read_folds(run, cohort, "")
