"""What an evaluation leaves in its folder."""

from typing import TYPE_CHECKING

from adnext_plugin.run_folder import EvaluationFolder
from adnext_plugin.run_metrics import ExternalMetrics, RunMetrics, write_metrics

if TYPE_CHECKING:
    import pandas as pd

    from adnext_plugin.evaluation.subjects.values import OfSubjects
    from adnext_plugin.task import Task


def write_evaluation(
    folder: EvaluationFolder,
    metrics: RunMetrics | ExternalMetrics,
    table: "pd.DataFrame",
    predictions: "OfSubjects",
    task: "Task",
) -> None:
    """Write `predictions.csv`, then `metrics.json`, then figures: whatever happens to those, the numbers are there.

    Args:
        folder: to write into. Figures of an earlier evaluation are removed first, so that none stands beside other
            numbers.
        metrics: content of `metrics.json`; names the dataset, the trainer and any warning.
        table: rows of the held-out predictions.
        predictions: the same, by subject.
        task: what was learned.
    """
    from adnext_plugin.csv_files import write_csv

    for figure in (folder.values_figure, folder.roc_figure, folder.confusion_figure):
        figure.unlink(missing_ok=True)
    write_csv(table.drop(columns="part"), folder.predictions_file)
    write_metrics(metrics, folder.metrics_file)
    title = "\n".join([f"{metrics.dataset}, {metrics.trainer}", *filter(None, [metrics.warning])])
    _draw(folder, title, predictions, task)


def _draw(folder: EvaluationFolder, title: str, predictions: "OfSubjects", task: "Task") -> None:
    from adnext_plugin.evaluation.subjects.values import SubjectValues
    from adnext_plugin.report.figures import draw_confusion, draw_roc, draw_values

    truth = predictions.targets
    if isinstance(predictions, SubjectValues):
        draw_values(truth, predictions.values, str(task.target), title, folder.values_figure)
        return
    probabilities = predictions.probabilities
    draw_roc(truth, probabilities, predictions.folds, task.classes, title, folder.roc_figure)
    draw_confusion(truth, probabilities.argmax(axis=1), task.classes, title, folder.confusion_figure)
