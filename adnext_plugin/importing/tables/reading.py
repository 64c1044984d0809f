"""Reading tables of subjects (CSV, TSV, XLSX) as text cells, and finding their columns."""

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from adnext_plugin.csv_files import as_read
from adnext_plugin.errors import TableError, nearest_names
from adnext_plugin.files import require_file
from adnext_plugin.importing.tables.encoding import decoded

SEPARATORS = (",", ";", "\t")
NO_COLUMN = "none"
TABLE_SUFFIXES = (".csv", ".tsv", ".xlsx")  # of files that are taken for tables without having been named as such
WORKBOOKS = (".xlsx", ".xlsm")
DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)
DECIMAL_POINT = re.compile(r"[+-]?\d*\.\d+(e[+-]?\d{1,3})?", re.ASCII | re.IGNORECASE)


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a table with a header line, every cell as text without surrounding blanks.

    The first sheet of a workbook; TSV by its name; else comma, semicolon or tab, whichever the header has first. Lines
    that begin with # above the header are passed over. Decimal commas of a table with semicolons become points.

    Raises:
        PathsError: no such file.
        TableError: it is no table, empty, has two columns of one name or a row of another length than its header.
    """
    require_file(path, "check the path of the table")
    suffix = path.suffix.lower()
    if suffix == ".xls":
        raise TableError(f"{path} is a workbook in Excel's format of before 2007; save it as XLSX or CSV")
    is_workbook = suffix in WORKBOOKS
    lines, separator = (_read_workbook(path), "") if is_workbook else _read_text(path)
    # a line break in a cell is never meant, and would break messages that quote it
    lines = [[" ".join(cell.splitlines()).strip() for cell in line] for line in lines]
    lines = _without_comments(lines)
    if len(lines) < 2:
        raise TableError(f"{path} has no rows below a header line{other_sheets(path)}")
    _check_header(path, lines[0], is_workbook)
    _check_lengths(path, lines)
    rows = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    return _with_decimal_points(rows) if separator == ";" else rows


def find_column(wanted: str | None, usual: Iterable[str], row: Collection[str], what: str) -> str | None:
    """Name of a column: the one asked for, or one of the usual names in any case of letters.

    Args:
        wanted: what the user says, "none" for no column; None to look for the usual names.
        usual: lower-case names to look for.
        row: a row of the table.
        what: for the message, e.g. "--file-column".

    Returns:
        The column; None if none was asked for and none has a usual name.

    Raises:
        TableError: there is no column as asked for.
    """
    if wanted is None:
        by_lower_case = {name.lower(): name for name in row}
        return next((by_lower_case[name] for name in usual if name in by_lower_case), None)
    if wanted not in row and wanted == NO_COLUMN:
        return None
    if wanted not in row:
        raise TableError(f"{what}: the table has no column {wanted!r}{nearest_names(wanted, row)}")
    return wanted


def other_sheets(path: Path) -> str:
    """The end of a message about what a workbook lacks, if it has sheets that are not read; else ""."""
    if path.suffix.lower() not in WORKBOOKS:
        return ""
    import pandas as pd

    names = pd.ExcelFile(path, engine="openpyxl").sheet_names[1:]
    if not names:
        return ""
    return (
        f"; only the first sheet of a workbook is read, and this has more ({', '.join(map(str, names))}): save the one "
        "with the table as CSV, or put it first"
    )


def _read_text(path: Path) -> tuple[list[list[str]], str]:
    """The lines of cells, and what separates them."""
    text, _ = decoded(path)
    if "\0" in text:
        raise TableError(f"{path} is not a text table (it has zero bytes); save it as CSV (comma) or TSV (tab)")
    stream = io.StringIO(text, newline="")
    first = next((line for line in io.StringIO(text) if not line.startswith("#")), text)
    found = [(first.index(separator), separator) for separator in SEPARATORS if separator in first]
    separator = min(found, default=(0, ","))[1]
    if path.suffix.lower() == ".tsv":
        if "\t" not in first and found:
            raise TableError(f"{path} has {separator!r} between its columns, not the tabs of a TSV; name it .csv")
        separator = "\t"
    try:
        # tables of ours, and of others who protect spreadsheets from formulas, too
        return [[as_read(cell) for cell in line] for line in csv.reader(stream, delimiter=separator) if line], separator
    except csv.Error as error:
        raise TableError(f"{path} is not a text table ({error}); save it as CSV (comma) or TSV (tab)") from error


def _read_workbook(path: Path) -> list[list[str]]:
    import pandas as pd

    try:
        sheet = pd.read_excel(path, header=None, dtype=str, na_filter=False, engine="openpyxl")
    # a damaged workbook fails in zip, XML or openpyxl, each with errors of its own and no common family
    except Exception as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise TableError(f"{path} is not a readable XLSX workbook ({reason}); save it again, or as CSV") from error
    lines = [line for line in sheet.to_numpy().tolist() if any(cell.strip() for cell in line)]
    # sheets often have formatted but empty columns to the right
    width = max((index + 1 for line in lines for index, cell in enumerate(line) if cell.strip()), default=0)
    return [line[:width] for line in lines]


def _without_comments(lines: list[list[str]]) -> list[list[str]]:
    """Without the lines above the header that begin with #; one as wide as what follows is itself the header."""
    start = next((index for index, line in enumerate(lines) if not line[0].startswith("#")), len(lines))
    if 0 < start < len(lines) and len(lines[start]) > 1 and len(lines[start - 1]) == len(lines[start]):
        return lines[start - 1 :]
    return lines[start:]


def _check_header(path: Path, header: Sequence[str], is_workbook: bool) -> None:
    empty = [index for index, name in enumerate(header, start=1) if not name]
    if is_workbook and empty:
        raise TableError(
            f"{path}: the first line has no name in column {empty[0]}, as where cells are merged or a title stands "
            f"above the names; the first line must be one name for every column{other_sheets(path)}"
        )
    doubled = sorted(name for name, count in Counter(header).items() if count > 1)
    if doubled == [""]:
        raise TableError(f"{path}: columns {empty[0]} and {empty[1]} have no name; name them in the first line")
    if doubled:
        raise TableError(f"{path} has two columns {doubled[-1]!r}; rename one")


def _check_lengths(path: Path, lines: Sequence[Sequence[str]]) -> None:
    width = len(lines[0])
    for number, line in enumerate(lines, start=1):
        if len(line) == width:
            continue
        where = f"{path}, line {number}: {len(line)} cells, but the header has {width}"
        others = {len(other) for other in lines[1:]}
        if others == {width + 1} and all(not other[-1] for other in lines[1:]):
            raise TableError(f"{where}; every line ends with a separator too many, take it away")
        if others == {width + 1}:
            raise TableError(
                f"{where}; the first cell of every line looks like a row name of R, write the table with "
                "write.csv(..., row.names = FALSE)"
            )
        if line[0].startswith("#"):
            raise TableError(f"{where}; it looks like a comment, take it away")
        raise TableError(where)


def _with_decimal_points(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Where semicolons part the cells, 71,5 is a number; but not in a column that has points, too."""
    columns = [
        name
        for name in rows[0]
        if any(DECIMAL_COMMA.fullmatch(row[name]) for row in rows)
        and not any(DECIMAL_POINT.fullmatch(row[name]) for row in rows)
    ]
    for row in rows:
        for name in columns:
            if DECIMAL_COMMA.fullmatch(row[name]):
                row[name] = row[name].replace(",", ".")
    return rows
