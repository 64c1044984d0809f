"""An evaluated run in a Python program, as tables."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from adnext_plugin.csv_files import read_csv
from adnext_plugin.errors import PathsError
from adnext_plugin.files import read_json, require_file
from adnext_plugin.run_folder import EvaluationFolder, RunFolder
from adnext_plugin.run_metrics import read_external_metrics, read_metrics

if TYPE_CHECKING:
    from adnext_plugin.run_folder import FoldFolder

TEXTS = ("case_id", "subject_id", "session_id", "target")
INTERVAL = ["value", "low", "high"]


@dataclass(frozen=True, kw_only=True, repr=False)
class RunResults:
    """What a run has learned, on people whom its networks had not seen.

    `folder` and `evaluation` name all files. `metrics` is content of `metrics.json`. `predictions` has a row per
    held-out scan: its fold, subject, target, and the network's answer.
    """

    folder: RunFolder
    evaluation: EvaluationFolder
    metrics: Mapping[str, Any]
    predictions: pd.DataFrame

    @property
    def scores(self) -> pd.DataFrame:
        """Scores over all folds, by name: `value`, and its 95 % interval from `low` to `high`."""
        return pd.DataFrame.from_dict(dict(self.metrics["scores"]), orient="index", columns=INTERVAL, dtype=float)

    @property
    def baselines(self) -> pd.DataFrame:
        """The same of simple models on the same folds, by baseline and score."""
        rows = {
            (baseline["name"], score): [estimate[key] for key in INTERVAL]
            for baseline in self.metrics.get("baselines", ())
            for score, estimate in baseline["scores"].items()
        }
        table = pd.DataFrame(list(rows.values()), columns=INTERVAL, dtype=float)
        table.index = pd.MultiIndex.from_tuples(list(rows), names=["baseline", "score"])
        return table

    @property
    def folds(self) -> pd.DataFrame:
        """Number of subjects, threshold and scores of each fold."""
        rows = [{**fold["scores"], **fold} for fold in self.metrics.get("folds", ())]
        return pd.DataFrame(rows).drop(columns="scores", errors="ignore").set_index("fold")

    @property
    def learning_curves(self) -> pd.DataFrame:
        """What was logged after each epoch: `train_losses`, `val_losses` and more, by fold and epoch.

        Raises:
            PathsError: the run's checkpoints are gone.
        """
        parts = {fold.name: _logged(fold) for fold in self.folder.folds() if fold.checkpoint_final.is_file()}
        if not parts:
            raise PathsError(
                f"{self.folder.path} has no checkpoint_final.pth, which holds what was logged; train again"
            )
        return pd.concat(parts, names=["fold", "epoch"])

    @property
    def figures(self) -> tuple[Path, ...]:
        """The images that the evaluation drew."""
        drawn = (self.evaluation.roc_figure, self.evaluation.confusion_figure, self.evaluation.values_figure)
        return tuple(path for path in drawn if path.is_file())

    def __repr__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield f"<{self.metrics['trainer']} on {self.metrics['dataset']}, {self.metrics['protocol']} protocol"
        if "warning" in self.metrics:
            yield self.metrics["warning"]
        primary = self.metrics.get("primary_score")
        if primary in self.metrics["scores"]:
            value, low, high = (self.metrics["scores"][primary][key] for key in INTERVAL)
            if value is not None:
                interval = "" if low is None else f", 95 % interval {low:.3f} to {high:.3f}"
                yield f"{primary} {value:.3f}{interval}"
        yield f"{len(self.predictions)} held-out scans in {self.evaluation.path}>"


def read_results(run: str | PathLike[str], *, external: str | None = None) -> RunResults:
    """Read what `adnext_evaluate`, or `evaluate`, wrote of a run.

    Args:
        run: folder of a run, `TRAINER__PLANS__CONFIGURATION`.
        external: full name of another dataset that the run was applied to; by default its own cohort is meant.

    Raises:
        PathsError: there is no such run, it was not evaluated, or a file is damaged.
        FormatError: a file is another program's, or a later version's.
    """
    folder = RunFolder(Path(run))
    if not folder.path.is_dir():
        raise PathsError(
            f"{folder.path} is not the folder of a run; give TRAINER__PLANS__CONFIGURATION of nnUNet_results"
        )
    evaluation = folder.evaluation if external is None else folder.external(external)
    remedy = "evaluate the run first (adnext_evaluate)"
    path = require_file(evaluation.metrics_file, remedy)
    metrics = read_metrics(path) if external is None else read_external_metrics(path)
    predictions = _predictions(require_file(evaluation.predictions_file, remedy), metrics.kind == "regression")
    content = read_json(path)
    assert isinstance(content, dict)  # it has been read as a record
    if metrics.warning is not None:
        content["warning"] = metrics.warning
    return RunResults(folder=folder, evaluation=evaluation, metrics=content, predictions=predictions)


def _predictions(path: Path, is_regression: bool) -> pd.DataFrame:
    texts = [name for name in TEXTS if not (is_regression and name == "target")]
    # a class or a subject may be called NA
    remedy = "evaluate the run again (adnext_evaluate)"
    return read_csv(path, texts=texts, remedy=remedy, empty_is_missing=True, float_precision="round_trip")


def _logged(fold: "FoldFolder") -> pd.DataFrame:
    from adnext_plugin.training.weights import read_checkpoint

    logged = read_checkpoint(fold.checkpoint_final)["logging"]
    curves = {name: values for name, values in logged.items() if not name.startswith("epoch_")}
    return pd.DataFrame({name: pd.Series(values, dtype=float) for name, values in curves.items()})
