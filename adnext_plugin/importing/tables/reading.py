"""Reading tables of subjects (CSV, TSV, XLSX) as text cells, and finding their columns."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from adnext_plugin.errors import TableError, nearest_names
from adnext_plugin.files import require_file

SEPARATORS = (",", ";", "\t")
WORKBOOKS = (".xlsx", ".xlsm")


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a table with a header line, every cell as text without surrounding blanks.

    The first sheet of a workbook; TSV by its name; else comma, semicolon or tab, whichever the header has first.

    Raises:
        PathsError: no such file.
        TableError: it is no table, empty, has two columns of one name or a row of another length than its header.
    """
    require_file(path, "check the path of the table")
    suffix = path.suffix.lower()
    if suffix == ".xls":
        raise TableError(f"{path} is a workbook in Excel's format of before 2007; save it as XLSX or CSV")
    lines = _read_workbook(path) if suffix in WORKBOOKS else _read_text(path)
    if len(lines) < 2:
        raise TableError(f"{path} has no rows below a header line")
    # a line break in a cell is never meant, and would break messages that quote it
    lines = [[" ".join(cell.splitlines()).strip() for cell in line] for line in lines]
    header = lines[0]
    doubled = sorted(name for name, count in Counter(header).items() if count > 1)
    if doubled:
        raise TableError(f"{path} has two columns {doubled[0]!r}; rename one")
    for number, line in enumerate(lines, start=1):
        if len(line) != len(header):
            raise TableError(f"{path}, line {number}: {len(line)} cells, but the header has {len(header)}")
    return [dict(zip(header, line, strict=True)) for line in lines[1:]]


def find_column(wanted: str | None, usual: Iterable[str], row: Mapping[str, str], what: str) -> str | None:
    """Name of a column: the one asked for, or one of the usual names in any case of letters.

    Args:
        wanted: what the user says; None to look for the usual names.
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
    if wanted not in row:
        raise TableError(f"{what}: the table has no column {wanted!r}{nearest_names(wanted, row)}")
    return wanted


def _read_text(path: Path) -> list[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            first = stream.readline()
            stream.seek(0)
            found = [(first.index(separator), separator) for separator in SEPARATORS if separator in first]
            separator = "\t" if path.suffix.lower() == ".tsv" else min(found, default=(0, ","))[1]
            lines = [line for line in csv.reader(stream, delimiter=separator) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise TableError(f"{path} is not a text table ({error}); save it as CSV (comma) or TSV (tab)") from error
    except OSError as error:
        raise TableError(f"{path} cannot be read ({error.strerror}); check its permissions") from error
    if any("\0" in cell for line in lines for cell in line):
        raise TableError(f"{path} is not a text table (it has zero bytes); save it as CSV (comma) or TSV (tab)")
    return lines


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
