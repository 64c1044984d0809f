"""What a network answers beside what is right, as a figure."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from adnext_plugin.figure_text import AS_WRITTEN
from adnext_plugin.files import replacing


@AS_WRITTEN
def draw_answers(columns: Iterable[tuple[str, np.ndarray, np.ndarray]], path: Path) -> None:
    """Draw a panel for each column: answered against right numbers, or the probabilities given to right words.

    Args:
        columns: name, what is right (N,), NaN where unknown, and answers: numbers (N,), or probabilities (N, words).
        path: PNG file.
    """
    shown = list(columns)
    figure = Figure(figsize=(4 * len(shown), 4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (name, right, answers) in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        known = ~np.isnan(right)
        if answers.ndim == 1:
            axes.scatter(right[known], answers[known], s=14)
            if known.any():
                ends = [right[known].min(), right[known].max()]
                axes.plot(ends, ends, color="grey", linewidth=1)
            axes.set(title=name, xlabel="right", ylabel="answered")
        else:
            given = answers[known, right[known].astype(int)]
            axes.hist(given, bins=np.linspace(0, 1, 21))
            axes.set(title=name, xlabel="probability given to the right word", ylabel="scans")
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=100)
