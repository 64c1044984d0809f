"""`adnext_report`: one self-contained page on an evaluated run."""

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from adnext_plugin.cli.command import command, new_parser
from adnext_plugin.cli.runs import (
    add_configuration_argument,
    add_dataset_argument,
    add_plans_argument,
    add_trainer_argument,
    run_folder,
)
from adnext_plugin.files import read_json, replacing, require_file
from adnext_plugin.paths import dataset_folder_name, preprocessed_dir

if TYPE_CHECKING:
    from adnext_plugin.evaluation.subjects.fold_files import FoldFiles
    from adnext_plugin.task import Task

BAND_RESAMPLES = 1000


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was asked for on the command line."""

    run: Path
    dataset_folder: Path
    comparison: Path | None
    output: Path


def build_parser() -> ArgumentParser:
    """The command's arguments."""
    parser = new_parser("adnext_report", "Write one self-contained page on a run that adnext_evaluate has scored.")
    add_dataset_argument(parser)
    add_trainer_argument(parser)
    add_plans_argument(parser)
    add_configuration_argument(parser)
    parser.add_argument(
        "--comparison", type=Path, metavar="FILE", help="what adnext_compare --output wrote, to be shown as well"
    )
    parser.add_argument("--output", "-o", type=Path, metavar="FILE", help="default: crossval_results/report.html")
    return parser


@command
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    request = _request(build_parser().parse_args(argv))
    write_report(request.run, request.dataset_folder, request.output, request.comparison)
    print(f"The report is in {request.output}")
    return 0


def write_report(run: Path, dataset_folder: Path, path: Path, comparison: Path | None = None) -> None:
    """Write the page on an evaluated run.

    Args:
        run: the trainer's folder, with fold_0, ... and crossval_results.
        dataset_folder: the preprocessed dataset.
        path: HTML file to write.
        comparison: JSON file of adnext_compare.

    Raises:
        PathsError: the run was not trained or evaluated.
    """
    from adnext_plugin.evaluation.subjects.fold_files import read_folds
    from adnext_plugin.report.facts import RunFacts
    from adnext_plugin.report.html import report_html
    from adnext_plugin.splits.folds import ensure_splits
    from adnext_plugin.subjects import read_dataset

    metrics = read_json(require_file(run / "crossval_results" / "metrics.json", "evaluate the run first"))
    task, subjects = read_dataset(dataset_folder)
    splits = ensure_splits(dataset_folder, subjects, task)
    files = read_folds(run, splits, subjects, task, "adnext_train")
    configurations = read_json(run / "plans.json")["configurations"]
    facts = RunFacts(
        task=task,
        subjects=files.subjects,
        splits=splits,
        metrics=metrics,
        runs=[read_json(run / f"fold_{fold}" / "run.json") for fold in range(len(splits))],
        plan=configurations[run.name.rpartition("__")[2]]["adnext"],
        learning_curves=_learning_curves(run, len(splits)),
        comparison=read_json(comparison) if comparison else None,
        **_of_predictions(files, task),
    )
    with replacing(path) as temporary:
        temporary.write_text(report_html(facts), encoding="utf-8")


def _request(arguments: Namespace) -> Request:
    dataset = dataset_folder_name(arguments.dataset, [preprocessed_dir()])
    run = run_folder(dataset, arguments)
    return Request(
        run=run,
        dataset_folder=preprocessed_dir() / dataset,
        comparison=arguments.comparison,
        output=arguments.output or run / "crossval_results" / "report.html",
    )


def _learning_curves(run: Path, folds: int) -> dict[str, dict[str, list[float]]]:
    from adnext_plugin.training.weights import read_checkpoint

    paths = {f"fold {fold}": run / f"fold_{fold}" / "checkpoint_final.pth" for fold in range(folds)}
    return {name: read_checkpoint(path)["logging"] for name, path in paths.items() if path.is_file()}


def _of_predictions(files: "FoldFiles", task: "Task") -> dict:
    """Curves, confusion matrix and subgroups of the held-out subjects, as the report takes them."""
    import numpy as np
    from sklearn.metrics import confusion_matrix

    from adnext_plugin.evaluation.scores.curves import GRID, precision_recall_band, roc_band
    from adnext_plugin.evaluation.studies.crossval import of_subjects
    from adnext_plugin.evaluation.studies.subgroups import describe_subgroups
    from adnext_plugin.evaluation.uncertainty.intervals import resamples_of

    predictions = of_subjects(files.predictions, task)
    subgroups = [asdict(group) for group in describe_subgroups(predictions, files.subjects)]
    if task.kind == "regression":
        return {
            "subgroups": subgroups,
            "truth_and_prediction": np.stack([predictions.targets, predictions.values]),
        }
    drawn = resamples_of(predictions, BAND_RESAMPLES)
    names = {index: f"{name} against the rest" for index, name in enumerate(task.classes)}
    called = predictions.probabilities.argmax(axis=1)
    if len(task.classes) == 2:
        names = {1: f"{task.classes[1]} against {task.classes[0]}"}
        called = (predictions.probabilities[:, 1] >= predictions.thresholds).astype(int)
    members = {
        name: (predictions.targets == index, predictions.probabilities[:, index]) for index, name in names.items()
    }
    return {
        "grid": GRID,
        "roc": {name: asdict(roc_band(*of_class, drawn)) for name, of_class in members.items()},
        "precision_recall": {
            name: asdict(precision_recall_band(*of_class, drawn)) for name, of_class in members.items()
        },
        "confusion": confusion_matrix(predictions.targets, called, labels=range(len(task.classes))),
        "subgroups": subgroups,
    }
