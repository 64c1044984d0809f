"""The contact sheet of a co-registration: both images of a case in the fields of a chessboard, least alike first."""

import io
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader
from PIL import Image
from scipy.ndimage import center_of_mass

from adnext_plugin.channel_files import on_grid_of
from adnext_plugin.files import replacing
from adnext_plugin.images import read_volume, reorient_to_ras

EDGE_PIXELS = 200
FIELDS = 8  # of the chessboard, along the longer side


@dataclass(frozen=True, kw_only=True)
class Shown:
    """The first image of a case, and one that was moved to it."""

    first: Path
    moved: Path


def write_sheet(table: pd.DataFrame, shown: Sequence[Shown], path: Path, dataset: str) -> Path:
    """Write the page.

    Args:
        table: a row for each moved image, with `case_id`, `channel` and the fields of `Move`.
        shown: the images, in the order of the rows.
        path: of the page.
        dataset: name, for the title.
    """
    rows = [
        {**row, "picture": b64encode(chessboard(images)).decode()}
        for row, images in zip(table.to_dict("records"), shown, strict=True)
    ]
    rows.sort(key=lambda row: row["likeness"])
    environment = Environment(loader=PackageLoader("adnext_plugin", "quality"), autoescape=True)
    page = environment.get_template("coregistration.html.j2").stream(dataset=dataset, rows=rows)
    with replacing(path) as temporary:
        page.dump(str(temporary), encoding="utf-8")
    return path


def chessboard(images: Shown) -> bytes:
    """A JPEG file: axial, coronal and sagittal plane, patient's left on the left; fields of both images in turn."""
    first = read_volume(images.first)
    moved = on_grid_of(first, read_volume(images.moved, may_be_empty=True))
    assert moved is not None  # it was written on that grid
    pair = [reorient_to_ras(one) for one in (first, moved)]
    volumes = [_grey(one.volume_zyx) for one in pair]
    centre = [int(middle) for middle in center_of_mass(volumes[0])]
    picture = Image.new("RGB", (EDGE_PIXELS * 3, EDGE_PIXELS))
    for axis in range(3):
        rows = [np.take(volume, centre[axis], axis=axis)[::-1] for volume in volumes]
        height, width = rows[0].shape
        field = max(1, max(height, width) // FIELDS)
        board = (np.arange(height)[:, None] // field + np.arange(width)[None] // field) % 2
        plane = Image.fromarray(np.where(board == 0, *rows).astype(np.uint8))
        rows_mm, columns_mm = np.multiply((height, width), np.delete(pair[0].spacing_mm, axis))
        scale = EDGE_PIXELS / max(rows_mm, columns_mm)
        plane = plane.resize((max(1, round(columns_mm * scale)), max(1, round(rows_mm * scale))))
        left, top = (EDGE_PIXELS - plane.width) // 2, (EDGE_PIXELS - plane.height) // 2
        picture.paste(plane.convert("RGB"), (EDGE_PIXELS * axis + left, top))
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=75)
    return stream.getvalue()


def _grey(volume_zyx: np.ndarray) -> np.ndarray:
    low, high = np.percentile(volume_zyx, (1, 99.5))
    return np.clip((volume_zyx - low) / max(high - low, 1e-6), 0, 1) * 255
