"""Cells of other people's tables: what is missing, what is a number, a field strength; and filters on them."""

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from adnext_plugin.choices import DateOrder
from adnext_plugin.errors import SettingsError, TableError, nearest_names

Row = Mapping[str, str]

# BIDS; what pandas and spreadsheets write. Numbers that stand for "not known" are those of a study (`CellRules`)
MISSING = {
    *("", "n/a", "na", "nan", "-nan", "none", "null", "nat", "<na>", "#n/a", "#n/a n/a", "#na"),
    *("#null!", "#ref!", "#value!", "#div/0!", "#num!", "#name?", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
}
# Python's own float() would also take 1_000, infinity and digits of other scripts
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
# what is meant as a number, and is none that can be computed with: 71,5 and >89 and 35-40
NUMBER_LIKE = re.compile(r"[<>≤≥~=]*\s*[+-]?\d+([.,]\d+)*(\s*-\s*\d+([.,]\d+)*)?\s*[+%]?", re.ASCII)
OPERATORS: dict[str, Callable] = {
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
CONTAINS = {"~": True, "!~": False}
CONDITION = re.compile(r"^\s*(?P<column>.+?)\s*(?P<sign>==|!=|>=|<=|!~|~|>|<)\s*(?P<value>.*?)\s*$", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class CellRules:
    """How the user says that cells are to be read.

    `missing` are cells that mean "not known", under "" those of every column, else of the column named. `date_order`
    says how to read 5/6/2010 where a column's own dates do not tell. `replacements` turn cells of a column into others.
    """

    missing: Mapping[str, frozenset[str]] = field(default_factory=dict)
    date_order: DateOrder | None = None
    replacements: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def applied(self, rows: Iterable[dict[str, str]], keep: Iterable[str | None] = ()) -> list[dict[str, str]]:
        """The rows with "" for what means "not known" and other cells for those to be replaced, but in columns `keep`.

        Only ids may have any number as a name; so they are kept.
        """
        rows, kept = list(rows), set(keep)
        everywhere = self.missing.get("", frozenset())
        columns = list(rows[0]) if rows else []
        codes = {name: everywhere | self.missing.get(name, frozenset()) for name in columns if name not in kept}
        codes = {name: values for name, values in codes.items() if values}
        replacements = {name: values for name, values in self.replacements.items() if name in columns}
        if not codes and not replacements:
            return rows
        return [
            {
                **row,
                **{name: "" for name, values in codes.items() if _is_one_of(row[name], values)},
                **{name: values[row[name]] for name, values in replacements.items() if row[name] in values},
            }
            for row in rows
        ]


NO_RULES = CellRules()


def parse_missing(items: Sequence[str]) -> dict[str, frozenset[str]]:
    """Read `-9 age=999` as cells that mean "not known", by column; those of all columns stand under ""."""
    found: dict[str, set[str]] = {}
    for item in items:
        column, _, value = item.rpartition("=")
        found.setdefault(column, set()).add(value)
    return {column: frozenset(values) for column, values in found.items()}


def parse_replacements(groups: Sequence[Sequence[str]]) -> dict[str, dict[str, str]]:
    """Read `sex w=F D=` as replacements of a column's cells; a cell that becomes nothing is not known.

    Raises:
        SettingsError: an item has no "=", or a cell is named twice.
    """
    found: dict[str, dict[str, str]] = {}
    for column, *items in groups:
        if not items:
            raise SettingsError(f"--covariate-map {column}: write a column and CELL=VALUE, e.g. sex w=F D=")
        for item in items:
            cell, separator, value = item.rpartition("=")
            if not separator:
                raise SettingsError(f"--covariate-map {column} {item!r}: write CELL=VALUE, e.g. w=F, or D= for missing")
            if found.setdefault(column, {}).setdefault(cell, value) != value:
                raise SettingsError(f"--covariate-map {column} names {cell!r} twice")
    return found


def _is_one_of(cell: str, values: frozenset[str]) -> bool:
    if cell in values:
        return True
    # tables that went through pandas have -4.0 for -4
    number = as_number(cell)
    return number is not None and any(as_number(value) == number for value in values)


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
    """The number in a cell that is not missing."""
    return None if is_missing(cell) else as_number(cell)


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A row filter such as `Age>=60` or `Description~MPRAGE` (contains, in any case of letters)."""

    text: str
    column: str
    sign: str
    value: str

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Read a filter.

        Raises:
            TableError: it has no comparison, or asks whether something is above or below a word.
        """
        match = CONDITION.match(text)
        if match is None:
            signs = " ".join((*OPERATORS, *CONTAINS))
            raise TableError(f"--where {text!r}: write a column, one of {signs} and a value, e.g. 'Age>=60'")
        condition = cls(text=text, **match.groupdict())
        if condition.is_order and as_number(condition.value) is None:
            raise TableError(f"--where {text!r}: {condition.value!r} is not a number, so nothing is above or below it")
        return condition

    @property
    def is_order(self) -> bool:
        """Whether numbers are put in order, not compared for being the same."""
        return self.sign in (">=", "<=", ">", "<")

    def holds(self, row: Row) -> bool:
        """Whether a row passes; cells are compared as numbers if both sides are, and else as text.

        Raises:
            TableError: no such column, or a cell that is to be compared with a number is meant as one and is none.
        """
        cell = row[self._column_of(row)]
        if self.sign in CONTAINS:
            return (self.value.casefold() in cell.casefold()) == CONTAINS[self.sign]
        own, other = as_number(cell), as_number(self.value)
        if own is not None and other is not None:
            return OPERATORS[self.sign](own, other)
        if not is_missing(cell) and (self.is_order or (other is not None and NUMBER_LIKE.fullmatch(cell))):
            raise TableError(
                f"--where {self.text!r}: {self.column} is {cell!r} in a row, which is not a number; correct the table, "
                f"say what it stands for (--covariate-map {self.column} '{cell}=NUMBER'), or first leave such rows out "
                f"(--where '{self.column}!={cell}')"
            )
        # a missing cell is neither above nor below anything
        return not self.is_order and OPERATORS[self.sign](cell, self.value)

    def _column_of(self, row: Row) -> str:
        """The column of this name, or else the only one that has it in another case of letters."""
        if self.column in row:
            return self.column
        alike = [name for name in row if name.casefold() == self.column.casefold()]
        if len(alike) != 1:
            raise TableError(f"--where {self.text!r}: no column {self.column!r}{nearest_names(self.column, row)}")
        return alike[0]
