"""The encoder of SwinUNETR as a classifier: MONAI's Swin transformer, with the mean over space of its deepest level.

Its five levels are normalised as they are for SwinUNETR's decoder.

Source: Hatamizadeh et al. 2022 and Tang et al. 2022 (SwinUNETR); of feature size 48, as in AMAES (Munk et al. 2024).
"""

from collections.abc import Sequence

import torch
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import nn

from adnext_plugin.networks.classifier import Classifier, require_input_size

WIDTH, WINDOW = 48, 7
LEVELS = 5
COARSEST = 2**LEVELS


class SwinUNETREncoder(SwinTransformer):
    """Scan (B, C, Z, Y, X) to features (B, 768), or to its levels."""

    def __init__(self, in_channels: int) -> None:
        super().__init__(
            in_chans=in_channels,
            embed_dim=WIDTH,
            window_size=(WINDOW,) * 3,
            patch_size=(2, 2, 2),
            depths=(2, 2, 2, 2),
            num_heads=(3, 6, 12, 24),
            spatial_dims=3,
        )
        self.level_widths = tuple(WIDTH * 2**level for level in range(LEVELS))
        self.level_strides = tuple(2 ** (level + 1) for level in range(LEVELS))

    def levels(self, x_bczyx: torch.Tensor) -> list[torch.Tensor]:
        """Features (B, C, Z, Y, X) of every level, the finest first."""
        return super().forward(x_bczyx, normalize=True)

    def forward(self, x: torch.Tensor, normalize: bool = True) -> torch.Tensor:
        return super().forward(x, normalize)[-1].mean(dim=(2, 3, 4))


def swin_unetr_48(in_channels: int, num_outputs: int, input_size_voxels: Sequence[int] = (96, 96, 96)) -> Classifier:
    """Build it with fresh weights; its encoder has 8,062,002 parameters with one channel.

    Args:
        in_channels: modalities of a scan.
        num_outputs: logits.
        input_size_voxels: (Z, Y, X) it will be fed, each a multiple of 32.

    Raises:
        SettingsError: the input is too small, or cannot be halved so often.
    """
    require_input_size("swin_unetr_48", input_size_voxels, smallest=COARSEST, multiple=COARSEST)
    # numbers are needed even where tensors are made without data, under torch.device("meta")
    with torch.device("cpu"):
        encoder = SwinUNETREncoder(in_channels)
    encoder.to(torch.get_default_device())
    return Classifier(encoder, nn.Linear(WIDTH * 2 ** (LEVELS - 1), num_outputs))
