"""The networks of a cross-validation, applied together to people that none of them has seen."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from adnext_plugin.errors import AdnextError, SettingsError
from adnext_plugin.files import read_json
from adnext_plugin.people import same_people
from adnext_plugin.plan import plan_of, require_same_preparation
from adnext_plugin.trainers.fold_data import FoldData, open_data
from adnext_plugin.trainers.labelled import ADNeXtTrainer
from adnext_plugin.training.predictions import ClassPredictions


def predict_external(
    run: Path, trainer_class: type[ADNeXtTrainer], temperatures: Sequence[float], dataset_folder: Path, device: str
) -> pd.DataFrame:
    """Predict a preprocessed dataset with every fold's network and average what they say, calibrated.

    Args:
        run: folder of a cross-validated run, TRAINER__PLANS__CONFIGURATION.
        trainer_class: that made it.
        temperatures: one for every fold, fitted on its `selection` part; 1 for a quantity.
        dataset_folder: preprocessed with the run's plans, for the same kind of task.
        device: cpu, cuda or mps.

    Returns:
        Rows like those of the folds' predictions.csv, without logits, of one part `val`.

    Raises:
        SettingsError: the dataset was prepared differently, or is for another task.
    """
    _, plans_name, configuration = run.name.split("__")
    plans = read_json(run / "plans.json")
    data = _data(plans, plans_name, configuration, dataset_folder)
    tables = []
    for fold, temperature in enumerate(temperatures):
        trainer = trainer_class(plans, configuration, fold, read_json(run / "dataset.json"), torch.device(device))
        checkpoint = read_json(run / f"fold_{fold}" / "validation" / "summary.json")["evaluated_checkpoint"]
        trainer.load_checkpoint(str(run / f"fold_{fold}" / checkpoint))
        predictions = trainer.predict_others(data)
        if isinstance(predictions, ClassPredictions):
            predictions = replace(predictions, logits=predictions.logits / temperature)
        columns = predictions.columns(data.plan.task)
        tables.append(pd.DataFrame({name: columns[name] for name in columns if not name.startswith("logit_")}))
    people = data.rows(list(predictions.cases))[["subject_id", "session_id"]].reset_index()
    answers = [name for name in tables[0] if name != "target"]
    mean = np.mean([table[answers].to_numpy() for table in tables], axis=0)
    return people.assign(fold=0, part="val", target=tables[0]["target"], **dict(zip(answers, mean.T, strict=True)))


def _data(plans: dict, plans_name: str, configuration: str, dataset_folder: Path) -> FoldData:
    own = plan_of(plans, configuration, f"plans {plans_name} of the run")
    data = open_data(
        dataset_folder, plans_name, configuration, "preprocess the dataset with the same preset as the one trained on"
    )
    require_same_preparation(data.plan, own, dataset_folder / f"{plans_name}.json")
    task = data.plan.task
    if (task.kind, task.classes) != (own.task.kind, own.task.classes):
        raise SettingsError(
            f"{dataset_folder.name} is for {task.in_words}, but the networks for {own.task.in_words}; "
            "import it with the same target, classes in the same order"
        )
    return replace(data, plan=replace(own, task=task))


def refuse_same_people(own: pd.DataFrame, others: pd.DataFrame, *, are_other_people: bool = False) -> None:
    """Make sure that an external dataset is of other people, by image and by id, however that is spelt.

    Args:
        own, others: rows of the two datasets' `subjects.csv`.
        are_other_people: the user says that equal ids are those of different people; images are still compared.

    Raises:
        AdnextError: a scan or a person is in both.
    """
    remedy = "an external dataset must be of other people (adnext_import --where)"
    same_scans = others[others["image_sha256"].isin(own["image_sha256"]) & (others["image_sha256"] != "")]
    if len(same_scans):
        raise AdnextError(
            f"{len(same_scans)} of {len(others)} cases, the first {same_scans['case_id'].iloc[0]!r}, show a scan that "
            f"the networks were trained on; {remedy}"
        )
    shared = {} if are_other_people else same_people(own["subject_id"], others["subject_id"])
    if shared:
        cases = others[others["subject_id"].isin(shared)]
        first = cases.iloc[0]
        raise AdnextError(
            f"{len(cases)} of {len(others)} cases, the first {first['case_id']!r}, show a subject that the networks "
            f"were trained on ({first['subject_id']!r} is {shared[first['subject_id']]!r}); {remedy}, or say why these "
            "are two people with one id: --other-people REASON"
        )
