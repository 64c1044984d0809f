"""Dates as tables write them. Whether 5/6/2010 is in May or June only the other dates of its column can tell."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from adnext_plugin.choices import DateOrder
from adnext_plugin.importing.tables.cells import is_missing

_TIME = r"(?:[T _].*)?"
YEAR_FIRST = re.compile(r"(\d{4})([-/.])(\d{1,2})\2(\d{1,2})" + _TIME, re.ASCII | re.DOTALL)
COMPACT = re.compile(r"((?:19|20)\d{2})(\d{2})(\d{2})" + _TIME, re.ASCII | re.DOTALL)
YEAR_LAST = re.compile(r"(\d{1,2})([-/.])(\d{1,2})\2(\d{4})" + _TIME, re.ASCII | re.DOTALL)
DAY_MONTH_NAME = re.compile(r"(\d{1,2})[-. ]+([a-z]{3,9})[-.,/ ]+(\d{4})", re.ASCII | re.IGNORECASE)
MONTH_NAME_DAY = re.compile(r"([a-z]{3,9})[-. ]+(\d{1,2}),?[-. ]+(\d{4})", re.ASCII | re.IGNORECASE)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def as_day(cell: str, order: DateOrder = "month-first") -> int | None:
    """The day number of a date.

    Args:
        cell: 2006-11-02, 2006/11/02, 20061102, 02.11.2006, 2-Nov-2006; a time of day may follow.
        order: how 11/2/2006 and 11-2-2006 are to be read; as LONI does, if not told.

    Returns:
        Days on the proleptic Gregorian calendar, of use for differences only; None where there is no such date.
    """
    text = cell.strip()
    if match := YEAR_FIRST.fullmatch(text):
        return _ordinal(match[1], match[3], match[4])
    if match := COMPACT.fullmatch(text):
        return _ordinal(*match.groups())
    if match := YEAR_LAST.fullmatch(text):
        first, separator, second, year = match.groups()
        # nobody writes the month first between full stops
        is_day_first = separator == "." or order == "day-first"
        return _ordinal(year, second, first) if is_day_first else _ordinal(year, first, second)
    if match := DAY_MONTH_NAME.fullmatch(text):
        return _ordinal(match[3], _month(match[2]), match[1])
    if match := MONTH_NAME_DAY.fullmatch(text):
        return _ordinal(match[3], _month(match[1]), match[2])
    return None


@dataclass(frozen=True, kw_only=True)
class DateColumn:
    """A column of dates: what its own cells say about the order of day and month.

    `name` is for messages. `order` is None where nothing tells it; `clash` are two cells that contradict each other.
    """

    name: str
    order: DateOrder | None
    clash: tuple[str, str] | None = None

    @classmethod
    def of(cls, name: str, cells: Iterable[str], assumed: DateOrder | None) -> "DateColumn":
        """Look at all cells; `assumed` is the order where they do not tell."""
        proof: dict[DateOrder, str] = {}
        for cell in cells:
            if (shown := _order_of(cell)) is not None:
                proof.setdefault(shown, cell)
        if len(proof) == 2:
            return cls(name=name, order=None, clash=(proof["day-first"], proof["month-first"]))
        return cls(name=name, order=next(iter(proof), assumed))

    def day(self, cell: str) -> int | None:
        """The day number of a cell, as `as_day` has it; None where it is missing, no date, or may be two."""
        if is_missing(cell) or (self.order is None and not _reads_one_way(cell)):
            return None
        return as_day(cell, self.order or "month-first")

    def doubt(self, cell: str) -> str:
        """Why a cell that is not missing has no day number, and what to do; "" where it has one."""
        if is_missing(cell) or self.day(cell) is not None:
            return ""
        if self.order is None and not _reads_one_way(cell):
            remedy = "write all dates as YYYY-MM-DD"
            if self.clash is None:
                return (
                    f"{self.name}: {cell} may have the day or the month first, and no date of the column tells which; "
                    f"say it with --date-format day-first or month-first, or {remedy}"
                )
            return f"{self.name} has the day first in {self.clash[0]} and the month first in {self.clash[1]}; {remedy}"
        return f"{self.name}: {cell!r} is not a date that can be read; write it as YYYY-MM-DD"


def _order_of(cell: str) -> DateOrder | None:
    """The order that a cell proves, because one of its numbers is no month."""
    match = YEAR_LAST.fullmatch(cell.strip())
    if match is None or match[2] == ".":
        return None
    first, second = int(match[1]), int(match[3])
    if first > 12 >= second:
        return "day-first"
    if second > 12 >= first:
        return "month-first"
    return None


def _reads_one_way(cell: str) -> bool:
    match = YEAR_LAST.fullmatch(cell.strip())
    return match is None or match[2] == "." or int(match[1]) == int(match[3])


def _month(name: str) -> str:
    short = name[:3].lower()
    return str(MONTHS.index(short) + 1) if short in MONTHS else "0"


def _ordinal(year: str, month: str, day: str) -> int | None:
    try:
        return date(int(year), int(month), int(day)).toordinal()
    except ValueError:
        return None
