"""CSV files, as we write and read them: text that a spreadsheet would run as a formula carries an apostrophe in front.

Excel, LibreOffice and others compute a cell that begins with =, +, -, @, a tab or a line break, also one that came
from somebody's subject id or class name. With an apostrophe in front they show it as text. Reading takes it away, so
that what is read is what was written, apostrophes of the text itself included. Numbers stay as they are.
"""

import csv
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adnext_plugin.errors import TableError
from adnext_plugin.files import replacing, require_file

if TYPE_CHECKING:
    import pandas as pd

MARK = "'"
# their wide forms are formulas, too, where Chinese or Japanese is written
FORMULA = re.compile(r"'*[=+\-@\t\r\n＝＋－＠]")
NUMBER = re.compile(r"'*[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE | re.ASCII)


def written(text: str) -> str:
    """A cell's text as it stands in a file: with a mark in front where a spreadsheet would run it."""
    return f"{MARK}{text}" if _would_run(text) else text


def as_read(cell: str) -> str:
    """The text that `written` was given."""
    return cell[len(MARK) :] if cell.startswith(MARK) and _would_run(cell) else cell


def write_csv(table: "pd.DataFrame", path: Path) -> None:
    """Write a table so that a reader sees the old file or the whole new one."""
    marked = _changed(table, written)
    # a carriage return ends a line for pandas' reader, but its writer does not quote it
    has_return = any("\r" in text for name in marked.columns for text in _texts(marked[name]))
    with replacing(path) as temporary:
        marked.to_csv(temporary, index=False, quoting=csv.QUOTE_NONNUMERIC if has_return else csv.QUOTE_MINIMAL)


def read_csv(
    path: Path,
    *,
    remedy: str,
    texts: Iterable[str] = (),
    needed: Iterable[str] = (),
    numbers: Collection[str] = (),
    empty_is_missing: bool = False,
    **options: Any,
) -> "pd.DataFrame":
    """Read a table that `write_csv`, or an earlier version, has written.

    Args:
        path: the file.
        remedy: what to do for one that is missing or damaged.
        texts: columns that are text whatever they look like; the others are numbers where all of their cells are.
        needed: columns that must be there.
        numbers: columns that must be there and hold finite numbers alone.
        empty_is_missing: empty cells of columns that are no text are NaN, which makes numbers of the others.
        options: of `pandas.read_csv`.

    Raises:
        PathsError: there is no such file.
        TableError: it is no table, or not such a one.
    """
    import pandas as pd

    require_file(path, remedy)
    try:
        names = [str(name) for name in pd.read_csv(path, nrows=0).columns]
        texts_there = [name for name in names if as_read(name) in set(texts)]
        if empty_is_missing:
            options["na_values"] = {name: [""] for name in names if name not in texts_there}
        table = pd.read_csv(path, dtype=dict.fromkeys(texts_there, str), keep_default_na=False, **options)
    except (ValueError, pd.errors.ParserError) as error:  # of cells, of the encoding, or of a file without a line
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TableError(f"{path} is not a table in CSV that can be read ({reason}); {remedy}") from error
    table = _changed(table, as_read)
    for name in (*needed, *numbers):
        if name not in table:
            raise TableError(f"{path} has no column {name!r}; {remedy}")
    require_numbers(table, numbers, path, remedy)
    return table


def require_numbers(table: "pd.DataFrame", columns: Iterable[str], path: Path, remedy: str) -> None:
    """Make sure that columns of what was read hold finite numbers alone.

    Raises:
        TableError: names the first cell that does not.
    """
    import numpy as np
    import pandas as pd

    for name in columns:
        found = pd.to_numeric(table[name], errors="coerce")
        wrong = ~np.isfinite(found.to_numpy(dtype=float))
        if wrong.any():
            row = int(wrong.argmax())
            raise TableError(f"{path}, line {row + 2}: {table[name].iloc[row]!r} is no number as {name}; {remedy}")


def _would_run(text: str) -> bool:
    return FORMULA.match(text) is not None and NUMBER.fullmatch(text) is None


def _changed(table: "pd.DataFrame", change: Callable[[str], str]) -> "pd.DataFrame":
    """The table with all texts and names of columns changed; the very same where there is nothing to change."""
    columns = {}
    for name in table.columns:
        new = {text: change(text) for text in _texts(table[name]) if change(text) != text}
        if new:
            columns[name] = table[name].map(lambda cell, new=new: new.get(cell, cell), na_action="ignore")
    changed = table.assign(**columns) if columns else table
    names = {name: change(name) for name in table.columns if change(name) != name}
    return changed.rename(columns=names) if names else changed


def _texts(column: "pd.Series") -> list[str]:
    """The different texts in a column; those of columns of numbers are none."""
    return [cell for cell in column.unique() if isinstance(cell, str)] if column.dtype.kind == "O" else []
