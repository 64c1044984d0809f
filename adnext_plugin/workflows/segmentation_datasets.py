"""Datasets of segmentations, which nnU-Net has planned, prepared and split: how they are told from those of people."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from adnext_plugin.errors import FormatError, SettingsError
from adnext_plugin.files import read_json, read_object
from adnext_plugin.paths import BLOCK, DATASET_FILE, PLANS_NAME, SPLITS_FILE, plans_file
from adnext_plugin.workflows.common import DatasetRequest

NNUNETS_PLANS = "nnUNetPlans"

Folds = Sequence[Mapping[str, Sequence[str]]]
AnyRequest = TypeVar("AnyRequest", bound=DatasetRequest)


def has_segmentations(dataset_folder: Path) -> bool:
    """Whether a preprocessed dataset is one of segmentations, and not of people's labels.

    Raises:
        PathsError: its dataset.json is missing or damaged.
    """
    return BLOCK not in read_object(dataset_folder / DATASET_FILE)


def require_people(dataset_folder: Path, instead: str) -> None:
    """Make sure that a dataset has labels of people.

    Args:
        dataset_folder: preprocessed.
        instead: what is there for segmentations.

    Raises:
        SettingsError: it has segmentations.
    """
    if has_segmentations(dataset_folder):
        raise SettingsError(f"{dataset_folder.name} has segmentations, and no labels of people; use {instead}")


def with_nnunets_plans(request: AnyRequest) -> AnyRequest:
    """The request for nnU-Net's plans, where nobody named others and there are segmentations and no plans of ours."""
    folder = request.dataset_folder
    ours = plans_file(folder, PLANS_NAME)
    if request.plans != PLANS_NAME or ours.is_file() or not has_segmentations(folder):
        return request
    return replace(request, plans=NNUNETS_PLANS)


def read_folds(dataset_folder: Path) -> Folds | None:
    """The folds that nnU-Net or somebody else has drawn; None where there is no file of them yet.

    Raises:
        PathsError: the file cannot be read.
        FormatError: it holds no folds.
    """
    path = dataset_folder / SPLITS_FILE
    if not path.is_file():
        return None
    folds = read_json(path)
    if not isinstance(folds, list) or not all(isinstance(one, dict) and "val" in one for one in folds):
        raise FormatError(f"{path} is no list of folds with 'train' and 'val'; restore the file")
    return folds
