"""The networks of a cross-validation together, on people none of them has seen."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.errors import SettingsError
from adnext_plugin.files import require_file
from adnext_plugin.paths import dataset_folder_name, plans_file, preprocessed_dir
from adnext_plugin.run_folder import EvaluationFolder, RunFolder
from adnext_plugin.run_metrics import ExternalMetrics
from adnext_plugin.stamps import OTHER_PEOPLE
from adnext_plugin.workflows.baselines import OtherPeople, baselines_of, columns_of
from adnext_plugin.workflows.common import RunRequest, choose_device, note_reason, require_resamples
from adnext_plugin.workflows.evaluation_files import write_evaluation

if TYPE_CHECKING:
    import pandas as pd

    from adnext_plugin.evaluation.studies.recalibration import Method, Recalibration
    from adnext_plugin.evaluation.subjects.fold_files import FoldFiles
    from adnext_plugin.evaluation.subjects.values import OfSubjects
    from adnext_plugin.evaluation.uncertainty.bootstrap import Estimate, Resamples
    from adnext_plugin.findings import BaselineResult
    from adnext_plugin.prediction.description import ModelDescription
    from adnext_plugin.settings import Protocol
    from adnext_plugin.task import Task


@dataclass(frozen=True, kw_only=True)
class Request(RunRequest):
    """Which run, and the preprocessed dataset of other people, `external`, by number or full name.

    `baselines`: columns of both datasets' `subjects.csv` for further linear models, fitted on the whole dataset trained
    on; age and sex are always one. `other_people`: why equal ids in both datasets are not the same people; results are
    stamped with it. `recalibrate`: also show what probabilities would be worth once they are fitted to those people.
    `resamples`: of the bootstrap. `device`: cpu, cuda or mps; None for a GPU where there is one.
    """

    external: str | int
    baselines: tuple[tuple[str, ...], ...] = ()
    other_people: str | None = None
    recalibrate: "Method | None" = None
    resamples: int = 2000
    device: str | None = None

    def __post_init__(self) -> None:
        require_resamples(self.resamples)
        if self.other_people is not None and not self.other_people.strip():
            raise SettingsError("--other-people needs a reason: say why equal ids are not the same people")

    @property
    def external_folder(self) -> Path:
        """Folder of the dataset of other people.

        Raises:
            PathsError: there is none of this number or name, or two.
        """
        return preprocessed_dir() / dataset_folder_name(self.external, [preprocessed_dir()])


@dataclass(frozen=True, kw_only=True, eq=False)
class Result:
    """Scores of the networks together on the external dataset, and where they lie.

    `task`: the external dataset's. `table`: rows of `predictions.csv`, one per scan; `predictions`: one per subject.
    `model`: what the networks are, with their temperatures and thresholds. `warning`: what all of it must be stamped
    with. `baselines`: simple models fitted on the whole dataset trained on, and what the networks gain over each.
    `notes`: what was left out, and why.
    """

    run: RunFolder
    folder: EvaluationFolder
    external: str
    trained_on: str
    task: "Task"
    model: "ModelDescription"
    scores: "dict[str, Estimate]"
    baselines: "tuple[BaselineResult, ...]"
    notes: tuple[str, ...]
    recalibration: "Recalibration | None"
    predictions: "OfSubjects"
    table: "pd.DataFrame"
    warning: str | None


def evaluate_external(request: Request) -> Result:
    """Predict and score a dataset, with thresholds and temperatures as they were chosen on the one trained on.

    With a method the probabilities are fitted to the dataset as well, in a block of its own.

    Raises:
        PathsError: there is no such dataset or run, or it was not evaluated, or cases are missing.
        OtherDataError: the run was trained, or earlier results were made, on other data than the datasets hold now.
        AdnextError: the two datasets share people.
        TableError: a column for a baseline is missing from one of them, or has too many different words.
        SettingsError: the dataset is for another task or prepared differently, or the method is not for its task.
        WeightsError: a checkpoint cannot be read safely, or is not of this run.
    """
    from adnext_plugin.cohort import Cohort
    from adnext_plugin.evaluation.scores.table import installed_scores
    from adnext_plugin.evaluation.studies.external import compare_with_baselines, judge_external
    from adnext_plugin.evaluation.studies.recalibration import recalibrate, require_method
    from adnext_plugin.evaluation.subjects.fold_files import read_folds
    from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions
    from adnext_plugin.evaluation.uncertainty.intervals import resamples_of
    from adnext_plugin.prepared_data import PreparedData, refuse_other_results
    from adnext_plugin.splits.audit import refuse_same_people
    from adnext_plugin.subjects import read_dataset
    from adnext_plugin.trained_on import write_trained_on

    run, other = request.run, request.external_folder
    require_file(run.dataset_file, "train first, or check -tr, -p and -c")
    cohort = Cohort.open(request.dataset_folder)
    task, subjects = read_dataset(other)
    refuse_same_people(cohort.subjects, subjects, are_other_people=request.other_people is not None)
    if request.other_people is not None:
        note_reason(other, f"--other-people, {run.path.name}", request.other_people)
    require_file(run.evaluation.metrics_file, "evaluate the run itself first")
    files = read_folds(run, cohort, "adnext_train")
    if task.kind == "unlabelled":
        raise SettingsError(f"{other.name} was imported without a target, so there is nothing to compare with")
    if request.recalibrate:
        require_method(request.recalibrate, task)
    others = OtherPeople(folder=other, subjects=_as_trained(subjects, task, files), task=task)
    # refused before anything is predicted
    require_file(plans_file(other, request.plans), "preprocess the dataset with the same preset as the one trained on")
    people = Cohort(task=task, subjects=subjects, splits=(), folder=other)  # its own folds do not matter
    data = PreparedData(cohort=people, plans=request.plans, configuration=request.configuration)
    judged_on = refuse_other_results(run.external(other.name).data_file, data, columns_of(request.baselines, subjects))
    baselines, notes = baselines_of(run, request.configuration, request.baselines, files.cohort, others)
    model, table = _predict(run, files, others, choose_device(request.device))
    judged = judge_external(table, files.predictions, [fold.threshold for fold in model.folds], task)
    drawn = resamples_of(judged, request.resamples)
    recalibration = None
    if request.recalibrate and isinstance(judged, SubjectPredictions):
        recalibration = recalibrate(judged, request.recalibrate, drawn)
    result = Result(
        run=run,
        folder=run.external(other.name),
        external=other.name,
        trained_on=cohort.name,
        task=task,
        model=model,
        scores=_scores(judged, drawn),
        baselines=compare_with_baselines(
            judged, baselines, files.cohort, others.subjects, task, drawn, installed_scores()
        ),
        notes=(*task.positive_in_words, *notes),
        recalibration=recalibration,
        predictions=judged,
        table=table.assign(protocol=files.protocol),
        warning=_warning(files, request.other_people),
    )
    if judged_on is not None:
        write_trained_on(judged_on, result.folder.data_file)
    write_evaluation(result.folder, _metrics(result, files.protocol, request.resamples), result.table, judged, task)
    return result


def _warning(files: "FoldFiles", other_people: str | None) -> str | None:
    stamp = None if other_people is None else OTHER_PEOPLE
    return "; ".join(filter(None, [files.warning, stamp])) or None


def _as_trained(subjects: "pd.DataFrame", task: "Task", files: "FoldFiles") -> "pd.DataFrame":
    """What was trained on labels dealt out anew is judged on such here, too."""
    from adnext_plugin.subjects import permute_targets

    seed = files.summaries[0].permute_labels
    return subjects if seed is None else permute_targets(subjects, task, seed)


def _predict(
    run: RunFolder, files: "FoldFiles", others: OtherPeople, device: str
) -> "tuple[ModelDescription, pd.DataFrame]":
    """What the networks are, and their answers for other people."""
    from adnext_plugin.prediction.eager import ensemble_of
    from adnext_plugin.prediction.from_run import read_run
    from adnext_plugin.prediction.labelled import predict_labelled

    model = read_run(run, [str(fold) for fold in range(len(files.cohort.splits))])
    return model.description, predict_labelled(ensemble_of(model, device), others.folder, others.subjects, others.task)


def _scores(judged: "OfSubjects", drawn: "Resamples") -> "dict[str, Estimate]":
    from adnext_plugin.evaluation.scores.panel import names_within_fold
    from adnext_plugin.evaluation.scores.table import installed_scores
    from adnext_plugin.evaluation.uncertainty.intervals import panel_estimates

    scores = installed_scores()
    found = panel_estimates(judged, drawn, scores)
    # of one ensemble there are no folds to average over
    return {name: found[of_folds] for of_folds, name in names_within_fold(judged, scores).items()}


def _metrics(result: Result, protocol: "Protocol", resamples: int) -> ExternalMetrics:
    folds = result.model.folds
    return ExternalMetrics(
        warning=result.warning,
        dataset=result.external,
        trained_on=result.trained_on,
        trainer=result.run.trainer,
        protocol=protocol,
        unit="subject",
        kind=result.task.kind,
        classes=result.task.classes,
        positive_class=result.task.positive,
        networks=len(folds),
        threshold=result.model.threshold,
        temperatures=tuple(fold.temperature for fold in folds),
        subjects=len(result.predictions.targets),
        resamples=resamples,
        scores=result.scores,
        baselines=result.baselines,
        notes=result.notes,
        recalibration=result.recalibration,
    )
