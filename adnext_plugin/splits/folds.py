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
from adnext_plugin.splits.design import PARTS, Fold, check_design
from adnext_plugin.splits.drawing import SEED, SELECTION_FRACTION, Scheme, cases_of, draw, people_of, select
from adnext_plugin.task import Task


def ensure_splits(dataset_folder: Path, subjects: pd.DataFrame, task: Task, scheme: Scheme | None = None) -> list[Fold]:
    """Read `splits_final.json`, or draw and write it if there is none.

    A file without `selection`, such as nnU-Net's own, is left as it is; the part is then drawn from `train` each time,
    always the same.

    Args:
        dataset_folder: of the preprocessed dataset.
        subjects: content of `subjects.csv`.
        task: names the target.
        scheme: how folds are to be drawn; None for the usual ones, or whatever is in the file.

    Raises:
        SplitError: folds cannot be drawn, those in the file do not fit the subjects, or they are others than those of
            the scheme.
    """
    path = dataset_folder / SPLITS_FILE
    if not path.is_file():
        splits = draw(subjects, task, scheme or Scheme())
        check_splits(splits, subjects, str(path))
        write_json(splits, path)
        return splits
    splits = _read_splits(path, subjects, task)
    if scheme is not None and splits_hash(splits) != splits_hash(draw(subjects, task, scheme)):
        raise SplitError(
            f"{path} has other folds than {scheme}, and runs may rest on them; leave the options out to keep them, or "
            "delete the file to have these drawn"
        )
    return splits


def _read_splits(path: Path, subjects: pd.DataFrame, task: Task) -> list[Fold]:
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


def check_splits(splits: list[Fold], subjects: pd.DataFrame, where: str) -> None:
    """Make sure that folds fit the subjects.

    Raises:
        SplitError: a subject is on two sides of a fold, a case is unknown, listed twice or in no part of a fold, a
            fold trains on nobody, or the folds are no cross-validation, no repeated one and no fixed hold-out.
    """
    subject_of = dict(zip(subjects["case_id"], subjects["subject_id"], strict=True))
    remedy = "delete the file to have new folds drawn, or correct it"
    for number, fold in enumerate(splits):
        side: dict[str, str] = {}
        missing = [part for part in PARTS if part not in fold]
        if missing:
            raise SplitError(f"{where}, fold {number} has no {missing[0]!r}; {remedy}")
        if not fold["train"]:
            raise SplitError(f"{where}, fold {number} trains on nobody; {remedy}")
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
    people = people_of(rows, task)
    shuffled = people.iloc[np.random.default_rng(SEED).permutation(len(people))]
    chosen = [group.iloc[: max(1, round(fraction * len(group)))] for _, group in shuffled.groupby("target")]
    return cases_of(pd.concat(chosen), rows)


def splits_hash(splits: list[Fold]) -> str:
    """SHA-256 of folds; results can be compared only where it is equal."""
    canonical = [{part: sorted(fold[part]) for part in PARTS} for fold in splits]
    return sha256(json.dumps(canonical, sort_keys=True).encode()).hexdigest()


def _with_selection(fold: Fold, subjects: pd.DataFrame, task: Task) -> Fold:
    rest = subjects[subjects["case_id"].isin(fold["train"])]
    people = people_of(rest, task)
    selected = people[select(people, SELECTION_FRACTION, np.random.default_rng(SEED))]
    chosen = set(cases_of(selected, rest))
    return {
        "train": [case for case in fold["train"] if case not in chosen],
        "selection": sorted(chosen),
        "val": fold["val"],
    }


def _refuse_count(counts: Counter, known: dict[str, str], message: str) -> None:
    for case in sorted(known):
        if counts[case] != 1:
            raise SplitError(message.format(repr(case), counts[case]))
