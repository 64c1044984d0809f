"""One self-contained page on an evaluated run."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.files import read_json, replacing, require_file
from adnext_plugin.findings import ScoreLine
from adnext_plugin.plan import folder_of_volumes
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.run_metrics import read_metrics
from adnext_plugin.run_records import read_run_info
from adnext_plugin.workflows.baselines import region_columns
from adnext_plugin.workflows.common import RunRequest
from adnext_plugin.workflows.report_explanations import read_explanations
from adnext_plugin.workflows.report_pictures import brain_pictures, flow

if TYPE_CHECKING:
    from adnext_plugin.evaluation.scores.score import Score
    from adnext_plugin.evaluation.subjects.fold_files import FoldFiles

BAND_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Request(RunRequest):
    """Which run; `comparison`: JSON file of a comparison, to be shown as well; `output`: beside the scores if None."""

    comparison: Path | None = None
    output: Path | None = None


@dataclass(frozen=True, kw_only=True)
class Result:
    """The page."""

    page: Path


def report(request: Request) -> Result:
    """Write the page on a run.

    Raises:
        PathsError: there is no such dataset, or the run was not trained or evaluated.
    """
    run = request.run
    page = request.output or run.evaluation.report_file
    write_report(run, request.dataset_folder, page, request.comparison)
    return Result(page=page)


def write_report(run: RunFolder, dataset_folder: Path, page: Path, comparison: Path | None = None) -> None:
    """Write the page on an evaluated run.

    Args:
        run: all its folds trained, and evaluated.
        dataset_folder: the preprocessed dataset.
        page: HTML file to write.
        comparison: JSON file of `adnext_compare`.

    Raises:
        PathsError: the run was not trained or evaluated.
    """
    from adnext_plugin.cohort import Cohort
    from adnext_plugin.evaluation.studies.normative import deviations
    from adnext_plugin.evaluation.subjects.fold_files import read_folds
    from adnext_plugin.plan import read_plan
    from adnext_plugin.preprocessing.chain import preparation_in_words
    from adnext_plugin.records import to_json
    from adnext_plugin.report.facts import RunFacts
    from adnext_plugin.report.html import report_html

    metrics = read_metrics(require_file(run.evaluation.metrics_file, "evaluate the run first"))
    files = read_folds(run, Cohort.open(dataset_folder), "adnext_train")
    folds = range(len(files.cohort.splits))
    plan = read_plan(run.plans_file, run.configuration)
    facts = RunFacts(
        cohort=files.cohort,
        metrics=metrics,
        runs=[read_run_info(run.fold(fold).run_file) for fold in folds],
        plan=to_json(plan),
        preparation=preparation_in_words(plan),
        learning_curves=_learning_curves(run, len(folds)),
        comparison=read_json(comparison) if comparison else None,
        explained=read_explanations(run),
        deviations=deviations(files.cohort, region_columns(files.cohort.subjects)),
        brains=brain_pictures(
            files, dataset_folder, folder_of_volumes(dataset_folder, run.plans_file, run.configuration)
        ),
        flow=flow(dataset_folder.name),
        **_of_predictions(files),
    )
    with replacing(page) as temporary:
        temporary.write_text(report_html(facts), encoding="utf-8")


def _learning_curves(run: RunFolder, folds: int) -> dict[str, Mapping[str, list[float]]]:
    from adnext_plugin.training.weights import read_checkpoint

    paths = {f"fold {fold}": run.fold(fold).checkpoint_final for fold in range(folds)}
    return {name: read_checkpoint(path)["logging"] for name, path in paths.items() if path.is_file()}


def _of_predictions(files: "FoldFiles") -> dict[str, Any]:
    """Curves, confusion matrix and subgroups of the held-out subjects, as the report takes them."""
    import numpy as np
    from sklearn.metrics import confusion_matrix

    from adnext_plugin.evaluation.scores.curves import GRID, precision_recall_band, roc_band
    from adnext_plugin.evaluation.scores.table import lines_for
    from adnext_plugin.evaluation.studies.crossval import of_subjects
    from adnext_plugin.evaluation.studies.subgroups import describe_subgroups
    from adnext_plugin.evaluation.subjects.values import SubjectValues, first_repeat
    from adnext_plugin.evaluation.uncertainty.intervals import resamples_of
    from adnext_plugin.report.facts import TwoClassAnswers

    task = files.cohort.task
    predictions = first_repeat(of_subjects(files.predictions, task))
    shared = {
        "subgroups": describe_subgroups(predictions, files.cohort.subjects),
        "score_lines": {name: _line(one) for name, one in lines_for(predictions).items()},
    }
    if isinstance(predictions, SubjectValues):
        return {**shared, "truth_and_prediction": np.stack([predictions.targets, predictions.values])}
    drawn = resamples_of(predictions, BAND_RESAMPLES)
    names = {index: f"{name} against the rest" for index, name in enumerate(task.classes)}
    if len(task.classes) == 2:
        names = {1: f"{task.classes[1]} against {task.classes[0]}"}
    members = {
        name: (predictions.targets == index, predictions.probabilities[:, index]) for index, name in names.items()
    }
    return {
        "grid": GRID,
        "roc": {name: asdict(roc_band(*of_class, drawn)) for name, of_class in members.items()},
        "precision_recall": {
            name: asdict(precision_recall_band(*of_class, drawn)) for name, of_class in members.items()
        },
        "answers": TwoClassAnswers(
            probabilities=predictions.probabilities[:, 1],
            is_positive=predictions.targets == 1,
            folds=predictions.folds,
        )
        if len(task.classes) == 2
        else None,
        "confusion": confusion_matrix(predictions.targets, predictions.called, labels=range(len(task.classes))),
        **shared,
    }


def _line(one: "Score") -> ScoreLine:
    return ScoreLine(
        title=one.title,
        within_fold=one.within_fold,
        in_report="report" in one.shown,
        by_fold="report by fold" in one.shown,
        chance=one.chance,
    )
