"""The contact sheet of alignment and tissues: what failed first, then the least like the template."""

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader

from adnext_plugin.files import replacing


def write_sheet(table: pd.DataFrame, folder: Path, dataset: str, failed: Mapping[str, str]) -> Path:
    """Write `regions.html`.

    Args:
        table: a row per measured case, with `case_id`, `overlap`, `likeness`, `intracranial_ml` and `brain_share`.
        folder: holds `{case}.jpg`.
        dataset: name, for the title.
        failed: reasons by case id.
    """
    rows = [
        {**row, "picture": b64encode((folder / f"{row['case_id']}.jpg").read_bytes()).decode()}
        for row in table.sort_values("likeness").to_dict("records")
    ]
    environment = Environment(loader=PackageLoader("adnext_plugin", "quality"), autoescape=True)
    page = environment.get_template("regions.html.j2").stream(dataset=dataset, rows=rows, failed=failed)
    with replacing(folder / "regions.html") as temporary:
        page.dump(str(temporary), encoding="utf-8")
    return folder / "regions.html"
