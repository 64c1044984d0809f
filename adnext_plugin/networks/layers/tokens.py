"""The same memory seen as channels-last tokens, for linear layers and norms, or as a volume, for convolutions."""

import torch


def to_volume(tokens_bzyxc: torch.Tensor) -> torch.Tensor:
    """Tokens (B, Z, Y, X, C) as a volume (B, C, Z, Y, X)."""
    return tokens_bzyxc.permute(0, 4, 1, 2, 3)


def to_tokens(volume_bczyx: torch.Tensor) -> torch.Tensor:
    """Volume (B, C, Z, Y, X) as tokens (B, Z, Y, X, C)."""
    return volume_bczyx.permute(0, 2, 3, 4, 1)
