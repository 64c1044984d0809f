"""Atlases of a user's own in MNI152 space: a NIfTI file of labels, and a table of their names."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from adnext_plugin.csv_files import read_csv, require_numbers
from adnext_plugin.errors import SettingsError, TableError
from adnext_plugin.images import looked_up, read_volume, reorient_to_ras

REMEDY = "give a table with columns 'index' (or 'label', the atlas's numbers) and 'name'"


def masks_of_atlas(
    atlas: Path, labels: Path, affine: np.ndarray, shape_zyx: tuple[int, int, int]
) -> Iterator[tuple[str, np.ndarray]]:
    """Each region's name and mask (Z, Y, X) on a grid, by nearest neighbour; a mask may be empty.

    Args:
        atlas: NIfTI file of whole numbers. 0 is no region, whatever the table calls it.
        labels: CSV or TSV file with columns `index`, as BIDS atlases have it, or `label`, and `name`; other columns do
            not count. Rows of one name are one region.
        affine: of the grid, from voxels (x, y, z) to millimetres.
        shape_zyx: of the grid.

    Raises:
        ImageError: the atlas cannot be read.
        SettingsError: it has other values than whole numbers.
        PathsError, TableError: the table is missing, or is none.
    """
    table = _read_labels(labels)
    volume = reorient_to_ras(read_volume(atlas))
    if not np.array_equal(volume.volume_zyx, np.round(volume.volume_zyx)):
        raise SettingsError(f"{atlas} has values that are no whole numbers; give an atlas of labels, not of shares")
    labels_zyx = looked_up(volume.volume_zyx, np.linalg.inv(volume.affine) @ affine, shape_zyx, order=0)
    for name, rows in table.groupby("name", sort=False):
        wanted = rows["index"][rows["index"] != 0]
        if len(wanted):
            yield str(name), np.isin(labels_zyx, wanted)


def _read_labels(path: Path) -> pd.DataFrame:
    separator = "\t" if path.suffix.lower() == ".tsv" else ","
    table = read_csv(path, texts=["name"], needed=["name"], remedy=REMEDY, sep=separator)
    column = "label" if "label" in table and "index" not in table else "index"
    if column not in table:
        raise TableError(f"{path} has no column 'index'; {REMEDY}")
    require_numbers(table, [column], path, REMEDY)
    numbers = table[column].astype(float)
    if (numbers != numbers.round()).any() or numbers.duplicated().any():
        raise TableError(f"{path} has an index that is no whole number, or is there twice; {REMEDY}")
    return pd.DataFrame({"index": numbers.astype(int), "name": table["name"].str.strip()})
