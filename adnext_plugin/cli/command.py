"""What every command has in common: expected errors are one line on the terminal and exit code 2."""

import functools
import sys
import warnings
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from adnext_plugin.errors import AdnextError, AdnextWarning

Main = Callable[[Sequence[str] | None], int]


def new_parser(name: str, description: str) -> ArgumentParser:
    """An argument parser that never guesses at abbreviated options."""
    return ArgumentParser(prog=name, description=description, allow_abbrev=False)


def command(main: Main) -> Main:
    """Turn an `AdnextError` that leaves `main` into one line per problem on standard error and exit code 2.

    An `AdnextWarning` on the way is one line, too.
    """

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        try:
            with _warnings_of_one_line():
                return main(argv)
        except AdnextError as error:
            for line in str(error).splitlines():
                print(f"error: {line}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted; run the same command again to continue", file=sys.stderr)
            return 130

    return wrapped


@contextmanager
def _warnings_of_one_line() -> Iterator[None]:
    with warnings.catch_warnings():
        shown_before = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any) -> None:
            if issubclass(category, AdnextWarning):
                print(f"warning: {message}", file=sys.stderr)
            else:
                shown_before(message, category, *where)

        warnings.showwarning = show
        yield
