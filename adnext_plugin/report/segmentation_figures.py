"""Figures of a segmentation's report: Dice of all cases, and slices of one with outlines."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from adnext_plugin.figure_text import AS_WRITTEN
from adnext_plugin.report.page_figures import COLOURS, as_uri, new_figure

MARGIN_VOXELS = 12  # around the structures
DARK, BRIGHT = 1, 99  # percentiles of the image that are black and white


@AS_WRITTEN
def draw_dice(dice: Mapping[str, np.ndarray]) -> str:
    """A point per case and a box per class, (N,) by the class's name."""
    figure, (axes,) = new_figure(height_inches=1.2 + 0.7 * len(dice))
    places = np.arange(len(dice))[::-1]
    generator = np.random.default_rng(0)
    known = [values for values in dice.values() if len(values)]
    shown = [place for place, values in zip(places, dice.values(), strict=True) if len(values)]
    axes.boxplot(known, positions=shown, orientation="horizontal", widths=0.5, showfliers=False)
    for place, values in zip(places, dice.values(), strict=True):
        height = place + generator.uniform(-0.18, 0.18, len(values))
        axes.plot(values, height, ".", color=COLOURS[0], alpha=0.4, markersize=4)
    axes.set_yticks(places, list(dice))
    axes.set(xlabel="Dice", ylim=(-0.6, len(dice) - 0.4))
    return as_uri(figure)


@AS_WRITTEN
def draw_case(
    image_zyx: np.ndarray,
    truth_zyx: np.ndarray,
    called_zyx: np.ndarray,
    spacing_mm: tuple[float, float, float],
    labels: Sequence[int],
) -> str:
    """A slice across every axis, where most of the structures is, with outlines: solid the truth, dashed the call.

    Args:
        image_zyx, truth_zyx, called_zyx: (Z, Y, X), of the same size.
        spacing_mm: of voxels, in that order.
        labels: whose outlines are drawn, each in a colour.
    """
    structures = np.isin(truth_zyx, labels) | np.isin(called_zyx, labels)
    box = _box(structures)
    image, truth, called = (volume[box] for volume in (image_zyx, truth_zyx, called_zyx))
    where = np.isin(truth, labels)
    where = where if where.any() else np.isin(called, labels)
    dark, bright = np.percentile(image, [DARK, BRIGHT])
    figure, panels = new_figure(height_inches=2.2, columns=3)
    for axis, axes in enumerate(panels):
        others = tuple(other for other in range(3) if other != axis)
        index = int(where.sum(axis=others).argmax())
        high, wide = (spacing_mm[other] for other in others)
        axes.imshow(
            image.take(index, axis), cmap="gray", vmin=dark, vmax=bright, aspect=high / wide, interpolation="nearest"
        )
        for volume, style in ((truth, "solid"), (called, "dashed")):
            _outline(axes, volume.take(index, axis), labels, style)
        axes.set_axis_off()
    return as_uri(figure)


def _box(structures_zyx: np.ndarray) -> tuple[slice, ...]:
    """Where the structures are, and a margin; the whole where there are none."""
    found = np.argwhere(structures_zyx)
    if not len(found):
        return (slice(None),) * structures_zyx.ndim
    low, high = np.maximum(found.min(0) - MARGIN_VOXELS, 0), found.max(0) + MARGIN_VOXELS + 1
    return tuple(slice(int(first), int(last)) for first, last in zip(low, high, strict=True))


def _outline(axes: Axes, labels_2d: np.ndarray, labels: Sequence[int], style: str) -> None:
    for number, label in enumerate(labels):
        mask = labels_2d == label
        if mask.any() and min(mask.shape) > 1:
            # a rim of nothing closes outlines at the border
            padded = np.pad(mask.astype(float), 1)
            rows, columns = np.arange(-1, mask.shape[0] + 1), np.arange(-1, mask.shape[1] + 1)
            colour = COLOURS[number % len(COLOURS)]
            axes.contour(columns, rows, padded, levels=[0.5], colors=[colour], linestyles=style, linewidths=1.1)
