"""Age, sex, site and the like, as they will stand in `subjects.csv`. What nobody asked for never stops an import."""

import re
from collections.abc import Iterator, Sequence

from adnext_plugin.errors import TableError, nearest_names
from adnext_plugin.importing.scans import Scan, Source
from adnext_plugin.importing.tables.cells import as_number, is_missing
from adnext_plugin.importing.tables.kinds import COVARIATES

SEXES = {
    "m": "M",
    "male": "M",
    "1": "M",
    "f": "F",
    "female": "F",
    "2": "F",
    "u": "",
    "unknown": "",
    "o": "",
    "other": "",
}
OLDEST_YEARS = 130.0


class Covariates:
    """Reads the covariates of scans and remembers which cells made no sense."""

    def __init__(self, source: Source, keep: Sequence[str]) -> None:
        """Of a source's columns those that have a role, and the columns `keep`, of numbers or of words."""
        self._source = source
        self._keep = [column for column in keep if source.columns.get(column) != column]  # those have a role already
        self._words = {column for column in self._keep if _has_words_alone(source, column)}
        self._unread: dict[tuple[str, str], list[tuple[str, Scan]]] = {}

    def of(self, scan: Scan) -> dict[str, str | float]:
        """The covariates of a scan, "" where one is not known.

        Raises:
            TableError: an age no person can have; a column that the user named has no number or no sex.
        """
        values: dict[str, str | float] = {}
        for role in COVARIATES:
            column = self._source.columns.get(role)
            if column is not None:
                values[role] = self._value(role, scan.row.get(column, ""), column, scan)
        for column in self._keep:
            if column not in scan.row:
                raise TableError(f"--keep: the table has no column {column!r}{nearest_names(column, scan.row)}")
            cell = scan.row[column]
            if column in self._words:
                values[column] = "" if is_missing(cell) else cell
            else:
                values[column] = self._number(cell, column, scan, is_needed=True)
        return values

    def notes(self) -> Iterator[str]:
        """One line for each column with cells that made no sense."""
        for (role, column), cells in self._unread.items():
            cell, scan = cells[0]
            yield (
                f"{role} of {len(cells)} scans is not known, the first {scan}, where {column} is {cell!r}; say what it "
                f"stands for with --covariate-map {column} '{cell}=VALUE'"
            )

    def _value(self, role: str, cell: str, column: str, scan: Scan) -> str | float:
        if is_missing(cell):
            return ""
        is_needed = column in self._source.asked_for
        if role == "age":
            age = self._number(cell, column, scan, role=role, is_needed=is_needed)
            if isinstance(age, float) and not 0 <= age <= OLDEST_YEARS:
                raise TableError(
                    f"{scan} has {column} {cell!r}, which is no age in years; if it means 'not known', say --missing "
                    f"{column}={cell}; correct the table, or do without ages: --age-column none"
                )
            return age
        if role == "sex":
            code = cell.lower().removesuffix(".0")
            if code in SEXES:
                return SEXES[code]
            what = "sex is written M or F, male or female, 1 or 2"
            return self._unreadable(role, cell, column, scan, what, is_needed=is_needed)
        if role == "field_strength":
            # ADNIMERGE writes "3 Tesla MRI"
            number = re.sub(r"(?i)\s*(t|tesla)\b.*", "", cell)
            return self._number(number, column, scan, role=role, is_needed=is_needed)
        return cell

    def _number(self, cell: str, column: str, scan: Scan, *, role: str = "", is_needed: bool) -> str | float:
        if is_missing(cell):
            return ""
        number = as_number(cell)
        if number is not None:
            return number
        return self._unreadable(role or column, cell, column, scan, "which is not a number", is_needed=is_needed)

    def _unreadable(self, role: str, cell: str, column: str, scan: Scan, what: str, *, is_needed: bool) -> str:
        if is_needed:
            raise TableError(
                f"{scan} has {column} {cell!r}, {what}; correct the table, or say what it stands for: --covariate-map "
                f"{column} '{cell}=VALUE'"
            )
        self._unread.setdefault((role, column), []).append((cell, scan))
        return ""


def _has_words_alone(source: Source, column: str) -> bool:
    """Whether no cell of a column is a number, as of one that names families or centres."""
    cells = [cell for scan in source.scans if not is_missing(cell := scan.row.get(column, ""))]
    return bool(cells) and all(as_number(cell) is None for cell in cells)
