"""Reading what the trainer left of each fold, and refusing to mix what does not belong together."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from adnext_plugin.cohort import Cohort
from adnext_plugin.csv_files import read_csv, require_numbers
from adnext_plugin.errors import AdnextError, PathsError
from adnext_plugin.evaluation.subjects.predictions import REPEAT
from adnext_plugin.prepared_data import PreparedData, refuse_other_data
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.run_records import FoldSummary, read_fold_summary
from adnext_plugin.settings import Protocol
from adnext_plugin.splits.design import Fold
from adnext_plugin.stamps import stamps_of
from adnext_plugin.task import Task

TEXT_TARGET = {"classification": ("target",), "regression": ()}
TRAIN_AGAIN = "train the fold again"


@dataclass(frozen=True, kw_only=True)
class FoldFiles:
    """All folds' predictions in one table, their summaries, and the protocol they share.

    `cohort` is the dataset's, with the targets that the folds were trained on: permuted ones where so. `warning` is
    what every result of the run must be stamped with. `data` are the prepared data that the folds were trained on.
    """

    predictions: pd.DataFrame
    cohort: Cohort
    summaries: tuple[FoldSummary, ...]
    protocol: Protocol
    warning: str | None
    data: PreparedData


def read_folds(run: RunFolder, cohort: Cohort, how_to_train: str) -> FoldFiles:
    """Read and check the held-out predictions of every fold.

    Args:
        run: the trainer's folder, with fold_0, fold_1, ...
        cohort: the dataset trained on.
        how_to_train: the command that makes a missing fold, for the message.

    Raises:
        PathsError: folds are missing.
        OtherDataError: folds were trained on other data than the dataset holds now.
        AdnextError: predictions are of other folds, targets or protocols than the dataset's.
    """
    folds = [run.fold(number) for number in range(len(cohort.splits))]
    missing = [fold.name for fold in folds if not fold.predictions_file.is_file() or not fold.summary_file.is_file()]
    if missing:
        raise PathsError(f"{run.path} has no predictions of fold {', '.join(missing)}; train with: {how_to_train}")
    data = PreparedData(cohort=cohort, plans=run.plans, configuration=run.configuration)
    refuse_other_data(folds, data)
    summaries = tuple(read_fold_summary(fold.summary_file) for fold in folds)
    protocols = {summary.protocol for summary in summaries}
    if len(protocols) > 1:
        raise AdnextError(
            f"{run.path}: some folds were trained with --protocol paper and some without; train them alike"
        )
    permutations = {summary.permute_labels for summary in summaries}
    if len(permutations) > 1:
        raise AdnextError(
            f"{run.path}: the folds were trained with different --permute {permutations}; train them alike"
        )
    cohort = cohort.permuted(permutations.pop())
    tables = []
    for number, (fold, split) in enumerate(zip(folds, cohort.splits, strict=True)):
        table = read_predictions(fold.predictions_file, cohort.task)
        _check(table, number, split, cohort, fold.predictions_file)
        tables.append(table)
    return FoldFiles(
        predictions=with_repeats(pd.concat(tables, ignore_index=True), cohort),
        cohort=cohort,
        summaries=summaries,
        protocol=protocols.pop(),
        warning="; ".join(stamps_of(summary.warning for summary in summaries)) or None,
        data=data,
    )


def with_repeats(table: pd.DataFrame, cohort: Cohort) -> pd.DataFrame:
    """Rows of folds' predictions with the repeat that each is of, where there are several."""
    if len(cohort.repeats) == 1:
        return table
    repeat_of = {fold: repeat for repeat, folds in enumerate(cohort.repeats) for fold in folds}
    return table.assign(**{REPEAT: table["fold"].map(repeat_of)})


def read_metered_epochs(run: RunFolder, folds: int, task: Task) -> list[dict[int, pd.DataFrame]] | None:
    """What every fold's network said of its held-out part after each epoch, epoch to rows of a predictions.csv.

    Returns:
        By fold; None unless all folds were trained with the inflation meter on.
    """
    found = []
    for fold in range(folds):
        files = run.fold(fold).metered_files()
        if not files:
            return None
        found.append({epoch: read_predictions(path, task) for epoch, path in files.items()})
    return found


def read_predictions(path: Path, task: Task) -> pd.DataFrame:
    """Rows of a file that a trainer wrote of a fold."""
    texts = ("case_id", "subject_id", "session_id", *TEXT_TARGET[task.kind])
    is_regression = task.kind == "regression"
    numbers = ["target", "prediction"] if is_regression else [f"prob_{name}" for name in task.classes]
    table = read_csv(path, texts=texts, needed=[*texts, "part", "fold"], remedy=TRAIN_AGAIN)
    missing = [name for name in numbers if name not in table]
    if missing:
        raise AdnextError(f"{path} has no column {missing[0]!r}: it was made for another task; {TRAIN_AGAIN}")
    require_numbers(table, ["fold", *numbers], path, TRAIN_AGAIN)
    return table


def _check(table: pd.DataFrame, number: int, split: Fold, cohort: Cohort, path: Path) -> None:
    task = cohort.task
    # a run of the paper's protocol, or on volumes of nnU-Net's own, may have predicted the held-out part alone
    parts = ("val", "selection") if (table["part"] != "val").any() else ("val",)
    listed = sorted(zip(table["part"], table["case_id"], strict=True))
    if (table["fold"] != number).any() or listed != sorted((part, case) for part in parts for case in split[part]):
        raise AdnextError(f"{path} is not of fold {number} of splits_final.json; train the fold again")
    known = cohort.rows(table["case_id"])
    strangers = table["case_id"][table["subject_id"].to_numpy() != known["subject_id"].to_numpy()]
    if len(strangers):
        raise AdnextError(
            f"{path}: {strangers.iloc[0]} is of another subject than in subjects.csv by now; train the fold again"
        )
    changed = table["case_id"][table["target"].to_numpy() != known[task.target].to_numpy()]
    if len(changed):
        raise AdnextError(
            f"{path}: {changed.iloc[0]} has another {task.target} than in subjects.csv by now; train the fold again"
        )
