"""How much better a run would look if its epochs had been chosen on the subjects it is scored on.

That is the protocol of the AD-NeXt paper's code: after every epoch the held-out fold is scored, and the weights of the
highest accuracy are kept and reported. The very same run is scored here both ways.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, log_loss, mean_absolute_error

from adnext_plugin.evaluation.scores.panel import all_scores, fold_scores
from adnext_plugin.evaluation.studies.crossval import of_subjects
from adnext_plugin.evaluation.subjects.values import OfSubjects
from adnext_plugin.findings import InflatedScore, InflationMeter
from adnext_plugin.stamps import OPTIMISTIC
from adnext_plugin.task import Task

Epochs = dict[int, pd.DataFrame]


def measure_inflation(honest: OfSubjects, metered: Sequence[Epochs], task: Task) -> InflationMeter:
    """Score the epochs that the paper's protocol would have kept beside those that were kept.

    Args:
        honest: held-out subjects as the run is scored.
        metered: by fold, predictions of the held-out part after every epoch.
        task: names target and classes.
    """
    chosen = [_papers_choice(epochs, task) for epochs in metered]
    kept = [epochs[epoch] for epochs, epoch in zip(metered, chosen, strict=True)]
    ours, theirs = _scores(honest), _scores(of_subjects(pd.concat(kept), task))
    scores = {name: _inflated(ours[name], theirs[name], name) for name in ours}
    name = "mae_mean_of_folds" if task.kind == "regression" else "auc_mean_of_folds"
    best = np.min if task.kind == "regression" else np.max
    of_folds = [best([_scores(of_subjects(table, task))[name] for table in epochs.values()]) for epochs in metered]
    scores[f"{name}_any_epoch"] = _inflated(ours[name], float(np.mean(of_folds)), name)
    return InflationMeter(
        warning=OPTIMISTIC,
        epochs=tuple(chosen),
        epochs_seen=tuple(len(epochs) for epochs in metered),
        scores=scores,
    )


def _papers_choice(epochs: Epochs, task: Task) -> int:
    """The epoch of the highest accuracy over scans, then the lowest loss; of a regression that of the lowest error."""
    return max(epochs, key=lambda epoch: _rank(epochs[epoch], task))


def _rank(table: pd.DataFrame, task: Task) -> tuple[float, float]:
    if task.kind == "regression":
        return -mean_absolute_error(table["target"], table["prediction"]), 0.0
    probabilities = table[[f"prob_{name}" for name in task.classes]].to_numpy()
    targets = table["target"].map(task.classes.index)
    loss = log_loss(targets, probabilities, labels=range(len(task.classes)))
    return accuracy_score(targets, probabilities.argmax(axis=1)), -loss


def _scores(predictions: OfSubjects) -> dict[str, float]:
    """Those that need no threshold, as means of folds and over all subjects together."""
    pooled = {
        name: values[0] for name, values in all_scores(predictions, np.ones((1, len(predictions.targets)))).items()
    }
    by_fold = [fold_scores(predictions.of_fold(fold)) for fold in np.unique(predictions.folds)]
    names = ("mae",) if predictions.primary == "mae" else ("auc", "accuracy")
    found = {}
    for name in names:
        found[f"{name}_mean_of_folds"] = float(np.mean([fold[name] for fold in by_fold]))
        found[f"{name}_pooled"] = float(pooled["auc_pooled" if name == "auc" else name])
    return found


def _inflated(ours: float, theirs: float, name: str) -> InflatedScore:
    gain = ours - theirs if name.startswith("mae") else theirs - ours
    numbers = (float(value) if np.isfinite(value) else None for value in (ours, theirs, gain))
    return InflatedScore(**dict(zip(("honest", "best_held_out_epoch", "inflated_by"), numbers, strict=True)))
