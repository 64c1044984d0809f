"""Several preprocessed datasets become one, without copying."""

import re
from dataclasses import dataclass
from pathlib import Path

from adnext_plugin.errors import SettingsError
from adnext_plugin.paths import PLANS_NAME, dataset_folder_name, preprocessed_dir
from adnext_plugin.task import Task
from adnext_plugin.workflows.common import Tell


@dataclass(frozen=True, kw_only=True)
class Request:
    """The new dataset's number and name, and the numbers or names of the datasets to merge."""

    number: int
    name: str
    datasets: tuple[str, ...]
    plans: str = PLANS_NAME

    def __post_init__(self) -> None:
        if not 1 <= self.number <= 999:
            raise SettingsError(f"the dataset number must be 1 to 999, got {self.number}")
        if not re.fullmatch(r"[A-Za-z0-9]+", self.name):
            raise SettingsError(f"the dataset name may have letters and digits only, got {self.name!r}")


@dataclass(frozen=True, kw_only=True)
class Result:
    """The merged dataset."""

    folder: Path
    task: Task
    scans: int
    subjects: int


def merge(request: Request, tell: Tell) -> Result:
    """Link the volumes of several datasets into a new one, and draw its folds.

    Raises:
        SettingsError: fewer than two different datasets, or datasets that were prepared differently.
        PathsError: a dataset is missing, or the new one exists.
        TableError: one image belongs to different subjects.
    """
    folder = preprocessed_dir()
    names = list(dict.fromkeys(dataset_folder_name(dataset, [folder]) for dataset in request.datasets))
    if len(names) < 2:
        raise SettingsError(f"give at least two different datasets to merge, got {', '.join(names)}")

    from adnext_plugin.preprocessing.merge import merge_datasets

    target = folder / f"Dataset{request.number:03d}_{request.name}"
    task, subjects = merge_datasets([folder / name for name in names], target, request.plans)
    people = int(subjects["subject_id"].nunique())
    tell(f"{len(subjects)} scans of {people} subjects are in {target}")
    if task.kind == "unlabelled":
        tell("their tasks differ or they have none: the merged dataset is for pre-training only")
    return Result(folder=target, task=task, scans=len(subjects), subjects=people)
