"""Contrast that knows labels: two views of a scan attract each other, and so do scans of people alike in age or sex.

Of N scans there are two views each, whose projections Z (2N, D), brought to length 1, have similarities S = Z Zᵀ / τ.
Each view says by a softmax over all others, whose logarithm is p (2N, 2N), which of them it takes for its like. Weights
w say which of them are: with a label y, w = exp(-(yᵢ - yⱼ)² / 2σ²), and 1 between the two views of a scan. Three forms:

    intended   the weights of a row are divided by their sum; the loss is the mean over 2N rows of -Σ w p
    released   as the authors' code has it: divided by the sum of the column, and the mean is over N, not 2N
    nidl       the first views among the second views only, N × N; rows as in `intended`

With σ → 0, or without labels, `intended` is NT-Xent, the loss of SimCLR.

Sources: Dufumier et al. 2021, MICCAI (y-aware contrast) and its code; nidl (2026); Khosla et al. 2020, NeurIPS (equal
categories attract each other); Chen et al. 2020, ICML (SimCLR).
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F

Form = Literal["intended", "released", "nidl"]
NEVER = -1e8  # similarity of a view to itself, whose weight is 0


def alike(numbers_nk: torch.Tensor, sigmas: Sequence[float], categories_nk: torch.Tensor) -> torch.Tensor:
    """How alike people are, (N, N) from 0 to 1: the product over all columns.

    Args:
        numbers_nk: labels with a distance, such as the age.
        sigmas: for each of them, the standard deviation of the Gaussian.
        categories_nk: labels that are equal or not, such as the sex, as numbers.

    Returns:
        1 for a scan and itself. One of whose labels any is NaN is like itself alone.
    """
    weights = torch.ones(len(numbers_nk), len(numbers_nk), dtype=numbers_nk.dtype, device=numbers_nk.device)
    if not sigmas and not categories_nk.shape[1]:
        return torch.eye(len(weights), dtype=weights.dtype, device=weights.device)
    for values, sigma in zip(numbers_nk.unbind(1), sigmas, strict=True):
        weights = weights * torch.exp(-(values[:, None] - values).square() / (2 * sigma**2))
    for values in categories_nk.unbind(1):
        weights = weights * (values[:, None] == values)
    is_known = ~torch.cat([numbers_nk, categories_nk], dim=1).isnan().any(dim=1)
    weights = torch.where(is_known[:, None] & is_known, weights, 0)
    return weights.fill_diagonal_(1)


def losses(
    first_nd: torch.Tensor, second_nd: torch.Tensor, weights_nn: torch.Tensor, temperature: float, form: Form
) -> torch.Tensor:
    """Loss of each of N scans, (N,), whose mean is the form's loss.

    Args:
        first_nd, second_nd: projections of their first and second views.
        weights_nn: see `alike`.
        temperature: τ.
        form: see above.
    """
    first_nd, second_nd = F.normalize(first_nd, dim=1), F.normalize(second_nd, dim=1)
    if form == "nidl":
        told = F.log_softmax(first_nd @ second_nd.T / temperature, dim=1)
        return -(weights_nn / weights_nn.sum(dim=1, keepdim=True) * told).sum(dim=1)
    both = torch.cat([first_nd, second_nd])
    itself = torch.eye(len(both), dtype=torch.bool, device=both.device)
    told = F.log_softmax((both @ both.T / temperature).masked_fill(itself, NEVER), dim=1)
    weights = weights_nn.repeat(2, 2).masked_fill(itself, 0)
    # the matrix is symmetric: to divide by the sums of rows along the wrong axis is to divide by those of columns
    weights = weights / weights.sum(dim=1, keepdim=form == "intended")
    of_view_and_scan = -(weights * told).sum(dim=1).view(2, len(first_nd))
    return of_view_and_scan.mean(dim=0) if form == "intended" else of_view_and_scan.sum(dim=0)
