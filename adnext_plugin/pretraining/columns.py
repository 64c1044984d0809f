"""Columns of subjects.csv as objectives use them: numbers, NaN where one is unknown, and words, "" where one is."""

import numpy as np
import pandas as pd

from adnext_plugin.errors import SettingsError, nearest_names
from adnext_plugin.subjects import as_words


def require_known(rows: pd.DataFrame, column: str, known: np.ndarray, wanted: str, remedy: str) -> None:
    """Refuse a column in which nothing is known of anybody who is trained on.

    Args:
        rows: of those.
        column: of `subjects.csv`.
        known: (N,), whether anything is known of each; of no meaning where the column is not there.
        wanted: what should be in it, for the message.
        remedy: what to do without it.

    Raises:
        SettingsError: the column is not there, or holds nothing of use.
    """
    if column not in rows:
        raise SettingsError(
            f"subjects.csv has no column {column!r}{nearest_names(column, map(str, rows.columns))}; {remedy}"
        )
    if not known.any():
        shown = next((str(value) for value in rows[column] if str(value).strip()), "")
        found = f", but for example {shown!r}" if shown else ""
        raise SettingsError(
            f"column {column!r} of subjects.csv has no {wanted} for any of {len(rows)} scans to train on{found}; "
            f"{remedy}"
        )


def numbers_in(rows: pd.DataFrame, column: str) -> np.ndarray:
    """The column as (N,) float64, NaN where it is empty, no finite number, or not there at all."""
    if column not in rows:
        return np.full(len(rows), np.nan)
    found = pd.to_numeric(rows[column], errors="coerce").to_numpy(dtype=np.float64)
    return np.where(np.isfinite(found), found, np.nan)


def words_in(rows: pd.DataFrame, column: str) -> np.ndarray:
    """The column as (N,) texts, "" where it is empty or not there at all."""
    if column not in rows:
        return np.full(len(rows), "", dtype=object)
    return as_words(rows[column]).to_numpy(dtype=object)


def codes_in(rows: pd.DataFrame, column: str, words: tuple[str, ...]) -> np.ndarray:
    """The place of each word among `words`, (N,) float64, NaN where it is none of them."""
    places = {word: float(index) for index, word in enumerate(words)}
    return np.array([places.get(word, np.nan) for word in words_in(rows, column)], dtype=np.float64)
