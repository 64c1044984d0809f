"""What is said while something works, through Python's `logging`: at INFO what a user reads, at DEBUG what a log keeps.

Whoever wants to hear it gives `telling` a callback, or adds a handler to the logger `adnext_plugin`.
"""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

from tqdm import tqdm

LOG = logging.getLogger("adnext_plugin")
# of nnU-Net: the search for a trainer by name, what surrounds a training, and which reader is taken
SEARCH = ("nnunetv2.utilities.find_", "nnunetv2.run.", "nnunetv2.imageio.")


@contextmanager
def telling(tell: Callable[[str], None]) -> Iterator[None]:
    """Within the block `tell` is told what is said, and what nnU-Net prints of its search for a trainer goes to DEBUG.

    Args:
        tell: is given text at INFO and above.
    """
    listener, level = _Listener(tell), LOG.level
    LOG.addHandler(listener)
    LOG.setLevel(logging.DEBUG)
    try:
        with without_nnunets_search():
            yield
    finally:
        LOG.removeHandler(listener)
        LOG.setLevel(level)


@contextmanager
def without_nnunets_search() -> Iterator[None]:
    """Within the block, what nnU-Net prints before a training goes to DEBUG; all else is printed as ever."""
    with redirect_stdout(_Sieve(sys.stdout)):
        yield


def is_told() -> bool:
    """Whether somebody is told what is said, so that it need not be printed."""
    return any(isinstance(handler, _Listener) for handler in LOG.handlers)


class _Listener(logging.Handler):
    """Tells a callback, beside bars that are shown."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.INFO)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode():
            self._tell(record.getMessage())


class _Sieve:
    """A stream that keeps to itself what nnU-Net prints of its search: lines of certain modules, whoever calls them."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = ""

    def write(self, text: str) -> int:
        printing = sys._getframe(1)  # `print` itself has no frame
        module = printing.f_globals.get("__name__", "")
        is_built = module.startswith("nnunetv2.training.nnUNetTrainer") and printing.f_code.co_name == "__init__"
        if not (module.startswith(SEARCH) or is_built):
            return self._stream.write(text)
        *lines, self._begun = (self._begun + text).split("\n")
        for line in filter(None, lines):
            LOG.debug(line)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
