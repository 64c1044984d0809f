"""How well a network restores scans, beside guesses that need no learning, and what its scans look like."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from adnext_plugin.batch import Batch
from adnext_plugin.pretraining.fill_in import fill_in
from adnext_plugin.pretraining.objective import Seeds, Steps
from adnext_plugin.pretraining.reconstruction_figure import draw_reconstructions

FIGURE = "reconstructions.png"
Volumes = Callable[[Batch], torch.Tensor]  # (B, C, Z, Y, X) of a batch
VisibleVoxels = Callable[[Batch, Seeds], torch.Tensor]  # (B, Z, Y, X), True where one is visible
Restored = Callable[[Batch, Seeds], torch.Tensor]  # (B, C, Z, Y, X)


def errors_of_guesses(
    held_out: Steps,
    training: Steps,
    visible: VisibleVoxels,
    answers: Volumes = lambda batch: batch.images,
    shown: Volumes = lambda batch: batch.images,
) -> dict[str, float]:
    """Mean squared errors, on masked voxels, of the mean training scan and of filling in from what is visible.

    Args:
        held_out: scans to guess.
        training: scans whose mean is a guess.
        visible: which voxels of the held-out scans are.
        answers: what is to be guessed.
        shown: what is seen of it.
    """
    count, total = 0, torch.zeros((), dtype=torch.float64)
    for batch, _ in training:
        images = answers(batch).cpu()
        count, total = count + len(images), total + images.double().sum(0)
    mean_scan = (total / count).numpy()
    guesses: dict[str, list[float]] = {"mean_training_scan": [], "filled_in_from_visible": []}
    for batch, seeds in held_out:
        scans = zip(answers(batch).cpu(), shown(batch).cpu(), visible(batch, seeds).cpu(), strict=True)
        for scan, inputs, seen in (tuple(one.numpy() for one in three) for three in scans):
            hidden = ~seen
            guesses["mean_training_scan"].append(np.mean((scan - mean_scan)[:, hidden] ** 2))
            filled = np.stack([fill_in(channel, seen) for channel in inputs])
            guesses["filled_in_from_visible"].append(np.mean((scan - filled)[:, hidden] ** 2))
    return {name: float(np.mean(values)) for name, values in guesses.items()}


def draw(
    steps: Steps, folder: Path, visible: VisibleVoxels, restored: Restored, shown: Volumes = lambda batch: batch.images
) -> None:
    """Draw scans, what is visible of them and what the network makes of that, into `folder`."""
    drawn: list[tuple[np.ndarray, ...]] = []
    for batch, seeds in steps:
        images = shown(batch)
        seen = visible(batch, seeds).unsqueeze(1)
        for scan in zip(images, images.masked_fill(~seen, float("nan")), restored(batch, seeds), strict=True):
            drawn.append(tuple(volume[0].float().cpu().numpy() for volume in scan))
    draw_reconstructions(drawn, folder / FIGURE)
