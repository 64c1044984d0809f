"""The names of everything in a run's folder, TRAINER__PLANS__CONFIGURATION below a dataset's folder of results.

nnU-Net gives the folder, its folds, their checkpoints, `validation/` and `summary.json` their names; the rest are ours.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from adnext_plugin.errors import PathsError
from adnext_plugin.paths import FITTED_STEPS_FILE, METER_FOLDER, SEED_FOLDER, results_dir, run_name


@dataclass(frozen=True)
class EvaluationFolder:
    """What an evaluation writes: `crossval_results` of a run, or one folder for every external dataset."""

    path: Path

    @property
    def predictions_file(self) -> Path:
        """Held-out predictions, one row per scan."""
        return self.path / "predictions.csv"

    @property
    def metrics_file(self) -> Path:
        """Scores. Written after the predictions and before figures and report."""
        return self.path / "metrics.json"

    @property
    def data_file(self) -> Path:
        """On which data the results are; all their cases count as one part."""
        return self.path / "evaluated_on.json"

    @property
    def report_file(self) -> Path:
        """The page on the run."""
        return self.path / "report.html"

    @property
    def deviations_file(self) -> Path:
        """Volumes of regions of held-out people as z-scores, where they were measured."""
        return self.path / "regions_z.csv"

    @property
    def dice_file(self) -> Path:
        """Dice of a segmentation, by class."""
        return self.path / "dice.json"

    @property
    def dice_table(self) -> Path:
        """Dice of a segmentation, one row per case."""
        return self.path / "dice.csv"

    @property
    def roc_figure(self) -> Path:
        """Of classes."""
        return self.path / "roc.png"

    @property
    def confusion_figure(self) -> Path:
        """Of classes."""
        return self.path / "confusion.png"

    @property
    def values_figure(self) -> Path:
        """Of a predicted quantity."""
        return self.path / "predicted.png"


@dataclass(frozen=True)
class FoldFolder:
    """What training leaves of one fold, or of all cases together (`fold_all`)."""

    path: Path

    @property
    def name(self) -> str:
        """The fold's number as text, or "all"."""
        return self.path.name.removeprefix("fold_")

    @property
    def checkpoint_latest(self) -> Path:
        """The state to resume from."""
        return self.path / "checkpoint_latest.pth"

    @property
    def checkpoint_previous(self) -> Path:
        """The state before it, for when the newest is damaged; only of a run that is not finished."""
        return self.path / "checkpoint_previous.pth"

    @property
    def checkpoint_best(self) -> Path:
        """Of the epoch that did best on `selection`."""
        return self.path / "checkpoint_best.pth"

    @property
    def checkpoint_final(self) -> Path:
        """Of the last epoch. Where it is, training has finished."""
        return self.path / "checkpoint_final.pth"

    @property
    def checkpoints(self) -> list[Path]:
        """All that are there, by name."""
        return sorted(self.path.glob("checkpoint_*.pth"))

    @property
    def is_begun(self) -> bool:
        """Whether training has left anything to go on with or to judge."""
        checkpoints = (self.checkpoint_latest, self.checkpoint_previous, self.checkpoint_best, self.checkpoint_final)
        return any(path.is_file() for path in (*checkpoints, self.summary_file))

    @property
    def trained_on_file(self) -> Path:
        """On which data the fold is trained; earlier versions did not write it."""
        return self.path / "trained_on.json"

    @property
    def run_file(self) -> Path:
        """Settings and what software and machine trained."""
        return self.path / "run.json"

    @property
    def predictions_file(self) -> Path:
        """Predictions of `val` and, in an honest run, of `selection`."""
        return self.path / "validation" / "predictions.csv"

    @property
    def summary_file(self) -> Path:
        """How the fold was trained and judged. Where it is, the held-out part has been predicted."""
        return self.path / "validation" / "summary.json"

    @property
    def reconstructions_figure(self) -> Path:
        """What a pre-trained network makes of scans."""
        return self.path / "validation" / "reconstructions.png"

    @property
    def pretraining_data_file(self) -> Path:
        """Whom a pre-trained network has seen, as keyed digests."""
        return self.path / "pretraining_data.json"

    @property
    def fitted_steps_file(self) -> Path:
        """What the plan's fitted steps have learned from the training part; only where the plan has such steps."""
        return self.path / FITTED_STEPS_FILE

    def metered_file(self, epoch: int) -> Path:
        """What the inflation meter has written of the held-out part after an epoch."""
        return self.path / METER_FOLDER / f"epoch_{epoch}.csv"

    def metered_files(self) -> dict[int, Path]:
        """All of them by epoch, in order."""
        found = {int(path.stem.split("_")[1]): path for path in (self.path / METER_FOLDER).glob("epoch_*.csv")}
        return dict(sorted(found.items()))


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run; wherever a path is wanted, it stands for it."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    @classmethod
    def of(cls, dataset: str, trainer: str, plans: str, configuration: str, results: Path | None = None) -> "RunFolder":
        """Where the run of a trainer on a dataset lies.

        Args:
            dataset: full name, Dataset101_AD.
            trainer, plans, configuration: names.
            results: folder of all results; that of `nnUNet_results` by default.
        """
        return cls((results or results_dir()) / dataset / run_name(trainer, plans, configuration))

    @property
    def trainer(self) -> str:
        """Name of the trainer."""
        return self._parts[0]

    @property
    def plans(self) -> str:
        """Name of the plans."""
        return self._parts[1]

    @property
    def configuration(self) -> str:
        """Name of the configuration of the plans."""
        return self._parts[2]

    @property
    def plans_file(self) -> Path:
        """The plans as the run used them, with the settings of its trainer."""
        return self.path / "plans.json"

    @property
    def dataset_file(self) -> Path:
        """A copy of `dataset.json`."""
        return self.path / "dataset.json"

    @property
    def evaluation(self) -> EvaluationFolder:
        """What `adnext_evaluate` writes."""
        return EvaluationFolder(self.path / "crossval_results")

    def external(self, dataset: str) -> EvaluationFolder:
        """What `adnext_evaluate --external` writes of another dataset, given by its full name."""
        return EvaluationFolder(self.path / "external" / dataset)

    def explanations(self, method: str) -> Path:
        """Where `adnext_explain` writes the maps of a method."""
        return self.path / "explanations" / method

    def fold(self, fold: int | str) -> FoldFolder:
        """A fold by number, or "all"."""
        return FoldFolder(self.path / f"fold_{fold}")

    def folds(self) -> Iterator[FoldFolder]:
        """The folds there are a folder of: numbered ones in order, then "all"."""
        found = [FoldFolder(path) for path in self.path.glob("fold_*") if path.is_dir()]
        numbered = [fold for fold in found if fold.name.isdigit()]
        yield from sorted(numbered, key=lambda fold: int(fold.name))
        yield from (fold for fold in found if fold.name == "all")

    @property
    def _parts(self) -> list[str]:
        parts = self.path.name.split("__")
        if len(parts) != 3:
            raise PathsError(f"{self.path} is not the folder of a run, which is called TRAINER__PLANS__CONFIGURATION")
        return parts


def seed_runs(run: RunFolder) -> dict[int, RunFolder]:
    """What `adnext_train cv --seeds` left of a run under further seeds, in order.

    Args:
        run: the run's own folder, DATASET/TRAINER__PLANS__CONFIGURATION in a folder of results.
    """
    found = run.path.parents[1].glob(f"{SEED_FOLDER}*/{run.path.parent.name}/{run.path.name}")
    by_seed = {int(path.parents[1].name.removeprefix(SEED_FOLDER)): RunFolder(path) for path in found}
    return dict(sorted(by_seed.items()))
