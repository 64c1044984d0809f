"""What the scans look like that a model was trained on, measured on the preprocessed dataset and kept as aggregates."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from adnext_plugin.cohort import Cohort
from adnext_plugin.errors import SettingsError
from adnext_plugin.files import require_file
from adnext_plugin.paths import SPLITS_FILE, plans_file
from adnext_plugin.prediction.description import FoldDescription, ModelDescription, Range
from adnext_plugin.prediction.ensemble import read_stored
from adnext_plugin.prediction.features import FeatureProfile
from adnext_plugin.prediction.inputs import Inputs, read_inputs
from adnext_plugin.prediction.measured import measure, ranges_of
from adnext_plugin.prediction.model import FoldModel, FoldNetwork, Model
from adnext_plugin.progress import progress_bar


def with_ranges(model: Model, dataset_folder: Path) -> Model:
    """The model with ranges of size and intensities over the dataset that it was trained on.

    Raises:
        AdnextError: the dataset is not there any more, or is another one by now.
    """
    inputs = _inputs(model.description, dataset_folder, ())
    measured = []
    for index in progress_bar(range(len(inputs.scans)), desc="Measuring", unit="case"):
        stored = read_stored(inputs, index, model.description)
        measured.append(measure(stored.image_czyx[0], stored.properties))
    return replace(model, description=replace(model.description, ranges=ranges_of(measured)))


def with_features(model: Model, dataset_folder: Path, device: str) -> Model:
    """The model with what each network's features of its training cases look like.

    Raises:
        AdnextError: the dataset is not there any more, or is another one by now.
    """
    pairs = [_with_features(model, index, dataset_folder, device) for index in range(len(model.folds))]
    descriptions, folds = zip(*pairs, strict=True)
    return Model(description=replace(model.description, folds=descriptions), folds=folds)


def _with_features(model: Model, index: int, dataset_folder: Path, device: str) -> tuple[FoldDescription, FoldModel]:
    description, fold = model.description.folds[index], model.folds[index]
    if description.name == "all":  # nobody was held out to compare with
        return description, fold
    training, held_out = _parts(model.description, dataset_folder, int(description.name))
    network = FoldNetwork(model, index, device)
    inputs = _inputs(model.description, dataset_folder, network.columns)
    found: dict[str, np.ndarray] = {}
    for number, scan in enumerate(progress_bar(inputs.scans, desc=f"Features of fold {description.name}", unit="case")):
        stored = read_stored(inputs, number, model.description)
        _, features = network(stored.image_czyx, inputs.columns.iloc[[number]])
        if features is None:
            return description, fold
        found[scan.case_id] = features
    absent = [case for case in [*training, *held_out] if case not in found]
    if absent:
        raise SettingsError(f"{dataset_folder} has no prepared case {absent[0]!r} of its folds; preprocess it again")
    profile = FeatureProfile.of(np.stack([found[case] for case in training]))
    usual = Range.of(profile.distances(np.stack([found[case] for case in held_out])).tolist())
    if usual is None or not usual.median > 0:
        return description, fold
    return replace(description, feature_distance=usual), replace(fold, features=profile)


def _parts(model: ModelDescription, dataset_folder: Path, fold: int) -> tuple[list[str], list[str]]:
    require_file(dataset_folder / SPLITS_FILE, "restore it, or export with --without-ranges")
    cohort = Cohort.open(dataset_folder)
    if fold >= len(cohort.splits):
        raise SettingsError(f"{dataset_folder / SPLITS_FILE} has no fold {fold}; the model was trained on other splits")
    parts = cohort.splits[fold]
    if model.protocol == "paper":
        return [*parts["train"], *parts["selection"]], list(parts["val"])
    return list(parts["train"]), [*parts["selection"], *parts["val"]]


def _inputs(model: ModelDescription, dataset_folder: Path, columns: tuple[str, ...]) -> Inputs:
    require_file(plans_file(dataset_folder, model.plans_name), "restore the dataset, or export with --without-ranges")
    return read_inputs(str(dataset_folder), model, columns, {}, "")
