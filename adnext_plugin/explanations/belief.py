"""Whether to believe a map: does it depend on what was learned, and on the voxels that the answer depends on?

A map that stays as it is when weights are dealt out anew shows the scan, not the network (Adebayo et al. 2018). Voxels
that a map ranks first should, taken out of the image, change the score faster than any others (Petsiuk et al. 2018).
"""

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from scipy import ndimage
from scipy.stats import spearmanr
from torch import nn

from adnext_plugin.explanations.fill import background, brain_of
from adnext_plugin.explanations.method import ExplainedNetwork
from adnext_plugin.networks.with_covariates import network_of_images

Part = Literal["head", "all"]  # of a network: its last linear layers, or everything
PARTS: tuple[Part, ...] = ("head", "all")
SHARES = np.linspace(0, 1, 11)  # of the brain that is taken out, or put in
COARSE_VOXELS = 8  # random maps are as smooth as if drawn on a grid of these


def with_weights_dealt_anew(network: nn.Module, part: Part, seed: int = 0) -> nn.Module:
    """A copy of a network in which the values of each tensor of weights are shuffled.

    Their distribution stays as it was learned, and what they say is lost.

    Args:
        network: stays as it is.
        part: its last linear layers, or everything.
        seed: of the shuffling.
    """
    changed = copy.deepcopy(network)
    inner = network_of_images(changed)
    of = inner if part == "all" else getattr(inner, "head", None) or _last_linear(inner)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in of.parameters():
            order = torch.randperm(parameter.numel(), generator=generator).to(parameter.device)
            parameter.copy_(parameter.flatten()[order].view(parameter.shape))
    return changed


def rank_correlation(first_zyx: np.ndarray, second_zyx: np.ndarray, brain_zyx: np.ndarray) -> float:
    """Spearman's over the voxels of the brain; 0 where one map is the same everywhere and so ranks nothing."""
    first, second = first_zyx[brain_zyx], second_zyx[brain_zyx]
    if first.size < 2 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(spearmanr(first, second).statistic)


def agreement(maps: Sequence[np.ndarray], brain_zyx: np.ndarray) -> float:
    """Mean rank correlation over all pairs of at least two maps."""
    pairs = [(first, second) for index, first in enumerate(maps) for second in maps[index + 1 :]]
    return float(np.mean([rank_correlation(*pair, brain_zyx) for pair in pairs]))


@torch.no_grad()
def deletion_and_insertion(
    network: ExplainedNetwork, image_czyx: np.ndarray, map_zyx: np.ndarray, target: int, batch_size: int = 4
) -> tuple[float, float]:
    """Mean score while the brain is taken out, the voxels first that the map ranks first; and while it is put in so.

    Taken out means set to the background. For a class the score is its probability, without calibration; for a
    quantity the network's output. A good map has a small first and a large second number.

    Args:
        network: to be asked.
        image_czyx: as the network takes it.
        map_zyx: importance.
        target: index of the output.
        batch_size: images that go through the network at once.
    """
    brain = brain_of(image_czyx)
    empty = np.broadcast_to(background(image_czyx), image_czyx.shape)
    order = np.argsort(-map_zyx[brain], kind="stable")
    ranks = np.empty(order.size, dtype=np.int64)
    ranks[order] = np.arange(order.size)
    rank_zyx = np.full(brain.shape, order.size, dtype=np.int64)
    rank_zyx[brain] = ranks
    images = []
    for share in SHARES:
        is_first = rank_zyx < round(share * order.size)
        images += [np.where(is_first, empty, image_czyx), np.where(is_first, image_czyx, empty)]
    scores: list[float] = []
    for start in range(0, len(images), batch_size):
        batch = torch.cat([network.tensor(image) for image in images[start : start + batch_size]])
        found = network.scores(batch, target)
        scores += (found.sigmoid() if network.task.kind == "classification" else found).cpu().tolist()
    return _area(scores[::2]), _area(scores[1::2])


def random_map(shape: Sequence[int], seed: int) -> np.ndarray:
    """A smooth map (Z, Y, X) of nothing, to compare with."""
    generator = np.random.default_rng(seed)
    coarse = generator.normal(size=[max(2, round(size / COARSE_VOXELS)) for size in shape])
    steps = [np.linspace(0, have - 1, want) for have, want in zip(coarse.shape, shape, strict=True)]
    return ndimage.map_coordinates(coarse, np.meshgrid(*steps, indexing="ij"), order=1)


def _area(scores: Sequence[float]) -> float:
    """Under the curve over the shares, by trapezoids."""
    steps = zip(pairwise(SHARES), pairwise(scores), strict=True)
    return float(sum((high - low) * (first + second) / 2 for (low, high), (first, second) in steps))


def _last_linear(network: nn.Module) -> nn.Module:
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    return linear[-1] if linear else network
