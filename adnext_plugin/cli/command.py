"""What every command has in common: expected errors are one line on the terminal and exit code 2."""

import functools
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence

from adnext_plugin.errors import AdnextError

Main = Callable[[Sequence[str] | None], int]


def new_parser(name: str, description: str) -> ArgumentParser:
    """An argument parser that never guesses at abbreviated options."""
    return ArgumentParser(prog=name, description=description, allow_abbrev=False)


def command(main: Main) -> Main:
    """Turn an `AdnextError` that leaves `main` into one line per problem on standard error and exit code 2."""

    @functools.wraps(main)
    def wrapped(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv)
        except AdnextError as error:
            for line in str(error).splitlines():
                print(f"error: {line}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted; run the same command again to continue", file=sys.stderr)
            return 130

    return wrapped
