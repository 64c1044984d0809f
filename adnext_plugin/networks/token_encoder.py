"""Encoders that cut a scan into patches and work on one token for each, some of which may be hidden from them."""

from typing import Protocol, runtime_checkable

import torch


@runtime_checkable
class TokenEncoder(Protocol):
    """What masked modelling needs of an encoder; an `nn.Module` besides.

    `patch_voxels` are what a token stands for at first and `cell_voxels` at the end, `token_width` and `width` its
    channels at first and at the end.
    """

    patch_voxels: tuple[int, int, int]
    cell_voxels: tuple[int, int, int]
    token_width: int
    width: int

    def patches(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        """Tokens (B, gz, gy, gx, token_width) of a scan, which do not know their positions yet."""
        ...

    def encode_grid(self, tokens_bzyxd: torch.Tensor) -> torch.Tensor:
        """What the encoder makes of such tokens, (B, cz, cy, cx, width)."""
        ...
