"""Figures of the report, as SVG inside data URIs. Axes are chosen to be read at the width of a phone."""

import base64
import io
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay

from adnext_plugin.figure_text import AS_WRITTEN
from adnext_plugin.findings import Estimate, NetBenefit, ReliabilityBin

SIZE_INCHES = (5.2, 4.4)
COLOURS = ("#0b57a4", "#c25100", "#2e7d32", "#7b3fa0", "#795548")


@AS_WRITTEN
def draw_learning_curves(curves: Mapping[str, Mapping[str, Sequence[float]]], best: Sequence[int | None]) -> str:
    """Losses of every fold over its epochs.

    Args:
        curves: by fold: `train_losses` and `val_losses`.
        best: epoch that each fold chose, which is marked.
    """
    figure, axes = _figure()
    for (name, curve), epoch, colour in zip(curves.items(), best, _cycle(len(curves)), strict=True):
        epochs = np.arange(1, len(curve["val_losses"]) + 1)
        axes.plot(epochs, curve["train_losses"], color=colour, linestyle=":", linewidth=1)
        axes.plot(epochs, curve["val_losses"], color=colour, label=name)
        if epoch is not None and epoch < len(epochs):
            axes.plot(epoch + 1, curve["val_losses"][epoch], "o", color=colour)
    axes.set(xlabel="epoch", ylabel="loss (dotted: training)")
    axes.legend()
    return as_uri(figure)


@AS_WRITTEN
def draw_bands(
    grid: Sequence[float],
    bands: Mapping[str, Mapping[str, Sequence[float]]],
    labels: tuple[str, str],
    chance: Mapping[str, float] | None,
) -> str:
    """Curves with their bands.

    Args:
        grid: where on the x axis.
        bands: by name: `value`, `low` and `high` over the grid.
        labels: of the axes.
        chance: height of chance by name; None for the diagonal of a ROC figure.
    """
    figure, axes = _figure()
    for (name, band), colour in zip(bands.items(), _cycle(len(bands)), strict=True):
        axes.fill_between(grid, np.array(band["low"]), np.array(band["high"]), color=colour, alpha=0.18, linewidth=0)
        axes.plot(grid, band["value"], color=colour, label=name)
        if chance is not None:
            axes.axhline(chance[name], color=colour, linestyle=":", linewidth=1)
    if chance is None:
        axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    axes.set(xlabel=labels[0], ylabel=labels[1], xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="lower right" if chance is None else "lower left")
    return as_uri(figure)


@AS_WRITTEN
def draw_dots(probabilities: np.ndarray, is_positive: np.ndarray, folds: np.ndarray, classes: Sequence[str]) -> str:
    """Probabilities of the positive class, a column of dots for each class and fold.

    Args:
        probabilities: of subjects, (N,).
        is_positive: whether they are of the positive class.
        folds: that held them out, numbers.
        classes: names of the negative and the positive one.
    """
    figure, axes = _figure()
    columns = np.unique(folds)
    for truth, (name, colour, marker) in enumerate(zip(classes, COLOURS, "os", strict=False)):
        for place, fold in enumerate(columns):
            values = np.sort(probabilities[(is_positive == truth) & (folds == fold)])
            x = place + (truth - 0.5) * 0.4 + np.linspace(-0.12, 0.12, len(values))
            axes.plot(x, values, marker, color=colour, alpha=0.6, markersize=4, label=name if not place else None)
    axes.set(xticks=range(len(columns)), xticklabels=[str(fold) for fold in columns], ylim=(-0.02, 1.02))
    axes.set(xlabel="fold", ylabel=f"probability of {classes[1]}")
    axes.legend(loc="upper left")
    return as_uri(figure)


