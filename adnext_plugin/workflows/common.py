"""What all use cases share: how they say what happens, which device they compute on, how often they resample.

A use case is a function from a frozen request to a frozen result. It parses no command line and prints nothing; what a
person may want to read while it works goes through a callback.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from adnext_plugin.errors import SettingsError
from adnext_plugin.paths import CONFIGURATION, PLANS_NAME, dataset_folder_name, preprocessed_dir
from adnext_plugin.run_folder import RunFolder

Fold = int | str  # a number, or "all"

Tell = Callable[[str], None]  # is given one line, or several separated by line breaks

REASONS_FILE = "reasons.log"

FEWEST_RESAMPLES = 100  # from which 2.5 % and 97.5 % can be read


@dataclass(frozen=True, kw_only=True)
class DatasetRequest:
    """Which preprocessed dataset, by number or full name, and as which of its plans and configurations."""

    dataset: str | int
    plans: str = PLANS_NAME
    configuration: str = CONFIGURATION

    @property
    def dataset_folder(self) -> Path:
        """Folder of the preprocessed dataset.

        Raises:
            PathsError: there is none of this number or name, or two.
        """
        return preprocessed_dir() / dataset_folder_name(self.dataset, [preprocessed_dir()])


@dataclass(frozen=True, kw_only=True)
class RunRequest(DatasetRequest):
    """Which run: that of a trainer on a dataset (`unnamed_trainer` finds it where nobody named one)."""

    trainer: str

    @property
    def run(self) -> RunFolder:
        """Where it lies, or will lie, in `nnUNet_results`."""
        return RunFolder.of(self.dataset_folder.name, self.trainer, self.plans, self.configuration)


def say_nothing(text: str) -> None:
    """A `Tell` for callers who want the result alone."""


def choose_device(name: str | None) -> str:
    """The device asked for, or a GPU where there is one.

    Raises:
        SettingsError: torch sees no GPU.
    """
    import torch

    if name == "cuda" and not torch.cuda.is_available():
        raise SettingsError("-device cuda: torch sees no GPU here; use -device cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise SettingsError("-device mps: torch sees no GPU of Apple's here; use -device cpu")
    return name or ("cuda" if torch.cuda.is_available() else "cpu")


def trains_on_gpu(device: str | None) -> bool:
    """Whether networks would be trained on a GPU; looked up where no device is asked for."""
    if device is None:
        import torch

        return torch.cuda.is_available()
    return device != "cpu"


def note_reason(dataset_folder: Path, what: str, reason: str) -> None:
    """Keep what a user said of people where the people are: in `reasons.log` of the preprocessed dataset.

    Results, which are shared, say only that there was a reason. Where the data may only be read, nothing is kept.
    """
    line = f"{datetime.now(UTC):%Y-%m-%d %H:%M} {what}: {' '.join(reason.split())}\n"
    with suppress(OSError), (dataset_folder / REASONS_FILE).open("a", encoding="utf-8") as log:
        log.write(line)


def require_processes(processes: int) -> None:
    """Make sure that somebody works.

    Raises:
        SettingsError: nobody does.
    """
    if processes < 1:
        raise SettingsError(f"-np must be at least 1, got {processes}")


def require_resamples(resamples: int) -> int:
    """A number of bootstrap resamples that 95 % intervals can be read from.

    Raises:
        SettingsError: it is too small.
    """
    if resamples < FEWEST_RESAMPLES:
        raise SettingsError(f"--resamples must be at least {FEWEST_RESAMPLES} for 95 % intervals, got {resamples}")
    return resamples
