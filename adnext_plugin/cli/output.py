"""What a command prints: to the terminal, unless `--quiet`, and with `--log` to a file as well.

Whatever is printed is `printable`. The file, and with `--verbose` the terminal, also have what is said at DEBUG: what
nnU-Net says, and warnings of other packages that are meant for whoever writes them.
"""

import argparse
import logging
import sys
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

from tqdm import tqdm

from adnext_plugin.cli.printable import printable
from adnext_plugin.log import LOG
from adnext_plugin.progress import without_bars


class Output:
    """The output of one command while it runs."""

    def __init__(self) -> None:
        self.is_quiet = False
        self._files: list[logging.Handler] = []
        self._ends = ExitStack()

    def be_quiet(self) -> None:
        """Print nothing but warnings and errors, and no bars."""
        self.is_quiet = True
        self._ends.enter_context(without_bars())

    def be_verbose(self) -> None:
        """Print what is said at DEBUG, too."""
        self._hear(_Printing())

    def keep(self, path: Path) -> None:
        """Write all that is printed or said at DEBUG to the end of a file, with the time."""
        path.parent.mkdir(parents=True, exist_ok=True)
        file = _File(path)
        self._ends.callback(file.close)
        self._files.append(file)
        self._hear(file)
        self.note(logging.INFO, f"$ {' '.join([Path(sys.argv[0]).name, *sys.argv[1:]])}")

    def note(self, level: int, text: str) -> None:
        """Write a line to the files alone."""
        for file in self._files:
            file.acquire()
            file.emit(LOG.makeRecord(LOG.name, level, "", 0, text, (), None))  # past the filter of what is told anyway
            file.release()

    def end(self) -> None:
        """Leave everything as it was before the command."""
        self._ends.close()

    def _hear(self, handler: logging.Handler) -> None:
        # whoever called for the work tells of all above, by printing
        handler.addFilter(lambda record: record.levelno < logging.INFO)
        before = LOG.level
        LOG.addHandler(handler)
        LOG.setLevel(logging.DEBUG)
        self._ends.callback(LOG.setLevel, before)
        self._ends.callback(LOG.removeHandler, handler)


_RUNNING: ContextVar[Output | None] = ContextVar("_RUNNING", default=None)


def add_output_arguments(parser: ArgumentParser) -> None:
    """Add what every command takes; nothing of it is left in what was parsed."""
    parser.add_argument("--quiet", action=_Quiet, nargs=0, help="print nothing but warnings and errors")
    parser.add_argument("--verbose", "-v", action=_Verbose, nargs=0, help="also print what nnU-Net and others say")
    parser.add_argument("--log", action=_Log, metavar="FILE", help="also write all of it to the end of a file")


@contextmanager
def command_output() -> Iterator[Output]:
    """The output of a command, which runs within the block."""
    before, output = (sys.stdout, sys.stderr), Output()
    streams = (_Stream(sys.stdout, output, logging.INFO), _Stream(sys.stderr, output, logging.WARNING))
    sys.stdout, sys.stderr = streams
    token = _RUNNING.set(output)
    try:
        yield output
    finally:
        _RUNNING.reset(token)
        output.end()
        # somebody else may have put streams of their own there meanwhile
        if (sys.stdout, sys.stderr) == streams:
            sys.stdout, sys.stderr = before


class _Stream:
    """A stream that shows codes of characters that are not to look at, and writes lines to the output's files."""

    def __init__(self, stream: TextIO, output: Output, level: int) -> None:
        self._stream, self._output, self._level = stream, output, level
        self._begun = ""

    def write(self, text: str) -> int:
        shown = printable(text)
        *lines, self._begun = (self._begun + shown).split("\n")
        for line in lines:
            if "\r" not in line:  # a bar
                self._output.note(self._level, line)
        if self._output.is_quiet and self._level < logging.WARNING:
            return len(text)
        written = self._stream.write(shown)
        if shown.endswith("\n"):
            self._stream.flush()  # a file would otherwise be given lines long after they were printed
        return written

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Printing(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        with tqdm.external_write_mode():
            print(record.getMessage())


class _File(logging.FileHandler):
    """A file that is given up, with a word, when it can no longer be written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, encoding="utf-8", errors="backslashreplace")
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))
        self._is_whole = True

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # of logging
        if self._is_whole:
            self._is_whole = False
            print(f"warning: {self.baseFilename} cannot be written: {sys.exc_info()[1]}", file=sys.stderr)


class _Option(argparse.Action):
    """Tells the command that runs, and leaves no trace in what was parsed."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, default=argparse.SUPPRESS, **options)

    def __call__(self, _parser: Any, _namespace: Any, values: Any, _option: Any = None) -> None:
        output = _RUNNING.get()
        if output is not None:  # else somebody only looks at the arguments
            self.tell(output, values)

    def tell(self, output: Output, value: Any) -> None:
        raise NotImplementedError


class _Quiet(_Option):
    def tell(self, output: Output, value: Any) -> None:
        output.be_quiet()


class _Verbose(_Option):
    def tell(self, output: Output, value: Any) -> None:
        output.be_verbose()


class _Log(_Option):
    def tell(self, output: Output, value: Any) -> None:
        output.keep(Path(value))
