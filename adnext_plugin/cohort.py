"""A cohort: what is to be learned of whom, and on which folds, read and checked together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from adnext_plugin.splits.design import Fold, is_hold_out, repeats_of
from adnext_plugin.splits.folds import ensure_splits, splits_hash
from adnext_plugin.subjects import permute_targets, read_dataset
from adnext_plugin.task import Task


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """A dataset's task, people and folds.

    `subjects` is content of `subjects.csv`, one row per case; `splits` are the folds of these very cases; `folder` is
    where they were read from, a preprocessed dataset.
    """

    task: Task
    subjects: pd.DataFrame
    splits: Sequence[Fold]
    folder: Path

    @classmethod
    def open(cls, folder: Path) -> "Cohort":
        """Read a preprocessed dataset; where it has no folds yet, they are drawn and written.

        Raises:
            PathsError: a file is missing or damaged.
            SettingsError: the task in `dataset.json` is none.
            TableError: `subjects.csv` is unusable.
            SplitError: folds cannot be drawn, or those in the file do not fit the subjects.
        """
        task, subjects = read_dataset(folder)
        return cls(task=task, subjects=subjects, splits=ensure_splits(folder, subjects, task), folder=folder)

    @property
    def name(self) -> str:
        """Full name of the dataset, such as Dataset101_AD."""
        return self.folder.name

    @property
    def people(self) -> pd.DataFrame:
        """One row per subject: that of their first scan."""
        return self.subjects.sort_values("case_id").drop_duplicates("subject_id")

    @property
    def splits_sha256(self) -> str:
        """Hash of the folds; results can be compared only where it is equal."""
        return splits_hash(list(self.splits))

    @property
    def repeats(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of the folds of each repeat; there is one unless cross-validation is repeated."""
        return repeats_of(self.splits)

    @property
    def is_hold_out(self) -> bool:
        """Whether one part of the people is held out, and the others never are."""
        return is_hold_out(self.splits)

    def rows(self, cases: Sequence[str]) -> pd.DataFrame:
        """Rows of `subjects.csv` in the order of the cases, by case id."""
        return self.subjects.set_index("case_id").loc[list(cases)]

    def permuted(self, seed: int | None) -> "Cohort":
        """The cohort with all targets dealt out anew among subjects under a seed; None leaves them as they are."""
        if seed is None:
            return self
        return replace(self, subjects=permute_targets(self.subjects, self.task, seed))
