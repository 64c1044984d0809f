"""Figures of a cross-validation, as PNG files."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from sklearn.metrics import ConfusionMatrixDisplay, PredictionErrorDisplay, RocCurveDisplay

from adnext_plugin.figure_text import AS_WRITTEN
from adnext_plugin.files import replacing

DOTS_PER_INCH = 120


@AS_WRITTEN
def draw_roc(
    targets: np.ndarray, probabilities: np.ndarray, folds: np.ndarray, classes: tuple[str, ...], title: str, path: Path
) -> None:
    """ROC curves: for two classes one per fold and the pooled one, for more the pooled one-vs-rest of each class.

    Args:
        targets: class indices, (N,).
        probabilities: (N, classes).
        folds: fold of each subject, (N,).
        classes: names.
        title: above the figure.
        path: PNG file.
    """
    figure, axes = _figure(title)
    together = "all folds pooled" if len(np.unique(folds)) > 1 else "held-out subjects"
    if len(classes) == 2:
        for fold in np.unique(folds):
            rows = folds == fold
            if len(np.unique(targets[rows])) == 2 and not rows.all():
                _roc(axes, targets[rows] == 1, probabilities[rows, 1], f"fold {fold}", linewidth=1, alpha=0.5)
        _roc(axes, targets == 1, probabilities[:, 1], together, linewidth=2.5, color="black")
    else:
        for index, name in enumerate(classes):
            _roc(axes, targets == index, probabilities[:, index], f"{name} against the rest, pooled", linewidth=2)
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey", label="chance")
    axes.set(xlabel="1 - specificity", ylabel="sensitivity")
    axes.legend(loc="lower right", fontsize=8)
    _save(figure, path)


@AS_WRITTEN
def draw_confusion(targets: np.ndarray, called: np.ndarray, classes: tuple[str, ...], title: str, path: Path) -> None:
    """Confusion matrix of all held-out subjects, in numbers of subjects."""
    figure, axes = _figure(title)
    ConfusionMatrixDisplay.from_predictions(
        targets,
        called,
        labels=range(len(classes)),
        display_labels=classes,
        cmap="Blues",
        colorbar=False,
        ax=axes,
    )
    axes.set(xlabel="predicted", ylabel="true")
    _save(figure, path)


@AS_WRITTEN
def draw_values(targets: np.ndarray, values: np.ndarray, name: str, title: str, path: Path) -> None:
    """Predicted against true numbers of all held-out subjects.

    Args:
        targets, values: (N,), in the target's unit.
        name: of the target.
        title: above the figure.
        path: PNG file.
    """
    figure, axes = _figure(title)
    PredictionErrorDisplay.from_predictions(targets, values, kind="actual_vs_predicted", subsample=None, ax=axes)
    axes.set(xlabel=f"true {name}", ylabel=f"predicted {name}")
    _save(figure, path)


def _figure(title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set_title(title, fontsize=9)
    return figure, axes


def _roc(axes: Axes, is_positive: np.ndarray, scores: np.ndarray, name: str, **style) -> None:
    RocCurveDisplay.from_predictions(is_positive, scores, name=name, ax=axes, curve_kwargs=style)


def _save(figure: Figure, path: Path) -> None:
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=DOTS_PER_INCH)
