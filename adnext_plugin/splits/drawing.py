"""How folds of subjects are drawn: shared out evenly, over again, or by groups that stay together."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from adnext_plugin.errors import SplitError, nearest_names
from adnext_plugin.splits.design import Fold
from adnext_plugin.task import Task

FOLDS = 4  # as in the AD-NeXt paper
SELECTION_FRACTION = 0.2
TARGET_QUANTILES = 5  # within which folds are balanced, where the target is a number
SEED = 42


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How folds are to be drawn.

    `folds`: of a cross-validation. `repeats`: how many of them, each with the people dealt out anew. `group_by`: a
    column of `subjects.csv`, such as the site; people with one value of it are all on one side of a fold.
    `leave_one_out`: each such group is the held-out part of one fold, so that their number is that of the folds.
    """

    folds: int = FOLDS
    repeats: int = 1
    group_by: str | None = None
    leave_one_out: bool = False

    def __post_init__(self) -> None:
        if self.folds < 2:
            raise SplitError(f"--folds must be at least 2, got {self.folds}")
        if self.repeats < 1:
            raise SplitError(f"--repeats must be at least 1, got {self.repeats}")
        if self.leave_one_out and self.group_by is None:
            raise SplitError("--leave-one-out leaves out one group at a time; say by which column with --group-by")
        if self.leave_one_out and (self.repeats > 1 or self.folds != FOLDS):
            raise SplitError("--leave-one-out has one fold for each group; leave --folds and --repeats out")

    @classmethod
    def asked(cls, **options: Any) -> "Scheme | None":
        """The scheme of options, of which those that are None or False were not given; None where none was."""
        given = {name: value for name, value in options.items() if value not in (None, False)}
        return cls(**given) if given else None

    def __str__(self) -> str:
        if self.leave_one_out:
            return f"one for each value of {self.group_by}"
        words = f"{self.folds}"
        words += f" of {self.repeats} repeats" if self.repeats > 1 else ""
        return words + (f" by {self.group_by}" if self.group_by else "")


def draw(subjects: pd.DataFrame, task: Task, scheme: Scheme) -> list[Fold]:
    """Draw folds as a scheme says.

    Args:
        subjects: content of `subjects.csv`, in any order.
        task: names the target.
        scheme: how.

    Raises:
        SplitError: a class or the groups are too few, there is no such column, or somebody has no value in it or two.
    """
    if scheme.group_by is None:
        return [fold for n in range(scheme.repeats) for fold in make_splits(subjects, task, scheme.folds, SEED + n)]
    people, groups = people_of(subjects, task), _groups(subjects, scheme.group_by)
    if scheme.leave_one_out:
        pile = groups.rank(method="dense").astype(int).to_numpy() - 1
        return _folds_of(pile, people, subjects, np.random.default_rng(SEED))
    if groups.nunique() < max(scheme.folds, 3):
        # every fold needs one held out, one to select on and one to train on
        raise SplitError(
            f"{scheme.group_by!r} has {groups.nunique()} values, fewer than {scheme.folds} folds need; use fewer "
            "--folds, or --leave-one-out"
        )
    splits = []
    for seed in range(SEED, SEED + scheme.repeats):
        pile = _deal_groups(people, groups, scheme.folds, seed)
        splits += _folds_of(pile, people, subjects, np.random.default_rng(seed), groups)
    return splits


def make_splits(subjects: pd.DataFrame, task: Task, folds: int = FOLDS, seed: int = SEED) -> list[Fold]:
    """Draw folds of subjects, balanced by target and, within it, by site, sex and age tercile where they are known.

    Args:
        subjects: content of `subjects.csv`, in any order.
        task: names the target.
        folds: how many.
        seed: equal seeds give equal folds.

    Raises:
        SplitError: a class has too few subjects.
    """
    people = people_of(subjects, task)
    counts = {f"class {name!r}": (people["target"] == name).sum() for name in task.classes}
    for who, count in (counts or {"the dataset": len(people)}).items():
        # every fold needs one held out, one to select on and one to train on
        if count < max(folds, 3):
            remedy = "use fewer --folds, " if folds > 2 else ""
            remedy += "join classes with --label-map, or " if counts else "or "
            raise SplitError(f"{who} has {count} subjects, fewer than {folds} folds need; {remedy}add subjects")
    generator = np.random.default_rng(seed)
    return _folds_of(_deal(people, folds, generator), people, subjects, generator)


