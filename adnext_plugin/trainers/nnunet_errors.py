"""Errors that a user can mend, under nnU-Net's own commands, which end in a traceback whatever goes wrong."""

import sys
import traceback
from pathlib import Path
from types import TracebackType

from adnext_plugin.errors import AdnextError
from adnext_plugin.memory_shortage import FOR_TRAINING, shortage_in_words
from adnext_plugin.mending import problem

LOADER = "load_pretrained_weights"  # of nnU-Net: function and file


def say_errors_in_one_line() -> None:
    """Have the process end with one line where an error of ours, or unfit first weights, would end it.

    Where somebody else has a say in how errors are shown, such as a notebook, nothing is changed.
    """
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = show_error


def show_error(kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
    """Write an error to the terminal."""
    line = _about_first_weights(error, frames) or shortage_in_words(error, FOR_TRAINING)
    if line is None and isinstance(error, Exception) and (lines := problem(error)) is not None:
        line = "\n".join(lines)
    if line is None:
        sys.__excepthook__(kind, error, frames)
    else:
        sys.stderr.write(f"error: {line}\n")


def _about_first_weights(error: BaseException, frames: TracebackType | None) -> str | None:
    """What nnU-Net's loader of `-pretrained_weights` found wrong with the file; None for any other error."""
    if isinstance(error, AdnextError | OSError):  # which say themselves what is wrong
        return None
    for frame, _ in traceback.walk_tb(frames):
        if frame.f_code.co_name == LOADER and Path(frame.f_code.co_filename).stem == LOADER:
            path = frame.f_locals.get("fname")
            if isinstance(error, AssertionError):
                found = str(error).split(". ")[0]
                return (
                    f"{path} does not fit the network: {found}; adnext_train takes encoders alone, and says what fits"
                )
            return f"{path} is no checkpoint of nnU-Net ({type(error).__name__}); check -pretrained_weights"
    return None
