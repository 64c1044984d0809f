"""The wide and shallow network of Liu et al. and its variant from the Politecnico di Milano.

Four blocks of convolution, norm, ReLU and max pooling, then three linear layers. In Liu's code two pools bear one name,
so that the last pool (5, stride 2) takes the third's place and the fourth block has none: at 96³, 5³ voxels are left
before the linear layers. The variant has all four pools, as the paper draws them, one voxel left, and ReLUs between the
linear layers. Reproducing either therefore means two different networks.

Source: Liu et al. 2022 (width factor 8; https://doi.org/10.1038/s41598-022-20674-x); Cozzoli, Crippa and Taddei 2025.
Instance norm comes without learned scale and shift.
"""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import nn

from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.classifier import in_float32

Norm = Literal["instance", "batch"]

AGE_STEP_YEARS = 0.5
OLDEST_YEARS = 119.5
AGE_WIDTH = 512
HIDDEN_WIDTHS = (1024, 512)


class Stage(NamedTuple):
    """A block: convolution with norm and ReLU, and the pooling after it (None: none), of stride 2."""

    width: int
    kernel: int
    dilation: int
    padding: int
    pool: int | None

    def sizes_after(self, size: int) -> tuple[int, int]:
        """Voxels along an axis after the convolution, and after the pooling; not positive where they do not fit."""
        convolved = size + 2 * self.padding - self.dilation * (self.kernel - 1)
        return convolved, convolved if self.pool is None else (convolved - self.pool) // 2 + 1


LIU_STAGES = (
    Stage(32, kernel=1, dilation=1, padding=0, pool=3),
    Stage(256, kernel=3, dilation=2, padding=0, pool=3),
    Stage(512, kernel=5, dilation=2, padding=2, pool=5),
    Stage(512, kernel=3, dilation=2, padding=1, pool=None),
)
POLIMI_STAGES = (*LIU_STAGES[:2], LIU_STAGES[2]._replace(pool=3), LIU_STAGES[3]._replace(pool=5))


class AgeEncoding(nn.Module):
    """Ages in years, (B,), to features (B, 1024): sines and cosines of the half-year, then two linear layers.

    Source: Liu et al. 2022. The table is that of Vaswani et al. 2017, over half-years from 0 to 119.5 years.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        half_years = torch.arange(OLDEST_YEARS / AGE_STEP_YEARS + 1)[:, None]
        angles = half_years / 10_000 ** (torch.arange(0, AGE_WIDTH, 2) / AGE_WIDTH)
        table = torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(1)
        self.table: torch.Tensor
        self.register_buffer("table", table, persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(AGE_WIDTH, AGE_WIDTH), nn.LayerNorm(AGE_WIDTH), nn.Linear(AGE_WIDTH, width)
        )

    def forward(self, age_years: torch.Tensor) -> torch.Tensor:
        row = (age_years / AGE_STEP_YEARS).round().long().clamp(0, len(self.table) - 1)
        return self.layers(self.table[row])


class LiuCNN(nn.Module):
    """Scan (B, C, Z, Y, X) to logits (B, outputs); with an age branch also takes ages in years, (B, 1)."""

    key_to_encoder = "encoder"  # the convolutions, which do not depend on the input's size

    def __init__(self, encoder: nn.Sequential, features: int, num_outputs: int, *, relu: bool, age: bool) -> None:
        super().__init__()
        first, second = HIDDEN_WIDTHS
        between = nn.ReLU if relu else nn.Identity
        self.encoder = encoder
        self.hidden = nn.Linear(features, first)
        self.age = AgeEncoding(first) if age else None
        self.columns = ("age",) if age else ()  # of subjects.csv, as they are, that `forward` takes beside the scan
        self.dropout = nn.Dropout(0.1 if age else 0.0)
        self.head = nn.Sequential(between(), nn.Linear(first, second), between(), nn.Linear(second, num_outputs))

    def forward(self, x_bczyx: torch.Tensor, age_years_b1: torch.Tensor | None = None) -> torch.Tensor:
        features = self.hidden(self.encoder(x_bczyx))
        if self.age is not None:
            assert age_years_b1 is not None  # `columns` says so
            features = self.dropout(features + self.age(age_years_b1[:, 0]))
        return in_float32(self.head, features)


def liu_cnn(
    in_channels: int,
    num_outputs: int,
    input_size_voxels: Sequence[int] = (96, 96, 96),
    *,
    norm: Norm = "instance",
    age_branch: bool = False,
) -> LiuCNN:
    """Build Liu's network with fresh weights; 89,747,779 parameters at 96³ with three outputs.

    Args:
        in_channels: modalities of a scan.
        num_outputs: logits.
        input_size_voxels: (Z, Y, X) it will be fed. The first linear layer grows with it: 382 M weights at 128³.
        norm: instance norm, or batch norm with learned scale and shift.
        age_branch: whether `forward` also takes ages (90,536,771 parameters).

    Raises:
        SettingsError: the input is too small, or no such norm.
    """
    features = _features("liu_cnn", LIU_STAGES, input_size_voxels)
    encoder = _encoder(LIU_STAGES, in_channels, norm)
    return LiuCNN(encoder, features, num_outputs, relu=False, age=age_branch)


def polimi_cnn(
    in_channels: int,
    num_outputs: int,
    input_size_voxels: Sequence[int] = (96, 96, 96),
    *,
    norm: Norm = "instance",
) -> LiuCNN:
    """Build the variant with fresh weights; 24,736,067 parameters from 87³ to 102³ with three outputs.

    Args:
        in_channels: modalities of a scan.
        num_outputs: logits.
        input_size_voxels: (Z, Y, X) it will be fed.
        norm: instance norm, or batch norm with learned scale and shift.

    Raises:
        SettingsError: the input is too small, or no such norm.
    """
    features = _features("polimi_cnn", POLIMI_STAGES, input_size_voxels)
    return LiuCNN(_encoder(POLIMI_STAGES, in_channels, norm), features, num_outputs, relu=True, age=False)


def _encoder(stages: Sequence[Stage], channels: int, norm: str) -> nn.Sequential:
    norms = {"instance": nn.InstanceNorm3d, "batch": nn.BatchNorm3d}
    if norm not in norms:
        raise SettingsError(f"there is no norm {norm!r}; choose from {', '.join(norms)}")
    layers: list[nn.Module] = []
    for width, kernel, dilation, padding, pool in stages:
        layers += [
            nn.Conv3d(channels, width, kernel, dilation=dilation, padding=padding),
            norms[norm](width),
            nn.ReLU(),
        ]
        if pool is not None:
            layers.append(nn.MaxPool3d(pool, stride=2))
        channels = width
    return nn.Sequential(*layers, nn.Flatten())


def _features(name: str, stages: Sequence[Stage], input_size_voxels: Sequence[int]) -> int:
    """Values that the encoder ends with."""
    left = [_left_of(stages, size) for size in input_size_voxels]
    if any(voxels is None for voxels in left):
        smallest = next(size for size in range(1, 1000) if _left_of(stages, size) is not None)
        raise SettingsError(
            f"{name} needs an input of at least {smallest} voxels per axis, got {list(input_size_voxels)}; "
            "plan again with another --input-size"
        )
    return math.prod(voxels for voxels in left if voxels is not None) * stages[-1].width


def _left_of(stages: Sequence[Stage], size: int) -> int | None:
    """Voxels left along an axis; None if a pool does not fit, or a norm would see a single voxel and erase it."""
    for stage in stages:
        convolved, size = stage.sizes_after(size)
        if convolved < 2 or size < 1:
            return None
    return size
