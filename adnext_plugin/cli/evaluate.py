"""`adnext_evaluate`: pool the folds of a run, score them with intervals, and set them beside simple baselines."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.evaluate_trust import inflation_of, probes_of, require_columns, seeds_of
from adnext_plugin.cli.evaluation_text import print_evaluation, print_inflation, print_probes, print_seeds
from adnext_plugin.cli.runs import (
    add_configuration_argument,
    add_dataset_argument,
    add_device_argument,
    add_plans_argument,
    add_trainer_argument,
)
from adnext_plugin.errors import PathsError, SettingsError, TableError, nearest_names
from adnext_plugin.files import replacing, require_file, write_json
from adnext_plugin.paths import dataset_folder_name, preprocessed_dir
from adnext_plugin.run_folder import EvaluationFolder, RunFolder
from adnext_plugin.workflows.common import require_resamples

if TYPE_CHECKING:
    import pandas as pd

    from adnext_plugin.cohort import Cohort
    from adnext_plugin.evaluation.studies.baselines import Baseline
    from adnext_plugin.evaluation.subjects.fold_files import FoldFiles
    from adnext_plugin.evaluation.subjects.values import OfSubjects
    from adnext_plugin.task import Task


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for on the command line; `covariates` are lists of columns, one per baseline."""

    dataset: str
    trainer: str
    plans: str
    configuration: str
    covariates: tuple[tuple[str, ...], ...]
    resamples: int
    sensitivity: float
    prevalences: tuple[float, ...]
    probes: tuple[str, ...]
    device: str | None

    @property
    def run(self) -> RunFolder:
        """Folder of the run."""
        return RunFolder.of(self.dataset, self.trainer, self.plans, self.configuration)


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_evaluate", "Score the held-out predictions of all folds, beside simple baselines.")
    add_dataset_argument(parser)
    add_trainer_argument(parser)
    add_plans_argument(parser)
    add_configuration_argument(parser)
    parser.add_argument(
        "--baseline",
        action="append",
        default=[],
        metavar="A,B",
        help="linear model of these columns of subjects.csv; may be repeated (default: age,sex)",
    )
    parser.add_argument(
        "--external",
        metavar="DATASET",
        help="apply the trained folds together to this dataset of other people, with thresholds as they are",
    )
    parser.add_argument(
        "--recalibrate",
        choices=["temperature", "intercept", "logistic"],
        help="with --external: also show what probabilities would be worth once fitted to those people; the frozen "
        "result stays as it is",
    )
    add_device_argument(parser, "for --external and --probe; ")
    parser.add_argument(
        "--sensitivity", type=float, default=0.9, help="also decide at the threshold that reaches it on selection"
    )
    parser.add_argument(
        "--prevalence", type=float, nargs="+", default=[], help="predictive values where this share is positive"
    )
    parser.add_argument(
        "--probe",
        nargs="+",
        default=[],
        metavar="COLUMN",
        help="what the features of held-out scans tell of these columns of subjects.csv, e.g. --probe site sex",
    )
    parser.add_argument("--resamples", type=int, default=2000, help="of the bootstrap (default: %(default)s)")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    arguments = build_parser().parse_args(argv)
    request = _request(arguments)
    if arguments.external:
        from adnext_plugin.cli.evaluate_external import evaluate_external

        return evaluate_external(request, arguments.external, arguments.recalibrate)
    if arguments.recalibrate:
        raise SettingsError("--recalibrate is for --external; within the cohort temperatures are fitted on selection")
    dataset_folder = preprocessed_dir() / request.dataset

    from adnext_plugin.cli.report import write_report
    from adnext_plugin.cohort import Cohort
    from adnext_plugin.evaluation.studies.crossval import evaluate
    from adnext_plugin.evaluation.subjects.fold_files import read_folds

    cohort = Cohort.open(dataset_folder)
    require_columns(request.probes, cohort.subjects)
    how_to_train = f"adnext_train {request.dataset} {request.configuration} cv -tr {request.trainer} --c"
    files = read_folds(request.run, cohort, how_to_train)
    # with permuted labels, the baselines get those too
    baselines, notes = _baselines(request, files.cohort)
    evaluation, predictions = evaluate(
        files.predictions,
        baselines,
        files.cohort,
        resamples=request.resamples,
        sensitivity=request.sensitivity,
        prevalences=request.prevalences,
    )
    seeds, remarks = seeds_of(request.run, cohort, files)
    notes += remarks
    meter = inflation_of(request.run, predictions, cohort)
    metrics = {
        **_facts(request, files),
        "notes": notes,
        **asdict(evaluation),
        "seeds": None if seeds is None else asdict(seeds),
        "inflation_meter": None if meter is None else asdict(meter),
    }
    folder = request.run.evaluation
    table = files.predictions[files.predictions["part"] == "val"].assign(protocol=files.protocol)
    write_evaluation(folder, metrics, table, predictions, cohort.task)
    print_evaluation(request.trainer, evaluation, notes, files.warning)
    if seeds is not None:
        print_seeds(seeds, evaluation.primary_score)
    if meter is not None:
        print_inflation(meter)
    if request.probes:
        probes = probes_of(request, files.cohort)
        print_probes(probes)
        write_json({**metrics, "probes": [asdict(one) for one in probes]}, folder.metrics_file)
    print(f"Predictions, metrics and figures are in {folder.path}")
    try:
        write_report(request.run, dataset_folder, folder.report_file)
        print(f"The report is in {folder.report_file}")
    except PathsError as error:  # a run without its logs still has its scores
        print(f"No report was written: {error}")
    return 0


