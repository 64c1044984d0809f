"""Cross-validation folds made of subjects: written once, checked whenever they are used.

Each fold is three disjoint lists of case ids. `val` is held out: nothing is ever chosen on it. Of the other subjects,
`selection` decides on the epoch and the threshold, and `train` is trained on. `design.py` says what folds may be
together.
"""

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from adnext_plugin.errors import SplitError
from adnext_plugin.files import read_json, write_json
from adnext_plugin.paths import SPLITS_FILE
from adnext_plugin.splits.design import check_design
from adnext_plugin.task import Task

Fold = dict[str, list[str]]

PARTS = ("train", "selection", "val")
FOLDS = 4  # as in the AD-NeXt paper
SELECTION_FRACTION = 0.2
TARGET_QUANTILES = 5  # within which folds are balanced, where the target is a number
SEED = 42


def ensure_splits(dataset_folder: Path, subjects: pd.DataFrame, task: Task) -> list[Fold]:
    """Read `splits_final.json`, or draw and write it if there is none.

    A file without `selection`, such as nnU-Net's own, is left as it is; the part is then drawn from `train` each time,
    always the same.

    Raises:
        SplitError: folds cannot be drawn, or those in the file do not fit the subjects.
    """
    path = dataset_folder / SPLITS_FILE
    if not path.is_file():
        splits = make_splits(subjects, task)
        check_splits(splits, subjects, str(path))
        write_json(splits, path)
        return splits
    splits = read_json(path)
    if not isinstance(splits, list) or not all(_is_fold(fold) for fold in splits):
        raise SplitError(f"{path} is not a list of folds with 'train' and 'val'; delete it to have new ones drawn")
    splits = [fold if "selection" in fold else _with_selection(fold, subjects, task) for fold in splits]
    check_splits(splits, subjects, str(path))
    return splits


def _is_fold(content: Any) -> bool:
    """Whether it has `train`, `val` and perhaps `selection`, each a list of case ids."""
    if not isinstance(content, dict) or not {"train", "val"} <= content.keys():
        return False
    parts = [content[part] for part in PARTS if part in content]
    return all(isinstance(part, list) and all(isinstance(case, str) for case in part) for part in parts)


def make_splits(
    subjects: pd.DataFrame,
    task: Task,
    *,
    folds: int = FOLDS,
    selection_fraction: float = SELECTION_FRACTION,
    seed: int = SEED,
) -> list[Fold]:
    """Draw folds of subjects, balanced by target and, within it, by site, sex and age tercile where they are known.

    Args:
        subjects: content of `subjects.csv`, in any order.
        task: names the target.
        folds: how many.
        selection_fraction: share of the subjects outside `val` that goes to `selection`.
        seed: equal seeds give equal folds.

    Raises:
        SplitError: a class has too few subjects.
    """
    people = _people(subjects, task)
    counts = {f"class {name!r}": (people["target"] == name).sum() for name in task.classes}
    for who, count in (counts or {"the dataset": len(people)}).items():
        # every fold needs one held out, one to select on and one to train on
        if count < max(folds, 3):
            remedy = "join classes with --label-map, or " if counts else ""
            raise SplitError(f"{who} has {count} subjects, fewer than {folds} folds need; {remedy}add subjects")
    generator = np.random.default_rng(seed)
    pile = _deal(people, folds, generator)
    splits = []
    for fold in range(folds):
        rest = people[pile != fold]
        selected = _select(rest, selection_fraction, generator)
        parts = {"train": rest[~selected], "selection": rest[selected], "val": people[pile == fold]}
        splits.append({part: _cases_of(who, subjects) for part, who in parts.items()})
    return splits


def check_splits(splits: list[Fold], subjects: pd.DataFrame, where: str) -> None:
    """Make sure that folds fit the subjects.

    Raises:
        SplitError: a subject is on two sides of a fold, a case is unknown, listed twice or in no part of a fold, or
            the folds are no cross-validation, no repeated one and no fixed hold-out.
    """
    subject_of = dict(zip(subjects["case_id"], subjects["subject_id"], strict=True))
    remedy = "delete the file to have new folds drawn, or correct it"
    for number, fold in enumerate(splits):
        side: dict[str, str] = {}
        missing = [part for part in PARTS if part not in fold]
        if missing:
            raise SplitError(f"{where}, fold {number} has no {missing[0]!r}; {remedy}")
        for part in PARTS:
            for case in fold[part]:
                if case not in subject_of:
                    raise SplitError(f"{where}, fold {number}: case {case!r} is not in subjects.csv; {remedy}")
                if side.setdefault(subject_of[case], part) != part:
                    raise SplitError(
                        f"{where}, fold {number}: subject {subject_of[case]!r} is in both {side[subject_of[case]]} and "
                        f"{part}; {remedy}"
                    )
        listed = Counter(case for part in PARTS for case in fold[part])
        _refuse_count(listed, subject_of, f"{where}, fold {number}: case {{}} is listed {{}} times; {remedy}")
    check_design(splits, subject_of, where, remedy)


