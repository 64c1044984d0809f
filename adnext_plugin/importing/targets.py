"""From a cell of the source's table to what is to be learned.

A class: the cell as it is, through a map, from a dementia rating, or from a number. Or the number itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from adnext_plugin.errors import TableError, nearest_names
from adnext_plugin.importing.scans import Scan, Source
from adnext_plugin.importing.tables.cells import Condition, as_number, is_missing

RATINGS = (0, 0.5, 1, 2, 3)


@dataclass(frozen=True, kw_only=True)
class TargetRule:
    """How the target follows from a column.

    At most one of these is given: `label_map` from cell to class, `is_cdr`, `bins`, conditions with their classes, or
    `is_number`. `classes` in the order of the network's outputs; empty means: all that occur, sorted, but the positive
    one of two last, which `positive` names where it is not known.
    """

    column: str
    classes: tuple[str, ...] = ()
    label_map: dict[str, str] | None = None
    is_cdr: bool = False
    bins: tuple[tuple[Condition, str], ...] = ()
    is_number: bool = False
    positive: str | None = None

    def target_of(self, scan: Scan) -> str | float | None:
        """The class or number of a scan, or None where its cell is missing or in no bin.

        Raises:
            TableError: no such column, a value that the map does not know, or no number where one is needed.
        """
        if self.column not in scan.row:
            raise TableError(f"no column {self.column!r} for {scan}{nearest_names(self.column, scan.row)}")
        cell = scan.row[self.column]
        if is_missing(cell):
            return None
        if self.bins:
            return next((name for condition, name in self.bins if condition.holds(scan.row)), None)
        if self.is_cdr:
            return self._from_cdr(cell, scan)
        if self.is_number:
            number = as_number(cell)
            if number is None:
                raise TableError(f"{scan} has {self.column} {cell!r}, which is not a number; correct the table")
            return number
        if self.label_map is None:
            return cell
        if cell not in self.label_map:
            raise TableError(
                f"{scan} has {self.column} {cell!r}, which --label-map does not name; add it, or leave such rows out "
                f"with --where '{self.column}!={cell}'"
            )
        return self.label_map[cell]

    def _from_cdr(self, cell: str, scan: Scan) -> str:
        rating = as_number(cell)
        # a sum of boxes (CDRSB, 0 to 18) is not a rating
        if rating not in RATINGS:
            raise TableError(
                f"{scan} has {self.column} {cell!r}, which is no Clinical Dementia Rating (0, 0.5, 1, 2, 3)"
            )
        return "AD" if rating > 0 else "CN"


def resolve_column(rule: TargetRule, source: Source) -> TargetRule:
    """The rule with the column that its name means in a source: one of that name, or that of a role.

    "age" is always the role, so that it is the age at the scan even where some table has the age at entry as "age".

    Raises:
        TableError: the rule is for the rating, and no column has it.
    """
    column = rule.column
    is_there = not source.scans or column in source.scans[0].row
    if is_there and (column != "age" or source.columns.get("age") is None):
        return rule
    named = source.columns.get("cdr" if rule.is_cdr and not column else column.lower())
    if named is None:
        if rule.is_cdr and not rule.column:
            raise TableError("no column has a usual name of the Clinical Dementia Rating; name it: --from-cdr COLUMN")
        return rule
    bins = tuple((replace(condition, column=named), name) for condition, name in rule.bins)
    return replace(rule, column=named, bins=bins)


def parse_label_map(items: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Read `CN,SMC=CN AD,Dementia=AD` as a map from cell to class, and the classes in the order given.

    Raises:
        TableError: an item has no "=", or a cell is named twice.
    """
    label_map: dict[str, str] = {}
    for item in items:
        cells, separator, name = item.rpartition("=")
        if not separator or not name:
            raise TableError(f"--label-map {item!r}: write VALUE,VALUE=CLASS, e.g. CN,SMC=CN AD,Dementia=AD")
        for cell in cells.split(","):
            if cell in label_map:
                raise TableError(f"--label-map names {cell!r} twice")
            label_map[cell] = name
    return label_map, tuple(dict.fromkeys(label_map.values()))


def parse_bins(column: str, items: Sequence[str]) -> tuple[tuple[Condition, str], ...]:
    """Read `<40=young >=60=old` as conditions on a column, each with its class.

    Raises:
        TableError: an item has no class.
    """
    bins = []
    for item in items:
        condition, separator, name = item.rpartition("=")
        if not separator or not name or not condition.strip("<>=!"):
            raise TableError(f"--target-bins {item!r}: write a comparison and a class, e.g. '<40=young' '>=60=old'")
        bins.append((Condition.parse(f"{column}{condition}"), name))
    return tuple(bins)