def _request(arguments: Namespace) -> Request:
    covariates = [tuple(name.strip() for name in item.split(",") if name.strip()) for item in arguments.baseline]
    request = Request(
        dataset=dataset_folder_name(arguments.dataset, [preprocessed_dir()]),
        trainer=arguments.trainer,
        plans=arguments.plans,
        configuration=arguments.configuration,
        covariates=tuple(dict.fromkeys([("age", "sex"), *covariates])),
        resamples=require_resamples(arguments.resamples),
        sensitivity=arguments.sensitivity,
        prevalences=tuple(arguments.prevalence),
        probes=tuple(dict.fromkeys(arguments.probe)),
        device=arguments.device,
    )
    require_file(request.run.dataset_file, "train first, or check -tr, -p and -c")
    return request


def _baselines(request: Request, cohort: "Cohort") -> tuple[list["Baseline"], list[str]]:
    from adnext_plugin.data.store import CaseStore
    from adnext_plugin.evaluation.studies.baselines import covariates, knows_nothing, voxels
    from adnext_plugin.plan import configuration_of, plan_in, read_plans

    task, subjects = cohort.task, cohort.subjects
    baselines, notes = [knows_nothing(cohort)], []
    for number, columns in enumerate(request.covariates):
        usable = [name for name in columns if name in subjects and name not in (task.target, *task.derived_from)]
        absent = [name for name in columns if name not in subjects]
        if absent and number > 0:
            raise TableError(
                f"--baseline: subjects.csv has no column {absent[0]!r}{nearest_names(absent[0], subjects)}"
            )
        if len(usable) < len(columns):
            left_out = ", ".join(name for name in columns if name not in usable)
            notes.append(
                f"baseline {'+'.join(columns)} is without {left_out}, which is unknown or gives the target away"
            )
        if usable and "+".join(usable) not in [baseline.name for baseline in baselines]:
            baselines.append(covariates(cohort, usable))
    where = request.run.plans_file
    plans = configuration_of(read_plans(where), request.configuration, str(where))
    plan = plan_in(plans, str(where))
    if plan.prepared_by == "nnunet":
        notes.append("no voxel baseline: the volumes were prepared by nnU-Net and have different sizes")
        return baselines, notes
    images = preprocessed_dir() / request.dataset / plans["data_identifier"]
    store = CaseStore(images, subjects["case_id"], plan.preprocessing.input_size_voxels)
    index = {case: number for number, case in enumerate(store.cases)}
    baselines.append(voxels(cohort, lambda case: store[index[case]][0], plan.preprocessing.spacing_mm))
    return baselines, notes


def _facts(request: Request, files: "FoldFiles") -> dict:
    """What `metrics.json` says of where its numbers are from."""
    return {
        **({"warning": files.warning} if files.warning else {}),
        "dataset": request.dataset,
        "trainer": request.trainer,
        "protocol": files.protocol,
        "unit": "subject",
        "kind": files.cohort.task.kind,
        "classes": list(files.cohort.task.classes),
        "splits_sha256": files.cohort.splits_sha256,
        "resamples": request.resamples,
        "best_epochs": [summary["best_epoch"] for summary in files.summaries],
    }


def write_evaluation(
    folder: EvaluationFolder, metrics: dict, table: "pd.DataFrame", predictions: "OfSubjects", task: "Task"
) -> None:
    """Write figures, then `predictions.csv`, then `metrics.json`, which so says that all of them are there.

    Args:
        folder: to write into.
        metrics: content of `metrics.json`; names the dataset, the trainer and any warning.
        table: rows of the held-out predictions.
        predictions: the same, by subject.
        task: what was learned.
    """
    from adnext_plugin.report.figures import draw_confusion, draw_roc, draw_values

    title = "\n".join([f"{metrics['dataset']}, {metrics['trainer']}", *filter(None, [metrics.get("warning")])])
    truth = predictions.targets
    if task.kind == "regression":
        draw_values(truth, predictions.values, task.target, title, folder.values_figure)
    else:
        probabilities = predictions.probabilities
        draw_roc(truth, probabilities, predictions.folds, task.classes, title, folder.roc_figure)
        draw_confusion(truth, probabilities.argmax(axis=1), task.classes, title, folder.confusion_figure)
    with replacing(folder.predictions_file) as temporary:
        table.drop(columns="part").to_csv(temporary, index=False)
    write_json(metrics, folder.metrics_file)
