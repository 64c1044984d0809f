"""How well a network restores scans, beside guesses that need no learning, and what its scans look like."""

from collections.abc import Callable, Iterable
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


def errors_of_guesses(
    held_out: Steps,
    training: Steps,
    visible: VisibleVoxels,
    answers: Volumes = lambda batch: batch.images,
) -> dict[str, float]:
    """Mean squared errors, on masked voxels, of the mean training scan and of filling in from what is visible.

    Args:
        held_out: scans to guess.
        training: scans whose mean is a guess.
        visible: which voxels of the held-out scans are.
        answers: what is to be guessed, and seen where it is visible.
    """
    count, total = 0, torch.zeros((), dtype=torch.float64)
    for batch, _ in training:
        images = answers(batch).cpu()
        count, total = count + len(images), total + images.double().sum(0)
    mean_scan = (total / count).numpy()
    guesses: dict[str, list[float]] = {"mean_training_scan": [], "filled_in_from_visible": []}
    for batch, seeds in held_out:
        scans = zip(answers(batch).cpu(), visible(batch, seeds).cpu(), strict=True)
        for scan, seen in (tuple(one.numpy() for one in both) for both in scans):
            hidden = ~seen
            guesses["mean_training_scan"].append(np.mean((scan - mean_scan)[:, hidden] ** 2))
            filled = np.stack([fill_in(channel, seen) for channel in scan])
            guesses["filled_in_from_visible"].append(np.mean((scan - filled)[:, hidden] ** 2))
    return {name: float(np.mean(values)) for name, values in guesses.items()}


def draw(batches: Iterable[tuple[torch.Tensor, torch.Tensor, torch.Tensor]], folder: Path) -> None:
    """Draw scans, what is visible of them and what the network makes of that, into `folder`.

    Args:
        batches: scans (B, C, Z, Y, X), their visible voxels (B, Z, Y, X), and the scans as they were restored.
        folder: of the figure.
    """
    drawn: list[tuple[np.ndarray, ...]] = []
    for scans, visible, restored in batches:
        for scan in zip(scans, scans.masked_fill(~visible.unsqueeze(1), float("nan")), restored, strict=True):
            drawn.append(tuple(volume[0].float().cpu().numpy() for volume in scan))
    draw_reconstructions(drawn, folder / FIGURE)
