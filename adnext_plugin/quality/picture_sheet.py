"""Contact sheets with one picture of each case, the least alike first: of a co-registration, of regions."""

from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from adnext_plugin import html_pages
from adnext_plugin.files import replacing


def write_sheet(template: str, table: pd.DataFrame, pictures: Sequence[Path], path: Path, **words: Any) -> Path:
    """Write the page.

    Args:
        template: by name.
        table: a row for each picture, with `case_id`, `likeness` and whatever else the template shows of it.
        pictures: JPEG files, in the order of the rows.
        path: of the page.
        words: that the template needs besides, such as `dataset`, the name for the title.

    Returns:
        The page.
    """
    rows = [
        {**row, "picture": b64encode(picture.read_bytes()).decode()}
        for row, picture in zip(table.to_dict("records"), pictures, strict=True)
    ]
    rows.sort(key=lambda row: row["likeness"])
    page = html_pages.templates("quality").get_template(template).stream(rows=rows, **words)
    with replacing(path) as temporary:
        page.dump(str(temporary), encoding="utf-8")
    return path
