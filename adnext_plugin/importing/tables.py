"""Tables of subjects as text cells, and the questions asked of them: which column, which rows, which number."""

import csv
import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from adnext_plugin.errors import TableError, nearest_names
from adnext_plugin.paths import require_file

Row = Mapping[str, str]

MISSING = {"", "n/a", "na", "nan", "none", "null", "-1", "-4"}  # BIDS; ADNI and OASIS tables; common exports
OPERATORS: dict[str, Callable] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
CONDITION = re.compile(r"^\s*(?P<column>.+?)\s*(?P<sign>==|!=|>=|<=|>|<)\s*(?P<value>.*?)\s*$")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a CSV or TSV file with a header line, every cell as text without surrounding blanks.

    Raises:
        PathsError: no such file.
        TableError: it is not text, empty, has two columns of one name or a row of another length than its header.
    """
    require_file(path, "check the path of the table")
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            lines = [line for line in csv.reader(stream, delimiter=separator) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path} is not a text table ({error}); save it as CSV (comma) or TSV (tab)") from error
    if len(lines) < 2:
        raise TableError(f"{path} has no rows below a header line")
    header = [name.strip() for name in lines[0]]
    doubled = {name for name in header if header.count(name) > 1}
    if doubled:
        raise TableError(f"{path} has two columns {sorted(doubled)[0]!r}; rename one")
    for number, line in enumerate(lines, start=1):
        if len(line) != len(header):
            raise TableError(f"{path}, line {number}: {len(line)} cells, but the header has {len(header)}")
    return [dict(zip(header, (cell.strip() for cell in line), strict=True)) for line in lines[1:]]


def find_column(wanted: str | None, usual: Iterable[str], rows: list[dict[str, str]], what: str) -> str | None:
    """Name of a column: the one asked for, or one of the usual names in any case of letters.

    Args:
        wanted: what the user says; None to look for the usual names.
        usual: lower-case names to look for.
        rows: the table.
        what: for the message, e.g. "--file-column".

    Returns:
        The column; None if none was asked for and none has a usual name.

    Raises:
        TableError: there is no column as asked for.
    """
    if wanted is None:
        by_lower_case = {name.lower(): name for name in rows[0]}
        return next((by_lower_case[name] for name in usual if name in by_lower_case), None)
    if wanted not in rows[0]:
        raise TableError(f"{what}: the table has no column {wanted!r}{nearest_names(wanted, rows[0])}")
    return wanted


def is_missing(cell: str) -> bool:
    """Whether a cell stands for "not known"."""
    return cell.lower() in MISSING


def as_number(cell: str) -> float | None:
    """The number in a cell, 89 for "89+" as BIDS writes high ages; None if there is none."""
    try:
        return float(cell.removesuffix("+"))
    except ValueError:
        return None


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A row filter such as `Age>=60`."""

    text: str
    column: str
    sign: str
    value: str

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Read a filter.

        Raises:
            TableError: it has no comparison.
        """
        match = CONDITION.match(text)
        if match is None:
            raise TableError(
                f"--where {text!r}: write a column, one of {' '.join(OPERATORS)} and a value, e.g. 'Age>=60'"
            )
        return cls(text=text, **match.groupdict())

    def holds(self, row: Row) -> bool:
        """Whether a row passes; cells are compared as numbers if both sides are, and else as text.

        Raises:
            TableError: no such column.
        """
        if self.column not in row:
            raise TableError(f"--where {self.text!r}: no column {self.column!r}{nearest_names(self.column, row)}")
        cell = row[self.column]
        numbers = as_number(cell), as_number(self.value)
        if None not in numbers:
            return OPERATORS[self.sign](*numbers)
        if self.sign in ("==", "!="):
            return OPERATORS[self.sign](cell, self.value)
        return False  # a missing or textual cell is neither above nor below anything