def require_every_class(cases: list[str], subjects: pd.DataFrame, task: Task, where: str) -> None:
    """Make sure that somebody of every class is trained on.

    Args:
        cases: those to train on.
        subjects: content of `subjects.csv`.
        task: names the classes; other kinds of task have none.
        where: which part of which fold, for messages.

    Raises:
        SplitError: a class is absent; names it.
    """
    if task.kind != "classification":
        return
    counts = subjects.loc[subjects["case_id"].isin(cases), task.column].value_counts()
    absent = [name for name in task.classes if name not in counts]
    if absent:
        there = ", ".join(f"{counts[name]} of {name}" for name in task.classes if name in counts) or "nobody"
        raise SplitError(
            f"{where} has no case of class {absent[0]!r}, only {there}: a network cannot learn what it never sees. "
            f"Correct {SPLITS_FILE}, or delete it to have new folds drawn; or join classes with --label-map"
        )


def take_fraction(cases: list[str], subjects: pd.DataFrame, task: Task, fraction: float) -> list[str]:
    """All cases of a share of each class's or quantile's subjects, at least one; a smaller share is part of a larger.

    Args:
        cases: those of the training part.
        subjects: content of `subjects.csv`.
        task: names the target.
        fraction: above 0, at most 1.
    """
    rows = subjects[subjects["case_id"].isin(cases)]
    people = _people(rows, task)
    shuffled = people.iloc[np.random.default_rng(SEED).permutation(len(people))]
    chosen = [group.iloc[: max(1, round(fraction * len(group)))] for _, group in shuffled.groupby("target")]
    return _cases_of(pd.concat(chosen), rows)


def splits_hash(splits: list[Fold]) -> str:
    """SHA-256 of folds; results can be compared only where it is equal."""
    canonical = [{part: sorted(fold[part]) for part in PARTS} for fold in splits]
    return sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()


def _people(subjects: pd.DataFrame, task: Task) -> pd.DataFrame:
    """One row per subject: target and strata. Who changes class counts for the most frequent one, of two the last.

    A number is replaced by its quantile, of the subject's mean.
    """
    ordered = subjects.sort_values("case_id")
    by_subject = ordered.groupby("subject_id", sort=True)
    people = pd.DataFrame({"target": ""}, index=by_subject.size().index)
    if task.kind == "classification":
        people["target"] = by_subject[task.column].agg(_most_frequent)
    elif task.kind == "regression":
        ranks = by_subject[task.column].mean().rank(method="first", pct=True)
        people["target"] = np.ceil(ranks * TARGET_QUANTILES).astype(int).astype(str)
    for column in ("site", "sex"):
        people[column] = by_subject[column].agg(_most_frequent) if column in subjects else ""
    people["age_tercile"] = 0
    if "age" in subjects:
        ranks = by_subject["age"].mean().rank(method="first", pct=True)
        people["age_tercile"] = np.ceil(ranks.fillna(0) * 3).astype(int)
    return people


def _most_frequent(values: pd.Series) -> str:
    counts = values.value_counts()
    best = set(counts[counts == counts.max()].index)
    return next(value for value in reversed(values.tolist()) if value in best)


def _deal(people: pd.DataFrame, piles: int, generator: np.random.Generator) -> np.ndarray:
    """Deal subjects like cards, sorted by stratum and shuffled within it, so that each pile gets its share of each."""
    shuffled = people.assign(order=generator.permutation(len(people)))
    ranks = shuffled.sort_values(["target", "site", "sex", "age_tercile", "order"])
    pile_of = pd.Series(np.arange(len(people)) % piles, index=ranks.index)
    return pile_of.reindex(people.index).to_numpy()


def _select(people: pd.DataFrame, fraction: float, generator: np.random.Generator) -> np.ndarray:
    selected = np.zeros(len(people), dtype=bool)
    for name in people["target"].unique():
        # class by class, so that each is in `selection` at least once
        members = (people["target"] == name).to_numpy()
        selected[members] = _deal(people[members], round(1 / fraction), generator) == 0
    return selected


def _with_selection(fold: Fold, subjects: pd.DataFrame, task: Task) -> Fold:
    rest = subjects[subjects["case_id"].isin(fold["train"])]
    people = _people(rest, task)
    selected = people[_select(people, SELECTION_FRACTION, np.random.default_rng(SEED))]
    chosen = set(_cases_of(selected, rest))
    return {
        "train": [case for case in fold["train"] if case not in chosen],
        "selection": sorted(chosen),
        "val": fold["val"],
    }


def _cases_of(people: pd.DataFrame, subjects: pd.DataFrame) -> list[str]:
    return sorted(subjects.loc[subjects["subject_id"].isin(people.index), "case_id"])


def _refuse_count(counts: Counter, known: dict[str, str], message: str) -> None:
    for case in sorted(known):
        if counts[case] != 1:
            raise SplitError(message.format(repr(case), counts[case]))
