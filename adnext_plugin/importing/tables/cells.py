"""Cells of other people's tables: what is missing, what is a number, a date, a field strength; and filters on them."""

import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

from adnext_plugin.errors import TableError, nearest_names

Row = Mapping[str, str]

# BIDS; ADNI and OASIS tables, also after a round trip through floats; common exports
MISSING = {"", "n/a", "na", "nan", "none", "null", "-1", "-4", "-1.0", "-4.0", "nat"}
# Python's own float() would also take 1_000, infinity and digits of other scripts
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
ISO_DATE = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})(?:[T _].*)?", re.ASCII)
US_DATE = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})", re.ASCII)
OPERATORS: dict[str, Callable] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
CONDITION = re.compile(r"^\s*(?P<column>.+?)\s*(?P<sign>==|!=|>=|<=|>|<)\s*(?P<value>.*?)\s*$", re.DOTALL)


def is_missing(cell: str) -> bool:
    """Whether a cell stands for "not known"."""
    return cell.lower() in MISSING


def as_number(cell: str) -> float | None:
    """The number in a cell, 89 for "89+" as BIDS writes high ages; None if there is none or it is not finite."""
    text = cell.strip().removesuffix("+")
    if NUMBER.fullmatch(text) is None:
        return None
    number = float(text)
    return number if abs(number) != float("inf") else None


def known_number(cell: str) -> float | None:
    """The number in a cell that is not missing: -4 means "not known" here."""
    return None if is_missing(cell) else as_number(cell)


def as_day(cell: str) -> int | None:
    """The day number of a date, written 2006-11-02 (a time of day may follow) or, as LONI does, 11/2/2006.

    Returns:
        Days on the proleptic Gregorian calendar, of use for differences only; None where there is no such date.
    """
    if match := ISO_DATE.fullmatch(cell.strip()):
        year, month, day = map(int, match.groups())
    elif match := US_DATE.fullmatch(cell.strip()):
        month, day, year = map(int, match.groups())
    else:
        return None
    try:
        return date(year, month, day).toordinal()
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
        if self.sign in ("==", "!="):
            sides = (cell, self.value) if None in numbers else numbers
            return OPERATORS[self.sign](*sides)
        # a missing cell, such as a score of -4, or a textual one is neither above nor below anything
        return not is_missing(cell) and None not in numbers and OPERATORS[self.sign](*numbers)