@AS_WRITTEN
def draw_confusion(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """Numbers of subjects by true and predicted class."""
    figure, axes = _figure()
    ConfusionMatrixDisplay(matrix, display_labels=classes).plot(ax=axes, cmap="Blues", colorbar=False)
    axes.set(xlabel="predicted", ylabel="true")
    return as_uri(figure)


@AS_WRITTEN
def draw_reliability(curves: Mapping[str, Sequence[ReliabilityBin]], positive: str) -> str:
    """Observed against predicted shares, with intervals, by name of the curve."""
    figure, axes = _figure()
    axes.plot([0, 1], [0, 1], color="grey", linestyle=":", linewidth=1)
    for (name, bins), colour, marker in zip(curves.items(), _cycle(len(curves)), "osv", strict=False):
        predicted = [point.mean_probability for point in bins]
        estimates = [point.observed for point in bins]
        observed = np.array([[one.value, one.low, one.high] for one in estimates], dtype=float)
        spread = np.abs(observed[:, 1:] - observed[:, :1]).T
        axes.errorbar(predicted, observed[:, 0], yerr=spread, color=colour, marker=marker, capsize=2, label=name)
    axes.set(xlabel=f"predicted probability of {positive}", ylabel=f"share that is {positive}")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    axes.legend()
    return as_uri(figure)


@AS_WRITTEN
def draw_decision_curve(points: Sequence[NetBenefit], positive: str) -> str:
    """Net benefit of acting on the network, on everybody and on nobody."""
    figure, axes = _figure()
    thresholds = [point.threshold for point in points]
    # NaN where there is no interval
    model = {key: np.array([getattr(point.model, key) for point in points], float) for key in ("value", "low", "high")}
    everybody = np.array([point.treat_all.value for point in points])
    axes.fill_between(thresholds, model["low"], model["high"], color=COLOURS[0], alpha=0.18, linewidth=0)
    axes.plot(thresholds, model["value"], color=COLOURS[0], label="network")
    axes.plot(thresholds, everybody, color=COLOURS[1], label="everybody")
    axes.axhline(0, color="grey", label="nobody")
    top = float(np.nanmax([*model["value"], *model["high"], *everybody]))
    axes.set(xlabel=f"risk of {positive} from which to act", ylabel="net benefit", ylim=(-0.25 * top - 0.02, 1.1 * top))
    axes.legend()
    return as_uri(figure)


@AS_WRITTEN
def draw_forest(rows: Sequence[tuple[str, Estimate]], name: str, reference: float | None) -> str:
    """Estimates with intervals, one below the other.

    Args:
        rows: label and estimate.
        name: of the score.
        reference: where to draw a line.
    """
    figure, axes = _figure(height_inches=1.0 + 0.34 * len(rows))
    places = np.arange(len(rows))[::-1]
    for place, (_, estimate) in zip(places, rows, strict=True):
        axes.plot(np.array([estimate.low, estimate.high], dtype=float), [place, place], color=COLOURS[0])
        axes.plot(np.array([estimate.value], dtype=float), [place], "s", color=COLOURS[0])
    if reference is not None:
        axes.axvline(reference, color="grey", linestyle=":", linewidth=1)
    axes.set_yticks(places, [label for label, _ in rows])
    axes.set(xlabel=name, ylim=(-0.6, len(rows) - 0.4))
    return as_uri(figure)


@AS_WRITTEN
def draw_values(targets: np.ndarray, values: np.ndarray, name: str) -> str:
    """Predicted against true numbers, a point per subject."""
    figure, axes = _figure()
    limits = (float(min(targets.min(), values.min())), float(max(targets.max(), values.max())))
    axes.plot(limits, limits, color="grey", linestyle=":", linewidth=1)
    axes.scatter(targets, values, s=12, color=COLOURS[0], alpha=0.6)
    axes.set(xlabel=f"true {name}", ylabel=f"predicted {name}")
    return as_uri(figure)


def new_figure(height_inches: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """An empty figure of the page's width, with axes side by side."""
    figure = Figure(figsize=(SIZE_INCHES[0], height_inches), layout="constrained")
    FigureCanvasSVG(figure)
    panels = list(figure.subplots(1, columns, squeeze=False)[0])
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    return figure, panels


def as_uri(figure: Figure) -> str:
    """The figure as a data URI."""
    buffer = io.BytesIO()
    # equal figures give equal files
    with matplotlib.rc_context({"svg.hashsalt": "adnext"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _figure(height_inches: float = SIZE_INCHES[1]) -> tuple[Figure, Axes]:
    figure, (axes,) = new_figure(height_inches)
    return figure, axes


def _cycle(count: int) -> list[str]:
    return [COLOURS[index % len(COLOURS)] for index in range(count)]
