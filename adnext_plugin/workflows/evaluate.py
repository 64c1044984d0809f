"""Pool the folds of a run, score them with intervals, and set them beside simple baselines."""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.errors import PathsError
from adnext_plugin.files import require_file
from adnext_plugin.run_folder import EvaluationFolder, RunFolder
from adnext_plugin.run_metrics import RunMetrics, write_metrics
from adnext_plugin.workflows.baselines import baselines_of, columns_of, region_columns
from adnext_plugin.workflows.common import RunRequest, choose_device, require_resamples
from adnext_plugin.workflows.evaluation_files import write_evaluation
from adnext_plugin.workflows.report import write_report
from adnext_plugin.workflows.trust import inflation_of, probes_of, require_columns, seeds_of

if TYPE_CHECKING:
    import pandas as pd

    from adnext_plugin.cohort import Cohort
    from adnext_plugin.evaluation.studies.crossval import Evaluation
    from adnext_plugin.evaluation.studies.inflation import InflationMeter
    from adnext_plugin.evaluation.studies.probe import Probe
    from adnext_plugin.evaluation.studies.seeds import SeedSpread
    from adnext_plugin.evaluation.subjects.fold_files import FoldFiles
    from adnext_plugin.evaluation.subjects.values import OfSubjects
    from adnext_plugin.findings import StudyDesign
    from adnext_plugin.trained_on import TrainedOn


@dataclass(frozen=True, kw_only=True)
class Request(RunRequest):
    """Which run, and what is asked of it beside its scores.

    `baselines`: columns of `subjects.csv` for further linear models; age and sex are always one. `resamples`: of the
    bootstrap. `sensitivity`: that a further threshold is to reach on `selection`. `prevalences`: shares of positives
    among other people, for predictive values. `probes`: columns to guess from features of held-out scans, on `device`.
    """

    baselines: tuple[tuple[str, ...], ...] = ()
    resamples: int = 2000
    sensitivity: float = 0.9
    prevalences: tuple[float, ...] = ()
    probes: tuple[str, ...] = ()
    device: str | None = None

    def __post_init__(self) -> None:
        require_resamples(self.resamples)


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """The evaluation, and where it lies.

    `cohort` has the targets that were trained on. `table`: rows of `predictions.csv`, one per scan; `predictions`: one
    per subject, and repeat where there are several. `design`: what is unusual about the folds. `warning`: what all of
    it must be stamped with. `notes`: what was left out, and why. `report`: the page; None where `report_problem` says
    why there is none.
    """

    run: RunFolder
    folder: EvaluationFolder
    cohort: "Cohort"
    evaluation: "Evaluation"
    predictions: "OfSubjects"
    table: "pd.DataFrame"
    design: "StudyDesign | None"
    warning: str | None
    notes: tuple[str, ...]
    seeds: "SeedSpread | None"
    inflation_meter: "InflationMeter | None"
    probes: "tuple[Probe, ...]" = ()
    report: Path | None = None
    report_problem: str | None = None


def evaluate(request: Request, show_scores: Callable[[Result], None] | None = None) -> Result:
    """Score the held-out predictions of all folds, and write scores, figures and the report into the run's folder.

    Args:
        request: which run.
        show_scores: is given the result as soon as the scores are written, before probes and report are made.

    Raises:
        PathsError: there is no such dataset or run, or folds are missing.
        TableError: a column for a baseline or a probe is missing.
        SettingsError: the sensitivity or a prevalence is out of range, or there is no such device.
        OtherDataError: the run was trained, or earlier results were made, on other data than the dataset holds now.
        AdnextError: predictions are of other folds, targets or protocols than the dataset's.
    """
    from adnext_plugin.evaluation.subjects.values import first_repeat
    from adnext_plugin.trained_on import write_trained_on

    run = request.run
    require_file(run.dataset_file, "train first, or check -tr, -p and -c")
    scored, metrics, judged_on = _score(request, run)
    if judged_on is not None:
        write_trained_on(judged_on, scored.folder.data_file)
    write_evaluation(scored.folder, metrics, scored.table, first_repeat(scored.predictions), scored.cohort.task)
    _write_deviations(scored)
    if show_scores is not None:
        show_scores(scored)
    if request.probes:
        columns = tuple(dict.fromkeys(request.probes))
        probes = probes_of(run, scored.cohort, columns, request.resamples, choose_device(request.device))
        write_metrics(replace(metrics, probes=probes), scored.folder.metrics_file)
        scored = replace(scored, probes=probes)
    page = scored.folder.report_file
    try:
        write_report(run, request.dataset_folder, page)
    except PathsError as error:  # a run without its logs still has its scores
        return replace(scored, report_problem=str(error))
    return replace(scored, report=page)


