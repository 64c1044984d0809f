"""Segmentation runs side by side: paired differences of Dice on the same cases."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from adnext_plugin.files import write_json
from adnext_plugin.paths import results_dir
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.workflows.compare import Request, refuse_repeats
from adnext_plugin.workflows.evaluate_segmentation import held_out_cases, unit_of, warning_of
from adnext_plugin.workflows.segmentation_datasets import read_folds, with_nnunets_plans

if TYPE_CHECKING:
    from adnext_plugin.evaluation.segmentation.dice import ClassDice
    from adnext_plugin.evaluation.segmentation.paired import PairOfRuns


@dataclass(frozen=True, kw_only=True)
class Result:
    """Dice of every run, by the name that the result gives it, and all pairs of runs.

    `cases` counts those that all runs segmented, held out by `folds`. `unit` is what was resampled: "subject", or
    "case" where nobody has written down whose cases they are. `warnings`: what results are stamped with, by run.
    """

    dataset: str
    runs: "dict[str, tuple[ClassDice, ...]]"
    folders: tuple[RunFolder, ...]
    pairs: "tuple[PairOfRuns, ...]"
    cases: int
    folds: tuple[int, ...]
    unit: str
    warnings: tuple[str, ...]


def compare_segmentations(request: Request) -> Result:
    """Compare runs that have segmented the same cases, by nnU-Net's summaries.

    Raises:
        PathsError: there is no such dataset or run, or no fold was validated.
        SettingsError: a run is named twice.
        FormatError: a summary or the file of folds is none.
        SplitError: the runs segmented other cases, or were validated on other ground truths.
        TableError: `subjects.csv` does not say whose the cases are.
    """
    from adnext_plugin.evaluation.segmentation import paired
    from adnext_plugin.evaluation.segmentation.dice import dice_of_classes
    from adnext_plugin.evaluation.segmentation.people import people_of_cases
    from adnext_plugin.evaluation.subjects.evaluated_runs import distinct_names, find_run

    request = with_nnunets_plans(request)
    dataset = request.dataset_folder
    results = results_dir() / dataset.name
    folders = [find_run(run, results, request.plans, request.configuration) for run in request.runs]
    refuse_repeats(folders)
    names = distinct_names(folders)
    drawn = read_folds(dataset)
    runs = {name: held_out_cases(folder, drawn) for name, folder in zip(names, folders, strict=True)}
    paired.require_same_cases(runs)
    one = runs[names[0]]
    people = people_of_cases(dataset, one.case_ids)
    owners = people or one.case_ids
    stamps = [(name, warning_of(folder)) for name, folder in zip(names, folders, strict=True)]
    result = Result(
        dataset=dataset.name,
        runs={name: dice_of_classes(cases, owners, request.resamples) for name, cases in runs.items()},
        folders=tuple(folders),
        pairs=paired.compare_segmentations(runs, owners, request.resamples),
        cases=len(one.case_ids),
        folds=tuple(sorted(set(one.folds))),
        unit=unit_of(people),
        warnings=tuple(f"{name}: {stamp}" for name, stamp in stamps if stamp),
    )
    if request.output:
        write_json(_content(result, request.resamples), request.output)
    return result


def _content(result: Result, resamples: int) -> dict[str, Any]:
    return {
        "warnings": list(result.warnings),
        "dataset": result.dataset,
        "unit": result.unit,
        "cases": result.cases,
        "folds": list(result.folds),
        "resamples": resamples,
        "runs": [{"name": name, "dice": [asdict(one) for one in found]} for name, found in result.runs.items()],
        "pairs": [asdict(pair) for pair in result.pairs],
    }
