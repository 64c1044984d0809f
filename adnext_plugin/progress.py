"""Progress bars for whoever watches; files and pipes that a command writes to are spared them."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from tqdm import tqdm

SECONDS_BETWEEN_LINES = 60  # of a run that nobody watches, so that its log shows that it lives
_ARE_WANTED = ContextVar("_ARE_WANTED", default=True)


def is_watched() -> bool:
    """Whether somebody sees bars."""
    is_shown = sys.stderr.isatty() or "ipykernel" in sys.modules  # a notebook's output is no terminal
    return is_shown and _ARE_WANTED.get()


def progress_bar(*arguments: Any, **options: Any) -> tqdm:
    """A bar of tqdm, which takes the same; silent where nobody sees it: in a file, a pipe or a job's log."""
    return tqdm(*arguments, disable=not is_watched(), **options)


@contextmanager
def without_bars() -> Iterator[None]:
    """Within the block nothing has a bar."""
    before = _ARE_WANTED.set(False)
    try:
        yield
    finally:
        _ARE_WANTED.reset(before)


class EpochProgress:
    """How far a run is: a bar of all its steps, or where nobody watches, now and then an epoch's line.

    Args:
        name: of what is trained, before the bar.
        epochs: of the whole run.
        done: of them, before this process.
        steps: of an epoch.
        is_bar: False for no bar and every epoch's line, as under nnU-Net's own command.
    """

    def __init__(self, name: str, epochs: int, done: int, steps: int, *, is_bar: bool = True) -> None:
        self._epochs, self._is_bar = epochs, is_bar
        self._is_watched = is_watched()
        self._said_at = -float("inf")
        self._bar = tqdm(
            disable=not (is_bar and self._is_watched),
            total=epochs * steps,
            initial=done * steps,
            desc=name,
            leave=False,
            # epochs, as nobody thinks in steps
            bar_format="{desc} {percentage:3.0f}%|{bar}| {elapsed}, {remaining} left{postfix}",
        )

    def step(self) -> None:
        """One more step is done."""
        self._bar.update()

    def epoch(self, done: int, scores: str) -> bool:
        """One more epoch is done; whether its line is to be shown.

        Args:
            done: epochs so far.
            scores: in words.
        """
        self._bar.set_postfix_str(f"epoch {done}/{self._epochs} {scores}".rstrip())
        if not self._is_bar:
            return True
        if self._is_watched:
            return False
        now = time.monotonic()
        if now - self._said_at < SECONDS_BETWEEN_LINES:
            return False
        self._said_at = now
        return True

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()
