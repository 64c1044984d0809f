"""Curves of a run for TensorBoard, MLflow or Weights & Biases, beside nnU-Net's own log.

They are told numbers alone: losses, scores and rates of epochs, and settings of the recipe. No id, label, class, path
or line of output goes to them, nor what they would find out of the machine and the command by themselves.
"""

import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from adnext_plugin.environment import mlflow_place, wandb_project
from adnext_plugin.errors import AdnextWarning, SettingsError, nearest_names

NAMES = ("tensorboard", "mlflow", "wandb")  # of modules and extras, too
PROJECT = "adnext"
# settings that are words and say nothing of people
WORDS = ("trainer", "network", "optimizer", "schedule", "augmentation", "protocol", "precision", "evaluate_with")


def require_loggers(names: Sequence[str]) -> None:
    """Make sure that loggers exist, and what they need is installed.

    Raises:
        SettingsError: one does not, or is not.
    """
    for name in names:
        if name not in NAMES:
            raise SettingsError(f"--logger: there is no logger {name!r}{nearest_names(name, NAMES)}")
        if find_spec(name) is None:
            raise SettingsError(f'--logger {name}: {name} is not installed; pip install "adnext_plugin[{name}]"')
        if name == "mlflow" and not mlflow_place():
            raise SettingsError("--logger mlflow: say where runs are kept: export MLFLOW_TRACKING_URI=http://HOST:PORT")


class Watchers:
    """Loggers of a fold as one, which hands on what makes a curve, and does without one that fails.

    Args:
        names: of loggers.
        folder: of the fold.
        run: what to call it there.
        begun: epochs that are over, where a run is gone on with.

    Raises:
        SettingsError: as `require_loggers`.
    """

    def __init__(self, names: Sequence[str], folder: Path, run: str, begun: int) -> None:
        require_loggers(names)
        self._watchers = {name: KINDS[name](folder, run, begun) for name in dict.fromkeys(names)}

    def update_config(self, config: Mapping[str, Any]) -> None:
        """Keep settings: numbers alone, and words of which it is known what they are."""
        kept = {name: value for name, value in config.items() if name in WORDS or isinstance(value, int | float)}
        self._each(lambda watcher: watcher.update_config(kept))

    def log(self, key: str, value: Any, step: int) -> None:
        """Keep a number of an epoch; the time of day is none."""
        if not key.endswith("timestamps"):
            self._each(lambda watcher: watcher.log(key, float(value), step + 1))

    def log_summary(self, key: str, value: Any) -> None:
        """As nnU-Net's loggers; our runs sum nothing up there: by held-out scores nobody should choose."""

    def close(self) -> None:
        """Write all of it."""
        self._each(lambda watcher: watcher.close())

    def _each(self, do: Callable[["Watcher"], None]) -> None:
        for name, watcher in list(self._watchers.items()):
            try:
                do(watcher)
            except Exception as error:  # a server that is gone must not end a training
                del self._watchers[name]
                reason = str(error).partition("\n")[0]
                message = f"--logger {name} is no longer told: {type(error).__name__}: {reason}"
                warnings.warn(message, AdnextWarning, stacklevel=2)


class Watcher(Protocol):
    """One kind of logger."""

    def update_config(self, config: Mapping[str, Any]) -> None:
        """Keep settings of the run."""
        ...

    def log(self, key: str, value: float, epoch: int) -> None:
        """Keep a number of an epoch, counted from 1."""
        ...

    def close(self) -> None:
        """Write all of it."""
        ...


class _TensorBoard:
    """Event files in `tensorboard/` of the fold: `tensorboard --logdir nnUNet_results`."""

    def __init__(self, folder: Path, run: str, begun: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # what a killed run has written of epochs that are trained again is passed over
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=begun + 1 if begun else None)

    def update_config(self, config: Mapping[str, Any]) -> None:
        rows = "".join(f"| {name} | {value} |\n" for name, value in config.items())
        self._writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}")

    def log(self, key: str, value: float, epoch: int) -> None:
        self._writer.add_scalar(key, value, epoch)

    def close(self) -> None:
        self._writer.close()


class _MLflow:
    """A run of the experiment `adnext`, where `MLFLOW_TRACKING_URI` says."""

    def __init__(self, folder: Path, run: str, begun: int) -> None:
        from mlflow.tracking import MlflowClient

        # not `mlflow.start_run`, which also notes the user, the command and the machine
        self._client = MlflowClient(tracking_uri=mlflow_place())
        found = self._client.get_experiment_by_name(PROJECT)
        experiment = self._client.create_experiment(PROJECT) if found is None else found.experiment_id
        self._run = self._client.create_run(experiment, run_name=run).info.run_id

    def update_config(self, config: Mapping[str, Any]) -> None:
        for name, value in config.items():
            self._client.log_param(self._run, name, value)

    def log(self, key: str, value: float, epoch: int) -> None:
        self._client.log_metric(self._run, key, value, step=epoch)

    def close(self) -> None:
        self._client.set_terminated(self._run)


class _Wandb:
    """A run of the project `adnext`, or `WANDB_PROJECT`; `WANDB_MODE=offline` keeps it in the fold's folder."""

    def __init__(self, folder: Path, run: str, begun: int) -> None:
        import wandb

        silent = wandb.Settings(
            console="off",  # which would send every line that is printed
            disable_git=True,
            disable_code=True,
            x_disable_meta=True,
            x_disable_stats=True,
            silent=True,
        )
        self._run = wandb.init(
            project=wandb_project() or PROJECT, dir=str(folder), name=run, settings=silent, reinit="create_new"
        )

    def update_config(self, config: Mapping[str, Any]) -> None:
        self._run.config.update(dict(config))

    def log(self, key: str, value: float, epoch: int) -> None:
        self._run.log({key: value}, step=epoch)

    def close(self) -> None:
        self._run.finish()


KINDS: dict[str, Callable[[Path, str, int], Watcher]] = {
    "tensorboard": _TensorBoard,
    "mlflow": _MLflow,
    "wandb": _Wandb,
}
