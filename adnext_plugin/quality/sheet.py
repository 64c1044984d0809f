"""The quality report's files: a contact sheet that needs nothing beside itself, and a table."""

import base64
import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from adnext_plugin import html_pages
from adnext_plugin.csv_files import write_csv, written
from adnext_plugin.files import replacing
from adnext_plugin.paths import QUALITY_FILE
from adnext_plugin.quality.measurements import Measurements
from adnext_plugin.quality.suspicion import JOINT, kind_of
from adnext_plugin.subjects import ID_COLUMNS
from adnext_plugin.task import Task

EXCLUDE_COLUMNS = (*ID_COLUMNS, "reasons")  # of the list that the page saves


def write_report(
    table: pd.DataFrame, cases: Iterable[Measurements], subjects: pd.DataFrame, task: Task, folder: Path
) -> tuple[Path, Path]:
    """Write `quality.html` and `quality.csv`.

    Args:
        table: from `find_suspicious`; its order is that of the sheet.
        cases: for their pictures.
        subjects: content of `subjects.csv`, with all of these cases.
        task: of the dataset; its classes can be chosen from.
        folder: of the report, in that of the dataset; is made.

    Returns:
        Both files.
    """
    sheet, table_file = folder / "quality.html", folder / QUALITY_FILE
    write_csv(table, table_file)
    pictures = {case.case: case.planes for case in cases}
    people = subjects.set_index("case_id", drop=False)
    rows = [_row(row, people.loc[row["case_id"]], task, pictures) for row in table.to_dict("records")]
    environment = html_pages.templates("quality")
    script = html_pages.script(environment, "sheet.js.j2")
    page = environment.get_template("sheet.html.j2").stream(
        dataset=folder.parent.name,
        rows=rows,
        suspicious=int((table["suspicion"] > 0).sum()),
        classes=Counter(row["group"] for row in rows if row["group"]),
        kinds=Counter(kind for row in rows for kind in row["kinds"]),
        header=_csv_line(EXCLUDE_COLUMNS),
        # ticks are remembered for these cases, not for others of a dataset of the same name
        key=sha256("\n".join(sorted(row["case_id"] for row in rows)).encode()).hexdigest()[:16],
        script=script,
        digest=html_pages.digest(script),
    )
    with replacing(sheet) as temporary:
        page.dump(str(temporary), encoding="utf-8")
    return sheet, table_file


def _row(
    row: dict[Any, Any], person: pd.Series, task: Task, pictures: dict[str, tuple[bytes, bytes, bytes]]
) -> dict[str, Any]:
    """What the template shows of a case."""
    reasons = [part for part in row["reasons"].split(JOINT) if part]
    what = "within the brain's mask, fluid included" if row["has_mask"] else "all that is not background"
    return {
        **row,
        "reasons": reasons,
        "kinds": list(dict.fromkeys(map(kind_of, reasons))),
        "group": person[task.column] if task.classes else "",
        "planes": [base64.b64encode(picture).decode() for picture in pictures[row["case_id"]]],
        "volume": f"{row['brain_litres']:.2f} litres ({what})",
        "line": _csv_line([*(str(person[name]) for name in ID_COLUMNS), row["reasons"]]),
    }


def _csv_line(cells: Sequence[str]) -> str:
    """A row of the list, as `write_csv` would write it."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator="").writerow([written(cell) for cell in cells])
    return stream.getvalue()