def _write_deviations(scored: Result) -> None:
    """Write z-scores of regions, where they were measured and can be had; an earlier file goes."""
    from adnext_plugin.csv_files import write_csv
    from adnext_plugin.evaluation.studies.normative import deviations

    path = scored.folder.deviations_file
    path.unlink(missing_ok=True)
    found = deviations(scored.cohort, region_columns(scored.cohort.subjects))
    if found is not None:
        write_csv(found, path)


def _score(request: Request, run: RunFolder) -> "tuple[Result, RunMetrics, TrainedOn | None]":
    """Everything but probes and report, what `metrics.json` says of it, and on which data all of it is."""
    from adnext_plugin.cohort import Cohort
    from adnext_plugin.evaluation.scores.table import installed_scores
    from adnext_plugin.evaluation.studies import crossval
    from adnext_plugin.evaluation.subjects.fold_files import read_folds
    from adnext_plugin.prepared_data import refuse_other_results

    cohort = Cohort.open(request.dataset_folder)
    scores = crossval.scores_for(cohort, installed_scores())
    require_columns(request.probes, cohort.subjects)
    how_to_train = f"adnext_train {cohort.name} {request.configuration} cv -tr {request.trainer} --c"
    files = read_folds(run, cohort, how_to_train)
    columns = (*columns_of(request.baselines, cohort.subjects), *request.probes)
    judged_on = refuse_other_results(run.evaluation.data_file, files.data, columns)
    # with permuted labels, the baselines get those too
    baselines, notes = baselines_of(run, request.configuration, request.baselines, files.cohort)
    evaluation, predictions = crossval.evaluate(
        files.predictions,
        baselines,
        files.cohort,
        resamples=request.resamples,
        sensitivity=request.sensitivity,
        prevalences=request.prevalences,
        scores=scores,
    )
    seeds, remarks = seeds_of(run, cohort, files, scores)
    meter = inflation_of(run, predictions, cohort)
    result = Result(
        run=run,
        folder=run.evaluation,
        cohort=files.cohort,
        evaluation=evaluation,
        predictions=predictions,
        table=files.predictions[files.predictions["part"] == "val"].assign(protocol=files.protocol),
        design=crossval.describe_design(predictions, cohort, scores),
        warning=files.warning,
        notes=(*files.cohort.task.positive_in_words, *notes, *remarks),
        seeds=seeds,
        inflation_meter=meter,
    )
    return result, _metrics(request, files, result), judged_on


def _metrics(request: Request, files: "FoldFiles", result: Result) -> RunMetrics:
    """Where the numbers are from, and what they are."""
    evaluation = {one.name: getattr(result.evaluation, one.name) for one in fields(result.evaluation)}
    return RunMetrics(
        warning=files.warning,
        dataset=files.cohort.name,
        trainer=request.trainer,
        protocol=files.protocol,
        unit="subject",
        kind=files.cohort.task.kind,
        classes=files.cohort.task.classes,
        positive_class=files.cohort.task.positive,
        splits_sha256=files.cohort.splits_sha256,
        design=result.design,
        resamples=request.resamples,
        best_epochs=tuple(summary.best_epoch for summary in files.summaries),
        notes=result.notes,
        **evaluation,
        seeds=result.seeds,
        inflation_meter=result.inflation_meter,
    )
