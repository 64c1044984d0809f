"""`adnext_evaluate --external`: a cross-validated run's networks together, on people none of them has seen."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING

from adnext_plugin.cli.evaluation_text import print_scores
from adnext_plugin.errors import SettingsError
from adnext_plugin.files import read_json, require_file
from adnext_plugin.paths import dataset_folder_name, preprocessed_dir
from adnext_plugin.workflows.common import choose_device

if TYPE_CHECKING:
    from adnext_plugin.cli.evaluate import Request
    from adnext_plugin.evaluation.scores.calibration import Temperature
    from adnext_plugin.evaluation.studies.recalibration import Method


def evaluate_external(request: "Request", external: str, method: "Method | None") -> int:
    """Predict and score a dataset, with thresholds and temperatures as they were chosen on the one trained on.

    With a method the probabilities are fitted to the dataset as well, in a block of its own.
    """
    from adnext_plugin.cli.evaluate import write_evaluation
    from adnext_plugin.cli.train import find_trainer
    from adnext_plugin.cohort import Cohort
    from adnext_plugin.evaluation.scores.panel import panel
    from adnext_plugin.evaluation.studies.external import judge_external
    from adnext_plugin.evaluation.studies.recalibration import recalibrate, require_method
    from adnext_plugin.evaluation.subjects.fold_files import read_folds
    from adnext_plugin.evaluation.uncertainty.bootstrap import bootstrap
    from adnext_plugin.evaluation.uncertainty.intervals import estimates, resamples_of
    from adnext_plugin.subjects import read_dataset
    from adnext_plugin.trainers.external import predict_external, refuse_same_people
    from adnext_plugin.trainers.labelled import ADNeXtTrainer

    other = dataset_folder_name(external, [preprocessed_dir()])
    own_folder, other_folder = preprocessed_dir() / request.dataset, preprocessed_dir() / other
    cohort = Cohort.open(own_folder)
    other_task, other_subjects = read_dataset(other_folder)
    refuse_same_people(cohort.subjects, other_subjects)
    metrics = read_json(require_file(request.run.evaluation.metrics_file, "evaluate the run itself first"))
    files = read_folds(request.run, cohort, "adnext_train")
    trainer = find_trainer(request.trainer)
    if not issubclass(trainer, ADNeXtTrainer):
        raise SettingsError(f"{request.trainer} is not one of AD-NeXt's trainers for labelled tasks")
    if method:
        require_method(method, other_task)
    temperatures = _temperatures(metrics)
    table = predict_external(
        request.run.path, trainer, [one.value for one in temperatures], other_folder, choose_device(request.device)
    )
    thresholds = [
        None if fold["threshold"] is None else one.threshold(fold["threshold"])
        for fold, one in zip(metrics["folds"], temperatures, strict=True)
    ]
    judged = judge_external(table, files.predictions, thresholds, other_task)
    drawn = resamples_of(judged, request.resamples)
    classifies = other_task.kind == "classification"
    scores = bootstrap(partial(panel, judged), drawn) if classifies else estimates(judged, drawn)
    recalibration = recalibrate(judged, method, drawn) if method else None
    # of one ensemble there are no folds to average over
    scores = {name.removesuffix("_mean_of_folds"): value for name, value in scores.items() if name != "auc_pooled"}
    folder = request.run.external(other)
    content = {
        **({"warning": files.warning} if files.warning else {}),
        "dataset": other,
        "trained_on": request.dataset,
        "trainer": request.trainer,
        "protocol": files.protocol,
        "unit": "subject",
        "kind": other_task.kind,
        "classes": list(other_task.classes),
        "networks": len(cohort.splits),
        "threshold": float(judged.thresholds[0]) if len(other_task.classes) == 2 else None,
        "temperatures": [one.value for one in temperatures],
        "subjects": len(judged.targets),
        "resamples": request.resamples,
        "scores": {name: asdict(value) for name, value in scores.items()},
        "recalibration": None if recalibration is None else asdict(recalibration),
    }
    write_evaluation(folder, content, table.assign(protocol=files.protocol), judged, other_task)
    networks = f"{len(cohort.splits)} networks trained on {request.dataset} together"
    print(f"{len(judged.targets)} subjects of {other}, {networks}")
    print_scores(scores)
    if recalibration is not None:
        print(recalibration.warning)
        print_scores({f"{name}, recalibrated": value for name, value in recalibration.recalibrated.items()})
    print(f"Predictions, metrics and figures are in {folder.path}")
    return 0


def _temperatures(metrics: dict) -> "list[Temperature]":
    """Of every fold, as the run's own evaluation fitted them; those of a quantity change nothing."""
    from adnext_plugin.evaluation.scores.calibration import Temperature

    if metrics["details"] is None:
        return [Temperature(value=1.0) for _ in metrics["folds"]]
    return [Temperature(**one) for one in metrics["details"]["temperatures"]]
