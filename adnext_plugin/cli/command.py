"""What every command has in common: what a user can mend is one line and exit code 2, a fault of ours a traceback.

Exit codes: 0 done, 1 a fault of ours, 2 something the user can mend, 130 interrupted, 141 nobody reads the output any
more, 143 terminated.
"""

import argparse
import functools
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from types import FrameType
from typing import Any

from adnext_plugin.cli.output import Output, add_output_arguments, command_output
from adnext_plugin.environment import let_threads_sleep
from adnext_plugin.errors import AdnextWarning
from adnext_plugin.log import LOG
from adnext_plugin.mending import problem

Main = Callable[[Sequence[str] | None], int]


NOBODY_READS = 141  # as a shell says of SIGPIPE, which Windows does not have
REPORT = "This is a fault of adnext_plugin. Please report it to its maintainers, with the lines above and the command."


class Terminated(KeyboardInterrupt):
    """SIGTERM, by which schedulers, containers and service managers stop a process: treated like Ctrl-C."""


def new_parser(name: str, description: str) -> ArgumentParser:
    """An argument parser that never guesses at abbreviated options."""
    parser = ArgumentParser(prog=name, description=description, allow_abbrev=False)
    add_output_arguments(parser)
    parser.add_argument("--debug", action=_Debug, help="show where an error arose")
    parser.add_argument("--version", action="version", version=f"adnext_plugin {version('adnext_plugin')}")
    return parser


def command(main: Main) -> Main:
    """Turn whatever a user can mend into one line per problem on standard error and exit code 2.

    An `AdnextWarning` on the way is one line, too. Any other exception leaves with its traceback and a note.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        with command_output() as output:
            return _run(main, argv, output)

    return wrapped


def _run(main: Main, argv: Sequence[str] | None, output: Output) -> int:
    _Debug.is_on = False
    let_threads_sleep()
    try:
        with _warnings_of_one_line(), _terminable():
            return main(argv)
    except BrokenPipeError:
        # what is still in the buffer has no reader either, and must not fail when Python exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return NOBODY_READS
    except KeyboardInterrupt as error:
        is_terminated = isinstance(error, Terminated)
        what = "terminated" if is_terminated else "interrupted"
        how = "".join(f" {note}" for note in getattr(error, "__notes__", ()))
        print(f"{what}; run the same command again{how} to continue", file=sys.stderr)
        return 128 + (signal.SIGTERM if is_terminated else signal.SIGINT)
    except Exception as error:
        lines = problem(error)
        if lines is None:
            error.add_note(REPORT)
            output.note(logging.ERROR, traceback.format_exc())
            raise
        if _Debug.is_on:
            traceback.print_exc()
        for line in lines:
            print(f"error: {line}", file=sys.stderr)
        return 2


class _Debug(argparse.Action):
    """Remembers `--debug` for `command`, and leaves no trace in what was parsed."""

    is_on = False

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, *_: Any) -> None:
        _Debug.is_on = True


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the block like Ctrl-C does, so that files in the making are removed; unless others see to it."""
    is_ours = (
        threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    )
    if is_ours:
        signal.signal(signal.SIGTERM, _raise_terminated)
    try:
        yield
    finally:
        if is_ours:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _raise_terminated(_signal: int, _frame: FrameType | None) -> None:
    raise Terminated


@contextmanager
def _warnings_of_one_line() -> Iterator[None]:
    with warnings.catch_warnings():
        shown_before = warnings.showwarning
        said: set[str] = set()

        def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
            if issubclass(category, AdnextWarning):
                if str(message) not in said:  # whichever part of the command finds it again
                    print(f"warning: {message}", file=sys.stderr)
                said.add(str(message))
            elif issubclass(category, DeprecationWarning | FutureWarning):
                LOG.debug("%s: %s", category.__name__, message)  # for whoever writes that package
            else:
                shown_before(message, category, *where)

        warnings.showwarning = show  # type: ignore[assignment]  # its last arguments are handed on as they come
        yield
