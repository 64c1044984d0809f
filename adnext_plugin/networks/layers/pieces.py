"""Tokens cut into pieces that stay in a processor's cache, for what is done with them in several passes."""

import torch

PIECE_BYTES = 1 << 21


def pieces_of(tokens_nc: torch.Tensor) -> list[slice]:
    """Where the pieces of (N, C) lie along its first axis."""
    rows = max(1, PIECE_BYTES // (tokens_nc.shape[1] * tokens_nc.element_size()))
    return [slice(start, start + rows) for start in range(0, len(tokens_nc), rows)]
