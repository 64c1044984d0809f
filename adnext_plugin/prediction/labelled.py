"""A model's answers for a preprocessed dataset whose own answers are known, as the table that evaluation reads."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from adnext_plugin.errors import AdnextError, PathsError
from adnext_plugin.prediction.ensemble import Ensemble
from adnext_plugin.prediction.inputs import Inputs, read_prepared, require_columns
from adnext_plugin.task import Task


def predict_labelled(ensemble: Ensemble, dataset_folder: Path, subjects: pd.DataFrame, task: Task) -> pd.DataFrame:
    """Predict every case with all networks together.

    Args:
        ensemble: the networks.
        dataset_folder: preprocessed like the dataset that they were trained on.
        subjects: rows of its `subjects.csv`, with the answers.
        task: the dataset's; names the column of the answers.

    Returns:
        Rows like those of the folds' predictions.csv, by case, without logits: calibrated probabilities or numbers of
        one fold 0, part `val`.

    Raises:
        PathsError: the dataset was not preprocessed, or not all of it.
        SettingsError: it is for another task, was prepared otherwise, or lacks a column that the networks need.
        AdnextError: a prepared case is damaged.
    """
    people = subjects.set_index("case_id").sort_index()
    inputs = _of_people(read_prepared(dataset_folder, ensemble.description), people, dataset_folder)
    require_columns(inputs, ensemble.columns, str(dataset_folder))
    answers = {}
    for scan, outcome in ensemble.predict_stored(inputs):
        if isinstance(outcome, AdnextError):
            raise outcome
        answers[scan.case_id] = outcome.answer
    names = [f"prob_{name}" for name in task.classes] or ["prediction"]
    found = np.stack([answers[case] for case in people.index])
    return (
        people[["subject_id", "session_id"]]
        .reset_index()
        .assign(fold=0, part="val", target=people[task.target].to_numpy(), **dict(zip(names, found.T, strict=True)))
    )


def _of_people(inputs: Inputs, people: pd.DataFrame, dataset_folder: Path) -> Inputs:
    """The stored volumes of these cases, in their order, and no others."""
    stored = {scan.case_id: scan for scan in inputs.scans}
    missing = [case for case in people.index if case not in stored]
    if missing:
        raise PathsError(
            f"{len(missing)} of {len(people)} cases are not in {dataset_folder}, the first is {missing[0]!r}; "
            "run adnext_plan_and_preprocess"
        )
    return replace(inputs, scans=tuple(stored[case] for case in people.index), columns=people)
