"""Reading what the trainer left of each fold, and refusing to mix what does not belong together."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from adnext_plugin.errors import AdnextError, PathsError
from adnext_plugin.files import read_json
from adnext_plugin.paths import METER_FOLDER
from adnext_plugin.stamps import stamps_of
from adnext_plugin.subjects import permute_targets
from adnext_plugin.task import Task

TEXT_TARGET = {"classification": ("target",), "regression": ()}


@dataclass(frozen=True, kw_only=True)
class FoldFiles:
    """All folds' predictions in one table, their summaries, and the protocol they share.

    `subjects` are those of the dataset, with the targets that the folds were trained on: permuted ones where so.
    `warning` is what every result of the run must be stamped with.
    """

    predictions: pd.DataFrame
    subjects: pd.DataFrame
    summaries: tuple[dict, ...]
    protocol: str
    warning: str | None


def read_folds(run: Path, splits: list[dict], subjects: pd.DataFrame, task: Task, how_to_train: str) -> FoldFiles:
    """Read and check the held-out predictions of every fold.

    Args:
        run: the trainer's folder, with fold_0, fold_1, ...
        splits: the folds.
        subjects: content of `subjects.csv`.
        task: names target and classes.
        how_to_train: the command that makes a missing fold, for the message.

    Raises:
        PathsError: folds are missing.
        AdnextError: predictions are of other folds, targets or protocols than the dataset's.
    """
    folders = [run / f"fold_{number}" / "validation" for number in range(len(splits))]
    missing = [
        str(number)
        for number, folder in enumerate(folders)
        if not (folder / "predictions.csv").is_file() or not (folder / "summary.json").is_file()
    ]
    if missing:
        raise PathsError(f"{run} has no predictions of fold {', '.join(missing)}; train with: {how_to_train}")
    summaries = tuple(read_json(folder / "summary.json") for folder in folders)
    protocols = {summary["protocol"] for summary in summaries}
    if len(protocols) > 1:
        raise AdnextError(f"{run}: some folds were trained with --protocol paper and some without; train them alike")
    permutations = {summary.get("permute_labels") for summary in summaries}
    if len(permutations) > 1:
        raise AdnextError(f"{run}: the folds were trained with different --permute {permutations}; train them alike")
    seed = permutations.pop()
    subjects = subjects if seed is None else permute_targets(subjects, task, seed)
    tables = []
    for number, (folder, split) in enumerate(zip(folders, splits, strict=True)):
        table = read_predictions(folder / "predictions.csv", task)
        _check(table, number, split, subjects, task, folder / "predictions.csv")
        tables.append(table)
    return FoldFiles(
        predictions=pd.concat(tables, ignore_index=True),
        subjects=subjects,
        summaries=summaries,
        protocol=protocols.pop(),
        warning="; ".join(stamps_of(summaries)) or None,
    )


def read_metered_epochs(run: Path, folds: int, task: Task) -> list[dict[int, pd.DataFrame]] | None:
    """What every fold's network said of its held-out part after each epoch, epoch to rows of a predictions.csv.

    Returns:
        By fold; None unless all folds were trained with the inflation meter on.
    """
    found = []
    for fold in range(folds):
        paths = {
            int(path.stem.split("_")[1]): path for path in (run / f"fold_{fold}" / METER_FOLDER).glob("epoch_*.csv")
        }
        if not paths:
            return None
        found.append({epoch: read_predictions(paths[epoch], task) for epoch in sorted(paths)})
    return found


def read_predictions(path: Path, task: Task) -> pd.DataFrame:
    """Rows of a file that a trainer wrote of a fold."""
    texts = dict.fromkeys(("case_id", "subject_id", "session_id", *TEXT_TARGET[task.kind]), str)
    return pd.read_csv(path, dtype=texts, keep_default_na=False)


def _check(table: pd.DataFrame, number: int, split: dict, subjects: pd.DataFrame, task: Task, path: Path) -> None:
    needed = ["prediction"] if task.kind == "regression" else [f"prob_{name}" for name in task.classes]
    missing = [name for name in needed if name not in table]
    if missing:
        raise AdnextError(f"{path} has no column {missing[0]!r}: it was made for another task; train the fold again")
    held_out = table.loc[table["part"] == "val", "case_id"]
    if sorted(held_out) != sorted(split["val"]):
        raise AdnextError(f"{path} is not of fold {number} of splits_final.json; train the fold again")
    targets = subjects.set_index("case_id")[task.target]
    changed = table["case_id"][table["target"].to_numpy() != targets[table["case_id"]].to_numpy()]
    if len(changed):
        raise AdnextError(
            f"{path}: {changed.iloc[0]} has another {task.target} than in subjects.csv by now; train the fold again"
        )
