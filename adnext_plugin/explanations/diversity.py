"""How different the features of a layer are from one another: Figure 4 of AD-NeXt, exactly and without all pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from adnext_plugin.explanations.layers import Layers

Axis = Literal["channel", "token"]


@dataclass(frozen=True, kw_only=True)
class Diversity:
    """Of one layer and one scan: mean distance of all pairs, and how many rows were 0 everywhere and left out."""

    distance: float
    dead: int


def diversity(rows: torch.Tensor) -> Diversity:
    """Mean of (1 - cosine) / 2 over all pairs of different rows, (N, D).

    0 where all point the same way, 0.5 where they are orthogonal, 1 for a pair of opposed ones. With rows of length 1,
    the mean cosine of N rows is (|their sum|² - N) / (N (N - 1)), so that no pair has to be looked at. Fewer than two
    rows give NaN.

    Source: AD-NeXt, section on feature diversity. Rows of length 0, of which their code makes NaN, are left out.
    """
    rows = rows.double()
    lengths = rows.norm(dim=1)
    alive = lengths > 0
    count = int(alive.sum())
    dead = len(rows) - count
    if count < 2:
        return Diversity(distance=float("nan"), dead=dead)
    total = (rows[alive] / lengths[alive, None]).sum(dim=0)
    mean_cosine = (float(total @ total) - count) / (count * (count - 1))
    return Diversity(distance=(1 - mean_cosine) / 2, dead=dead)


def diversities(layers: Layers, image_bczyx: torch.Tensor, names: Sequence[str]) -> dict[tuple[str, Axis], Diversity]:
    """Of one image at layers: of channels, each a map over space, and of tokens, each a place's channels.

    Args:
        layers: of the network.
        image_bczyx: a batch of one.
        names: of layers.

    Raises:
        UnknownNameError, SettingsError: as `Layers.features`.
    """
    found: dict[tuple[str, Axis], Diversity] = {}
    for name, features_czyx in layers.features(image_bczyx, names).items():
        rows = features_czyx.flatten(1)
        found[name, "channel"] = diversity(rows)
        found[name, "token"] = diversity(rows.T)
    return found
