"""What pre-training was worth, drawn from the results that pretraining_gain.py left.

    python benchmarks/pretraining_figure.py

Writes docs/images/pretraining_gain.png.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
from oasis_ad import RESULTS

IMAGE = Path(__file__).parents[1] / "docs" / "images" / "pretraining_gain.png"
TITLES = {"ad": "AD against normal", "young_old": "young against old", "sex": "sex"}
COLOURS = {"scratch": "tab:grey", "pretrained": "tab:blue"}


def main() -> None:
    """Draw every task there is a result of."""
    paths = [RESULTS / f"pretraining_gain_{task}_T.json" for task in TITLES]
    results = [json.loads(path.read_text()) for path in paths if path.is_file()]
    figure, axes = plt.subplots(1, len(results), figsize=(4.2 * len(results), 3.6), squeeze=False, layout="constrained")
    for axis, result in zip(axes[0], results, strict=True):
        _draw(axis, result)
    axes[0][0].set_ylabel("AUC, mean of folds")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside upper right", ncols=2)
    figure.savefig(IMAGE, dpi=110)


def _draw(axis: plt.Axes, result: dict) -> None:
    """A line per seed between its two arms, with 95 % intervals over subjects."""
    fractions = sorted({run["fraction"] for run in result["runs"]})
    seeds = sorted({run["seed"] for run in result["runs"]})
    for run in result["runs"]:
        place = fractions.index(run["fraction"]) + 0.12 * (seeds.index(run["seed"]) - (len(seeds) - 1) / 2)
        places = {"scratch": place - 0.2, "pretrained": place + 0.2}
        scores = run["auc_mean_of_folds"]
        axis.plot(list(places.values()), [scores[arm]["value"] for arm in places], color="lightgrey", zorder=0)
        for arm, x in places.items():
            score = scores[arm]
            errors = [[score["value"] - score["low"]], [score["high"] - score["value"]]]
            first = run is result["runs"][0]
            style = {"color": COLOURS[arm], "label": arm if first else None}
            axis.errorbar(x, score["value"], yerr=errors, fmt="o", markersize=4, linewidth=1, **style)
    axis.set_xticks(range(len(fractions)), [f"{fraction:.0%} of the\ntraining subjects" for fraction in fractions])
    axis.set_title(TITLES[result["task"]])


if __name__ == "__main__":
    main()
