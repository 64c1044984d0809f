"""`adnext_evaluate --external`: a cross-validated run's networks together, on people none of them has seen."""

from dataclasses import asdict
from typing import TYPE_CHECKING

from adnext_plugin.cli.evaluation_text import print_scores
from adnext_plugin.cli.runs import choose_device
from adnext_plugin.errors import SettingsError
from adnext_plugin.paths import dataset_folder_name, preprocessed_dir, read_json, require_file

if TYPE_CHECKING:
    from adnext_plugin.cli.evaluate import Request


def evaluate_external(request: "Request", external: str, device: str | None) -> int:
    """Predict and score a dataset, with thresholds as they were chosen on the one trained on."""
    from adnext_plugin.cli.evaluate import write_evaluation
    from adnext_plugin.cli.train import find_trainer
    from adnext_plugin.evaluation.external import judge_external
    from adnext_plugin.evaluation.fold_files import read_folds
    from adnext_plugin.evaluation.intervals import estimates, resamples_of
    from adnext_plugin.splits.folds import ensure_splits
    from adnext_plugin.subjects import read_dataset
    from adnext_plugin.trainers.base import ADNeXtTrainer
    from adnext_plugin.trainers.external import predict_external, refuse_same_people

    other = dataset_folder_name(external, [preprocessed_dir()])
    own_folder, other_folder = preprocessed_dir() / request.dataset, preprocessed_dir() / other
    task, subjects = read_dataset(own_folder)
    other_task, other_subjects = read_dataset(other_folder)
    refuse_same_people(subjects, other_subjects)
    metrics = read_json(
        require_file(request.run / "crossval_results" / "metrics.json", "evaluate the run itself first")
    )
    splits = ensure_splits(own_folder, subjects, task)
    files = read_folds(request.run, splits, subjects, task, "adnext_train")
    trainer = find_trainer(request.trainer)
    if not issubclass(trainer, ADNeXtTrainer):
        raise SettingsError(f"{request.trainer} is not one of AD-NeXt's trainers for labelled tasks")
    table = predict_external(request.run, trainer, len(splits), other_folder, choose_device(device))
    thresholds = [fold["threshold"] for fold in metrics["folds"]]
    judged = judge_external(table, files.predictions, thresholds, other_task)
    scores = estimates(judged, resamples_of(judged, request.resamples))
    # of one ensemble there are no folds to average over
    scores = {name.removesuffix("_mean_of_folds"): value for name, value in scores.items() if name != "auc_pooled"}
    folder = request.run / "external" / other
    content = {
        **({"warning": files.warning} if files.warning else {}),
        "dataset": other,
        "trained_on": request.dataset,
        "trainer": request.trainer,
        "protocol": files.protocol,
        "unit": "subject",
        "kind": other_task.kind,
        "classes": list(other_task.classes),
        "networks": len(splits),
        "threshold": float(judged.thresholds[0]) if len(other_task.classes) == 2 else None,
        "subjects": len(judged.targets),
        "resamples": request.resamples,
        "scores": {name: asdict(value) for name, value in scores.items()},
    }
    write_evaluation(folder, content, table.assign(protocol=files.protocol), judged, other_task)
    print(f"{len(judged.targets)} subjects of {other}, {len(splits)} networks trained on {request.dataset} together")
    print_scores(scores)
    print(f"Predictions, metrics and figures are in {folder}")
    return 0