def _folds_of(
    pile: np.ndarray,
    people: pd.DataFrame,
    subjects: pd.DataFrame,
    generator: np.random.Generator,
    groups: pd.Series | None = None,
) -> list[Fold]:
    """One fold for each pile of people, which it holds out; with `groups`, they stay whole in `selection`, too."""
    splits = []
    for fold in range(pile.max() + 1):
        rest = people[pile != fold]
        if groups is None:
            selected = select(rest, SELECTION_FRACTION, generator)
        else:
            of_rest = groups[pile != fold]
            parts = min(round(1 / SELECTION_FRACTION), of_rest.nunique())
            selected = _deal_groups(rest, of_rest, parts, int(generator.integers(2**31))) == 0
        sides = {"train": rest[~selected], "selection": rest[selected], "val": people[pile == fold]}
        splits.append({part: cases_of(who, subjects) for part, who in sides.items()})
    return splits


def _deal_groups(people: pd.DataFrame, groups: pd.Series, piles: int, seed: int) -> np.ndarray:
    """The pile of each subject; groups stay whole, and targets are shared out as evenly as that allows."""
    from sklearn.model_selection import StratifiedGroupKFold

    pile_of = np.zeros(len(people), dtype=int)
    dealer = StratifiedGroupKFold(piles, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # of classes rarer than there are piles, which whole groups cannot help
        warnings.simplefilter("ignore", UserWarning)
        for pile, (_, members) in enumerate(dealer.split(people, people["target"], groups)):
            pile_of[members] = pile
    return pile_of


def _groups(subjects: pd.DataFrame, column: str) -> pd.Series:
    """The group of each subject, by their id, sorted.

    Raises:
        SplitError: there is no such column, or somebody has no value in it or two.
    """
    if column not in subjects:
        raise SplitError(f"--group-by: subjects.csv has no column {column!r}{nearest_names(column, subjects.columns)}")
    values = subjects[column].astype("string").fillna("").str.strip()
    by_subject = values.groupby(subjects["subject_id"], sort=True)
    for subject, count in by_subject.nunique().items():
        if count > 1:
            raise SplitError(f"--group-by {column}: subject {subject!r} has {count} values of it; correct subjects.csv")
    groups = by_subject.first()
    if (groups == "").any():
        raise SplitError(f"--group-by {column}: subject {groups.index[groups == ''][0]!r} has none; fill it in")
    if groups.nunique() < 2:
        raise SplitError(f"--group-by {column}: everybody has {groups.iloc[0]!r}; there is nothing to keep apart")
    return groups


def people_of(subjects: pd.DataFrame, task: Task) -> pd.DataFrame:
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
        # `selection` takes one of each at least, and must leave as many to train on
        are_enough = len(people) * (1 - 1 / FOLDS) >= 2 * TARGET_QUANTILES
        quantiles = TARGET_QUANTILES if are_enough else max(1, len(people) // FOLDS)
        people["target"] = np.ceil(ranks * quantiles).astype(int).astype(str)
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


def select(people: pd.DataFrame, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Which subjects go to `selection`: at least one of every class."""
    selected = np.zeros(len(people), dtype=bool)
    for name in people["target"].unique():
        # class by class, so that each is in `selection` at least once
        members = (people["target"] == name).to_numpy()
        selected[members] = _deal(people[members], round(1 / fraction), generator) == 0
    return selected


def cases_of(people: pd.DataFrame, subjects: pd.DataFrame) -> list[str]:
    """Cases of subjects, sorted."""
    return sorted(subjects.loc[subjects["subject_id"].isin(people.index), "case_id"])
