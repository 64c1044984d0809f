"""The quality report's files: a contact sheet that needs nothing beside itself, and a table."""

from base64 import b64encode
from collections.abc import Iterable
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader

from adnext_plugin.csv_files import write_csv
from adnext_plugin.files import replacing
from adnext_plugin.paths import QUALITY_FILE
from adnext_plugin.quality.measurements import Measurements


def write_report(table: pd.DataFrame, cases: Iterable[Measurements], dataset: str, folder: Path) -> tuple[Path, Path]:
    """Write `quality.html` and `quality.csv`.

    Args:
        table: from `find_suspicious`; its order is that of the sheet.
        cases: for their thumbnails.
        dataset: name, for the title.
        folder: is made.

    Returns:
        Both files.
    """
    sheet, csv = folder / "quality.html", folder / QUALITY_FILE
    write_csv(table, csv)
    thumbnails = {case.case: b64encode(case.thumbnail).decode() for case in cases}
    rows = [
        {
            **row,
            "reasons": [part for part in row["reasons"].split("; ") if part],
            "thumbnail": thumbnails[row["case_id"]],
        }
        for row in table.to_dict("records")
    ]
    environment = Environment(loader=PackageLoader("adnext_plugin", "quality"), autoescape=True)
    page = environment.get_template("sheet.html.j2").stream(
        dataset=dataset, rows=rows, suspicious=int((table["suspicion"] > 0).sum())
    )
    with replacing(sheet) as temporary:
        page.dump(str(temporary), encoding="utf-8")
    return sheet, csv
