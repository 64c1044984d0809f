"""Labels of scans, guessed from the labels of those that look most like them."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F

NEIGHBOURS = 5
COARSE_VOXELS = 8  # along an edge of the blocks that are averaged


def coarse_voxels(images_bczyx: torch.Tensor) -> torch.Tensor:
    """Means of blocks of 8³ voxels, (B, D), on the CPU: what a scan looks like without having learned anything."""
    edges = [min(COARSE_VOXELS, size) for size in images_bczyx.shape[2:]]
    means = F.avg_pool3d(images_bczyx.float(), edges).flatten(1).cpu()
    return means - means.mean(dim=1, keepdim=True)


def errors_of_guesses_by(
    features: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    known_n: torch.Tensor,
    answers_m: torch.Tensor,
    *,
    is_number: bool,
) -> dict[str, float]:
    """Errors of guesses by each kind of features, and of the one answer for all that needs none; see `guess_number`.

    Args:
        features: by name, of scans with labels and of those to guess of.
        known_n: labels.
        answers_m: what is right.
        is_number: else they are codes of words.
    """
    guess, same_for_all = (guess_number, "mean_of_training_scans") if is_number else (guess_word, "most_frequent")
    alone = torch.ones(len(known_n), 1), torch.ones(len(answers_m), 1)
    found = {name: guess(known, judged, known_n, answers_m) for name, (known, judged) in features.items()}
    return found | {same_for_all: guess(*alone, known_n, answers_m, neighbours=None)}


def guess_number(
    known_nd: torch.Tensor,
    judged_md: torch.Tensor,
    known_n: torch.Tensor,
    answers_m: torch.Tensor,
    neighbours: int | None = NEIGHBOURS,
) -> float:
    """Mean absolute error of the mean of the nearest scans' labels.

    Args:
        known_nd: features of scans with labels.
        judged_md: features of those to guess of.
        known_n: their labels; scans with NaN are left out.
        answers_m: what is right; NaN is left out.
        neighbours: how many of the nearest, by cosine, count; None: all.
    """
    labels = _of_nearest(known_nd, judged_md, known_n, answers_m, neighbours)
    return float((labels.mean(dim=1) - answers_m[~answers_m.isnan()]).abs().mean())


def guess_word(
    known_nd: torch.Tensor,
    judged_md: torch.Tensor,
    known_n: torch.Tensor,
    answers_m: torch.Tensor,
    neighbours: int | None = NEIGHBOURS,
) -> float:
    """Share of scans whose label is not the one that most of the nearest scans have; see `guess_number`."""
    labels = _of_nearest(known_nd, judged_md, known_n, answers_m, neighbours)
    return float((labels.mode(dim=1).values != answers_m[~answers_m.isnan()]).float().mean())


def _of_nearest(
    known_nd: torch.Tensor,
    judged_md: torch.Tensor,
    known_n: torch.Tensor,
    answers_m: torch.Tensor,
    neighbours: int | None,
) -> torch.Tensor:
    """Labels of the nearest scans, (M, neighbours)."""
    has_label = ~known_n.isnan()
    known, judged = F.normalize(known_nd[has_label], dim=1), F.normalize(judged_md[~answers_m.isnan()], dim=1)
    wanted = min(neighbours or len(known), len(known))
    nearest = (judged @ known.T).topk(wanted, dim=1).indices
    return known_n[has_label][nearest]
