"""Reading what nnU-Net found of a run's held-out cases: `validation/summary.json` of every fold, put together.

Its Dice is taken as it is. Where a case has neither a structure nor any voxel that is called so, there is no Dice.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from adnext_plugin.errors import FormatError, PathsError, SplitError
from adnext_plugin.files import read_object, require_file
from adnext_plugin.run_folder import FoldFolder, RunFolder

COUNTS = ("TP", "FP", "FN", "TN")  # voxels
REMEDY = "validate the fold again with nnUNetv2_train ... --val"


@dataclass(frozen=True, kw_only=True, eq=False)
class SegmentedCases:
    """The held-out cases of a run, of all folds that there are, in order of their names.

    `case_ids`, `folds` and `files` (N,): `files` are the predictions, below the run's folder. `dice` (N, classes) is
    NaN where there is none. `voxels` (N, classes) are those of the structure in the ground truth, `size` (N,) all that
    were compared.
    """

    classes: tuple[str, ...]
    case_ids: tuple[str, ...]
    folds: tuple[int, ...]
    files: tuple[str, ...]
    dice: np.ndarray
    voxels: np.ndarray
    size: np.ndarray


@dataclass(frozen=True, kw_only=True)
class _Case:
    case_id: str
    fold: int
    file: str
    dice: tuple[float, ...]
    voxels: tuple[int, ...]
    size: int


def read_segmented_cases(run: RunFolder) -> SegmentedCases:
    """Read the summaries of a run's numbered folds. `fold_all` holds nobody out and is left alone.

    Raises:
        PathsError: there is no such run, no fold was validated, or a file is damaged.
        FormatError: a summary is none of segmentations, or of other classes than the dataset's.
        SplitError: a case was held out by two folds.
    """
    dataset = read_object(require_file(run.dataset_file, "train first, or check -tr, -p and -c"))
    keys, ending = _classes(dataset, run.dataset_file), str(dataset.get("file_ending", ""))
    found: dict[str, _Case] = {}
    for fold in run.folds():
        if not fold.name.isdigit() or not fold.summary_file.is_file():
            continue
        for case in _cases(fold, keys, ending):
            if case.case_id in found:
                raise SplitError(
                    f"{case.case_id} was held out by fold {found[case.case_id].fold} and by fold {case.fold} of "
                    f"{run.path}, and can count only once; move the fold away that is not of splits_final.json"
                )
            found[case.case_id] = case
    if not found:
        raise PathsError(f"no fold of {run.path} has a validation/summary.json; train one to its end first")
    cases = [found[name] for name in sorted(found)]
    return SegmentedCases(
        classes=tuple(keys.values()),
        case_ids=tuple(case.case_id for case in cases),
        folds=tuple(case.fold for case in cases),
        files=tuple(case.file for case in cases),
        dice=np.array([case.dice for case in cases], dtype=float),
        voxels=np.array([case.voxels for case in cases]),
        size=np.array([case.size for case in cases]),
    )


def require_folds(cases: SegmentedCases, splits: Sequence[Mapping[str, Sequence[str]]], run: RunFolder) -> None:
    """Make sure that the cases are those that the dataset's folds hold out, each and no other.

    A fold beyond the file is one that nnU-Net has drawn by chance, of which no file tells.

    Raises:
        SplitError: names the first case that is not.
    """
    by_fold: dict[int, set[str]] = {}
    for case, fold in zip(cases.case_ids, cases.folds, strict=True):
        by_fold.setdefault(fold, set()).add(case)
    for fold, ours in sorted(by_fold.items()):
        if fold >= len(splits):
            continue
        summary, held_out = run.fold(fold).summary_file, set(splits[fold]["val"])
        if missing := sorted(held_out - ours):
            raise SplitError(f"{summary} lacks {missing[0]}, which fold {fold} holds out; {REMEDY}")
        if strange := sorted(ours - held_out):
            raise SplitError(
                f"{summary} has {strange[0]}, which fold {fold} of splits_final.json does not hold out; train the fold "
                "again, or bring back the file that it was trained with"
            )


def _classes(dataset: Mapping[str, Any], path: Path) -> dict[str, str]:
    """Name of every class, or region, by the key that nnU-Net gives it in summaries; neither background nor ignored."""
    labels = dataset.get("labels")
    if not isinstance(labels, Mapping):
        raise FormatError(f"{path} has no object 'labels', by which nnU-Net names classes; restore the file")
    found = {}
    for name, label in labels.items():
        if name not in ("background", "ignore") and label not in (0, [0]):
            found[str(tuple(label) if isinstance(label, list) else label)] = str(name)
    return found


def _cases(fold: FoldFolder, keys: Mapping[str, str], ending: str) -> Iterator[_Case]:
    path = fold.summary_file
    rows = read_object(path).get("metric_per_case")
    if not isinstance(rows, list) or not rows:
        raise FormatError(f"{path} is no summary of segmentations by nnU-Net; {REMEDY}")
    for number, row in enumerate(rows, start=1):
        try:
            # of whichever system it was written on
            name = PurePosixPath(row["prediction_file"].replace("\\", "/")).name
            metrics = row["metrics"]
            if set(metrics) != set(keys):
                raise FormatError(
                    f"{path}, case {number}: it has the classes {', '.join(metrics)}, and dataset.json has "
                    f"{', '.join(keys)}; {REMEDY}"
                )
            counts = {key: [int(metrics[key][one]) for one in COUNTS] for key in keys}
            yield _Case(
                case_id=name.removesuffix(ending),
                fold=int(fold.name),
                file=f"{fold.path.name}/validation/{name}",
                dice=tuple(_dice(metrics[key]["Dice"]) for key in keys),
                voxels=tuple(tp + fn for tp, _, fn, _ in counts.values()),
                size=max(sum(one) for one in counts.values()),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise FormatError(f"{path}, case {number} is not as nnU-Net writes it ({error}); {REMEDY}") from error


def _dice(stored: float | None) -> float:
    """nnU-Net writes NaN, for which strict JSON has null."""
    dice = np.nan if stored is None else float(stored)
    if not np.isnan(dice) and not 0 <= dice <= 1:
        raise ValueError(f"Dice is {dice}")
    return dice
