"""AD-NeXt written plainly from PyTorch's own modules: what the package's network is measured and tested against.

Tensors are (B, C, Z, Y, X) throughout, with permutes around layers that want channels last. Names of parameters are
those of `adnext_plugin.networks.families.adnext`, so that one state dict fits both.
"""

from collections.abc import Sequence

import torch
from torch import nn


class StockADNeXt(nn.Module):
    """The whole classifier; arguments as for `networks.families.adnext.build`, without residual dropping."""

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int],
        num_outputs: int = 2,
        kernel_size: int = 7,
        downsampling: str = "avg",
    ) -> None:
        super().__init__()
        self.encoder = nn.Module()
        self.encoder.stem = nn.Module()
        self.encoder.stem.conv = nn.Conv3d(1, widths[0], 4, stride=4)
        self.encoder.stem.norm = nn.LayerNorm(widths[0], eps=1e-6)
        self.encoder.stages = nn.ModuleList(
            nn.Sequential(*[_Block(width, kernel_size) for _ in range(depth)])
            for depth, width in zip(depths, widths, strict=True)
        )
        self.encoder.transitions = nn.ModuleList(
            _Transition(widths[stage], widths[stage + 1], downsampling) for stage in range(3)
        )
        self.head = nn.Module()
        self.head.seg_layers = nn.ModuleList([nn.LayerNorm(widths[-1], eps=1e-6), nn.Linear(widths[-1], num_outputs)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.head.seg_layers[0](self.encode(x).mean(dim=(2, 3, 4)))
        return self.head.seg_layers[1](x)

    def encode(self, x: torch.Tensor, visible: torch.Tensor | None = None) -> torch.Tensor:
        """Features of the last stage; with visible patches (B, gz, gy, gx), masked-dense."""
        x = _channels_last(self.encoder.stem.norm, self.encoder.stem.conv(x))
        for stage in range(4):
            if stage:
                x = self.encoder.transitions[stage - 1](x)
            keep = None
            if visible is not None:
                keep = nn.functional.interpolate(visible[:, None].to(x.dtype), x.shape[2:])
            for block in self.encoder.stages[stage]:
                x = block(x, keep)
        return x if keep is None else x * keep


class _Transition(nn.Module):
    def __init__(self, width_in: int, width_out: int, downsampling: str) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width_in, eps=1e-6)
        if downsampling == "strided":
            self.pool = nn.Conv3d(width_in, width_out, 2, stride=2)
            self.project = nn.Identity()
        else:
            self.pool = nn.AvgPool3d(2) if downsampling == "avg" else nn.MaxPool3d(2)
            self.project = nn.Linear(width_in, width_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return _channels_last(self.project, self.pool(_channels_last(self.norm, x)))


class _Block(nn.Module):
    def __init__(self, width: int, kernel_size: int) -> None:
        super().__init__()
        self.depthwise = nn.Module()
        self.depthwise.conv = nn.Conv3d(width, width, kernel_size, padding=kernel_size // 2, groups=width)
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Linear(width, 4 * width)
        self.activation = nn.Module()
        self.activation.norm = nn.Module()
        self.activation.norm.gamma = nn.Parameter(torch.zeros(4 * width))
        self.activation.norm.beta = nn.Parameter(torch.zeros(4 * width))
        self.project = nn.Linear(4 * width, width)

    def forward(self, x: torch.Tensor, keep: torch.Tensor | None = None) -> torch.Tensor:
        y = self.depthwise.conv(x if keep is None else x * keep).permute(0, 2, 3, 4, 1)
        y = nn.functional.gelu(self.expand(self.norm(y)))
        counted = y if keep is None else y * keep.permute(0, 2, 3, 4, 1)
        norm = torch.linalg.vector_norm(counted, dim=(1, 2, 3), keepdim=True)
        relative = norm / (norm.mean(dim=-1, keepdim=True) + 1e-6)
        y = self.activation.norm.gamma * (y * relative) + self.activation.norm.beta + y
        return x + self.project(y).permute(0, 4, 1, 2, 3)


def _channels_last(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return layer(x.permute(0, 2, 3, 4, 1)).permute(0, 4, 1, 2, 3)
