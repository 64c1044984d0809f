"""Reading what `adnext_evaluate` left of runs, and refusing to compare what was not made on the same folds."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from adnext_plugin.csv_files import read_csv
from adnext_plugin.errors import AdnextError, PathsError, SplitError, nearest_names
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions, per_subject
from adnext_plugin.files import require_file
from adnext_plugin.names import problem_of_file_name
from adnext_plugin.paths import run_name
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.run_metrics import read_metrics
from adnext_plugin.stamps import stamps_of
from adnext_plugin.task import Task


@dataclass(frozen=True, kw_only=True)
class EvaluatedRun:
    """A run's held-out predictions, with the thresholds of its folds, what they were made on and are stamped with."""

    name: str
    predictions: SubjectPredictions
    stamps: tuple[str, ...]
    splits_sha256: str


def find_run(run: str, dataset_results: Path, plans: str, configuration: str) -> RunFolder:
    """Where a run lies.

    Args:
        run: a trainer's name, the name of a folder in `dataset_results`, or a path to a run's folder.
        dataset_results: the dataset's folder of results.
        plans: completes a trainer's name.
        configuration: completes it, too.

    Raises:
        PathsError: there is no such folder.
    """
    called = run_name(run, plans, configuration) if not problem_of_file_name(run) else run
    for folder in (dataset_results / called, dataset_results / run, Path(run)):
        if folder.is_dir():
            return RunFolder(folder)
    known = [path.name for path in dataset_results.glob("*__*__*")]
    suggestion = nearest_names(called, known)
    raise PathsError(f"no run {run!r} in {dataset_results}{suggestion}")


def read_run(run: RunFolder, task: Task) -> EvaluatedRun:
    """Read a run's evaluation.

    Raises:
        PathsError: the run was not evaluated.
        AdnextError: it was evaluated for other classes.
    """
    remedy = "evaluate the run with adnext_evaluate"
    metrics = read_metrics(require_file(run.evaluation.metrics_file, remedy))
    path = require_file(run.evaluation.predictions_file, remedy)
    texts = ("case_id", "subject_id", "session_id", "target")
    table = read_csv(path, texts=texts, needed=texts, numbers=["fold"], remedy=remedy, float_precision="round_trip")
    missing = [name for name in task.classes if f"prob_{name}" not in table]
    unknown = sorted(set(table["target"]) - set(task.classes))
    if missing or unknown:
        named = ", ".join(missing or unknown)
        raise AdnextError(f"{path} is of other classes than dataset.json ({named}); {remedy}")
    predictions = per_subject(table.assign(part="val"), task)
    if len(task.classes) == 2:
        by_fold = {fold.fold: fold.threshold for fold in metrics.folds}
        thresholds = np.array([by_fold[fold] for fold in predictions.folds], dtype=float)
        predictions = replace(predictions, thresholds=thresholds)
    return EvaluatedRun(
        name=run.trainer,
        predictions=predictions,
        stamps=stamps_of([metrics.warning]),
        splits_sha256=metrics.splits_sha256,
    )


def with_distinct_names(runs: Sequence[EvaluatedRun], folders: Sequence[RunFolder]) -> list[EvaluatedRun]:
    """The runs, by `distinct_names`."""
    return [replace(run, name=name) for run, name in zip(runs, distinct_names(folders), strict=True)]


def distinct_names(folders: Sequence[RunFolder]) -> list[str]:
    """What to call runs: by trainer where that tells them apart, by folder or else path where not."""
    for names in (
        [folder.trainer for folder in folders],
        [folder.path.name for folder in folders],
        [str(folder.path) for folder in folders],
    ):
        if len(set(names)) == len(names):
            break
    return names


def require_same_subjects(runs: Sequence[EvaluatedRun], splits_sha256: str) -> None:
    """Make sure that all runs were held out the same subjects by the same folds, those of the dataset.

    Raises:
        SplitError: they were not.
    """
    for run in runs:
        if run.splits_sha256 != splits_sha256:
            raise SplitError(
                f"{run.name} was evaluated on other folds ({run.splits_sha256[:12]}) than those of the dataset "
                f"({splits_sha256[:12]}); only runs on the same folds can be compared: train and evaluate it on these"
            )
        for part in ("subject_ids", "folds", "targets"):
            if not np.array_equal(getattr(run.predictions, part), getattr(runs[0].predictions, part)):
                raise SplitError(
                    f"{run.name} and {runs[0].name} were evaluated on different subjects or targets; "
                    "evaluate both again with adnext_evaluate"
                )
