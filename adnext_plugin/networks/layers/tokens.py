"""The same memory seen as channels-last tokens, for linear layers and norms, or as a volume, for convolutions."""

import torch


def to_volume(tokens_bzyxc: torch.Tensor) -> torch.Tensor:
    """Tokens (B, Z, Y, X, C) as a volume (B, C, Z, Y, X)."""
    return tokens_bzyxc.permute(0, 4, 1, 2, 3)


def to_tokens(volume_bczyx: torch.Tensor) -> torch.Tensor:
    """Volume (B, C, Z, Y, X) as tokens (B, Z, Y, X, C)."""
    return volume_bczyx.permute(0, 2, 3, 4, 1)


def mean_of_pairs(tokens_bzyxc: torch.Tensor) -> torch.Tensor:
    """Average pooling of 2³ tokens along even axes. PyTorch's has no kernel for channels-last memory on GPUs."""
    batch, z, y, x, channels = tokens_bzyxc.shape
    return tokens_bzyxc.reshape(batch, z // 2, 2, y // 2, 2, x // 2, 2, channels).mean(dim=(2, 4, 6))
