"""The states of a run that it can go on from: the newest that is whole, when others are damaged."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch

from adnext_plugin.errors import WeightsError
from adnext_plugin.files import replacing
from adnext_plugin.run_folder import FoldFolder
from adnext_plugin.training.weights import read_checkpoint


@dataclass(frozen=True, kw_only=True)
class State:
    """A checkpoint, its file, and one line for every newer one that could not be read."""

    path: Path
    checkpoint: dict
    problems: tuple[str, ...] = ()


def newest_state(fold: FoldFolder, first: Path | None = None, device: torch.device | str = "cpu") -> State | None:
    """The newest state of a fold that can be read; None where there is none at all.

    Args:
        fold: its folder.
        first: the file to prefer; the newest by default.
        device: where tensors go.

    Raises:
        WeightsError: there are states, and none can be read.
    """
    problems: list[str] = []
    for path in dict.fromkeys([*([first] if first else ()), fold.checkpoint_final, fold.checkpoint_latest]):
        if path.is_file():
            try:
                return State(path=path, checkpoint=read_checkpoint(path, device), problems=tuple(problems))
            except WeightsError as error:
                problems.append(str(error))
    older = []
    for path in (fold.checkpoint_previous, fold.checkpoint_best):
        if path.is_file() and path != first:
            try:
                older.append(State(path=path, checkpoint=read_checkpoint(path, device), problems=tuple(problems)))
            except WeightsError as error:
                problems.append(str(error))
    if older:
        return max(older, key=lambda state: state.checkpoint.get("current_epoch", 0))
    if problems:
        raise WeightsError(f"{problems[0]}; nor can an earlier state of the run: begin anew with --restart")
    return None


def mend_best(fold: FoldFolder, best_epoch: int, *, is_needed: bool) -> str | None:
    """If the checkpoint of the best epoch is damaged, write it again from another state of that epoch.

    Args:
        fold: its folder.
        best_epoch: counted from 0.
        is_needed: whether the run is to be judged by that epoch.

    Returns:
        What was found, if anything.

    Raises:
        WeightsError: it is damaged and needed, and no state is of that epoch.
    """
    best = fold.checkpoint_best
    if not best.is_file():
        return None
    try:
        read_checkpoint(best)
    except WeightsError as error:
        for path in (fold.checkpoint_latest, fold.checkpoint_previous):
            if path.is_file() and _epochs_of(path) == best_epoch + 1:
                with replacing(best) as temporary:
                    shutil.copyfile(path, temporary)
                return f"{error}. {path.name} is of that epoch, too, and has taken its place"
        if is_needed:
            raise WeightsError(f"{error}; no other state is of that epoch: begin anew with --restart") from error
        return str(error)
    return None


def _epochs_of(path: Path) -> int | None:
    """How many epochs a state has behind it; None of one that cannot be read."""
    try:
        return read_checkpoint(path).get("current_epoch")
    except WeightsError:
        return None
