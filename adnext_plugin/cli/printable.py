"""What a terminal is sent: text that shows itself, and no sequences that move the cursor or run something.

Names of files, subjects and classes are text of other people. Every character that is none to look at is shown by its
code, whoever prints it; a line of progress may begin anew.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

# control characters, half characters (which cannot be encoded), and what turns the direction of writing
INVISIBLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069]|(?<!^)\r(?!\n|$)")


def printable(text: str) -> str:
    """The text with codes instead of characters that are not to look at."""
    return INVISIBLE.sub(lambda match: match[0].encode("unicode_escape", "surrogatepass").decode(), text)


@contextmanager
def printing_safely() -> Iterator[None]:
    """Within the block all that is printed is `printable`."""
    before = sys.stdout, sys.stderr
    streams = _Printable(sys.stdout), _Printable(sys.stderr)
    sys.stdout, sys.stderr = streams
    try:
        yield
    finally:
        # somebody else may have put streams of their own there meanwhile
        if (sys.stdout, sys.stderr) == streams:
            sys.stdout, sys.stderr = before


class _Printable:
    """A stream that shows codes of characters that are not to look at."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(printable(text))

    def writelines(self, lines: Iterator[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
