"""Tokens cut into samples, and into pieces that stay in a processor's cache, for what takes several passes."""

import torch

PIECE_BYTES = 1 << 21


def pieces_of(tokens_nc: torch.Tensor) -> list[slice]:
    """Where the pieces of (N, C) lie along its first axis."""
    rows = max(1, PIECE_BYTES // (tokens_nc.shape[1] * tokens_nc.element_size()))
    return [slice(start, start + rows) for start in range(0, len(tokens_nc), rows)]


def samples_of(tokens: torch.Tensor, sizes: tuple[int, ...]) -> list[torch.Tensor]:
    """Each sample's tokens, (tokens, C), of (N, Z, Y, X, C); `sizes`: how many of the N each sample has."""
    return [sample.view(-1, tokens.shape[-1]) for sample in tokens.split(sizes)]
