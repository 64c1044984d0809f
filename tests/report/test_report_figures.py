"""Figures show the names they are given, whatever is in them."""

from pathlib import Path

import numpy as np
import pytest

from adnext_plugin.findings import Estimate
from adnext_plugin.report import figures, page_figures

NAMES = (r"$\alpha$x$", r"a_{b}^c \frac", "<b>&")


@pytest.mark.parametrize("classes", [NAMES[:2], NAMES])
def test_names_with_dollars_and_backslashes_are_text(classes: tuple[str, ...], tmp_path: Path) -> None:
    count = len(classes)
    targets = np.arange(8 * count) % count
    probabilities = np.random.default_rng(0).dirichlet(np.ones(count), len(targets))
    title = "\n".join(NAMES)
    figures.draw_roc(targets, probabilities, np.arange(len(targets)) // count % 2, classes, title, tmp_path / "a.png")
    figures.draw_confusion(targets, probabilities.argmax(axis=1), classes, title, tmp_path / "b.png")
    figures.draw_values(targets * 1.0, targets + 1.0, NAMES[0], title, tmp_path / "c.png")
    assert all((tmp_path / name).stat().st_size > 1000 for name in ("a.png", "b.png", "c.png"))
    confusion = np.eye(count, dtype=int)
    for uri in (
        page_figures.draw_confusion(confusion, classes),
        page_figures.draw_values(targets * 1.0, targets + 1.0, NAMES[0]),
        page_figures.draw_forest([(name, Estimate(value=0.5, low=0.4, high=0.6)) for name in classes], NAMES[0], 0.5),
    ):
        assert uri.startswith("data:image/svg+xml;base64,")
