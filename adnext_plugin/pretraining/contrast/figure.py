"""Who is near whom in an encoder's eyes, as a figure."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from adnext_plugin.figure_text import AS_WRITTEN
from adnext_plugin.files import replacing


@AS_WRITTEN
def draw_contrast(first_nd: np.ndarray, second_nd: np.ndarray, labels: Mapping[str, np.ndarray], path: Path) -> None:
    """Draw similarities of first and second views, scans in the order of the first label, and a map for each label.

    Args:
        first_nd, second_nd: projections of both views.
        labels: by column, (N,), NaN where unknown.
        path: PNG file.
    """
    shown = dict(labels) or {"scans": np.full(len(first_nd), np.nan)}
    figure = Figure(figsize=(4.2 * (1 + len(shown)), 4), layout="constrained")
    FigureCanvasAgg(figure)
    similarities, *maps = figure.subplots(1, 1 + len(shown))
    first, second = (rows / np.linalg.norm(rows, axis=1, keepdims=True).clip(1e-12) for rows in (first_nd, second_nd))
    order = np.argsort(next(iter(shown.values())), kind="stable")
    image = similarities.imshow((first @ second.T)[order][:, order], vmin=-1, vmax=1, cmap="coolwarm")
    figure.colorbar(image, ax=similarities, shrink=0.8)
    sorted_by = f", by {next(iter(labels))}" if labels else ""
    similarities.set(title="cosine of two views", xlabel=f"second view{sorted_by}", ylabel=f"first view{sorted_by}")
    centred = first - first.mean(axis=0)
    axes_dd = np.linalg.svd(centred, full_matrices=False)[2][:2]
    places = centred @ axes_dd.T
    places = np.pad(places, ((0, 0), (0, 2 - places.shape[1])))  # of one scan, or of one number a scan
    for axes, (column, values) in zip(maps, shown.items(), strict=True):
        unknown = np.isnan(values)
        axes.scatter(*places[unknown].T, s=14, color="lightgrey")
        points = axes.scatter(*places[~unknown].T, s=14, c=values[~unknown], cmap="viridis")
        if not unknown.all():
            figure.colorbar(points, ax=axes, shrink=0.8)
        axes.set(title=f"first views, {column}", xlabel="1st component", ylabel="2nd component")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)
