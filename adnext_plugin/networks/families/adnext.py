"""AD-NeXt: ConvNeXt V2 in three dimensions for whole brain scans, with average pooling between its stages.

    scan (B, C, Z, Y, X)
      stem         Conv3d, kernel and stride 4, then ChannelNorm
      stage 1..4   residual blocks on channels-last tokens; ChannelNorm, AvgPool3d(2), Linear in between
      head         mean over space, LayerNorm, Linear
    logits (B, outputs)

Tokens stay channels-last, (B, Z, Y, X, C), from the stem to the head: linear layers and norms need no permutes, and the
same memory seen as (B, C, Z, Y, X) is the layout in which convolutions are fast.

Source: AD-NeXt (Figure 2, Section 3.1). Parameters and multiply-adds equal the paper's Table 4; the cells of its S row
are swapped there.
"""

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Literal, cast

import torch
from torch import nn
from torchvision.ops import StochasticDepth

from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.classifier import in_float32
from adnext_plugin.networks.kernels.triton_here import wanted
from adnext_plugin.networks.layers.activation import GeluResponseNorm
from adnext_plugin.networks.layers.depthwise import DepthwiseConv3d
from adnext_plugin.networks.layers.norms import ChannelNorm
from adnext_plugin.networks.layers.stems import STEM_STRIDE, ConvolutionalStem, PatchStem
from adnext_plugin.networks.layers.tokens import mean_of_pairs, to_tokens, to_volume
from adnext_plugin.networks.recomputation import MayRecompute

Downsampling = Literal["avg", "max", "strided"]
Init = Literal["paper", "fan_in"]
HeadNorm = Literal["layer", "batch"]
StemKind = Literal["patch", "convolutional"]

SMALLEST_INPUT = 32


class Block(nn.Module):
    """Depthwise convolution, then a four times wider MLP with global response norm, added to the input."""

    def __init__(self, width: int, kernel_size: int, drop_path_rate: float) -> None:
        super().__init__()
        self.depthwise = DepthwiseConv3d(width, kernel_size)
        self.norm = ChannelNorm(width, for_linear=True)
        self.expand = nn.Linear(width, 4 * width)
        self.activation = GeluResponseNorm(4 * width)
        self.project = nn.Linear(4 * width, width)
        self.drop_path = StochasticDepth(drop_path_rate, mode="row")

    def forward(self, x_bzyxc: torch.Tensor) -> torch.Tensor:
        y = self.norm(to_tokens(self.depthwise(to_volume(x_bzyxc))))
        return x_bzyxc + self.drop_path(self.activation.then(self.project, self.expand(y)))


class Transition(nn.Module):
    """Halves each axis and changes the width; an odd axis keeps its last plane, averaged over what is there."""

    def __init__(self, width_in: int, width_out: int, downsampling: Downsampling) -> None:
        super().__init__()
        self.norm = ChannelNorm(width_in)
        self._halves_on_gpu = downsampling == "avg" and wanted()
        self.pool: nn.Module
        self.project: nn.Module
        if downsampling == "strided":
            self.pool = nn.Conv3d(width_in, width_out, kernel_size=2, stride=2)
            self.project = nn.Identity()
            return
        if downsampling == "avg":
            self.pool = nn.AvgPool3d(2, ceil_mode=True, count_include_pad=False)
        else:
            self.pool = nn.MaxPool3d(2, ceil_mode=True)
        self.project = nn.Linear(width_in, width_out)

    def forward(self, x_bzyxc: torch.Tensor) -> torch.Tensor:
        x = self.norm(x_bzyxc)
        if self._halves_on_gpu and x.is_cuda and not any(size % 2 for size in x.shape[1:4]):
            return self.project(mean_of_pairs(x))
        return self.project(to_tokens(self.pool(to_volume(x))))


class ADNeXtEncoder(MayRecompute):
    """Stem and four stages: (B, C, Z, Y, X) to tokens (B, Z/32, Y/32, X/32, widths[-1]), rounded up."""

    def __init__(
        self,
        in_channels: int,
        depths: Sequence[int],
        widths: Sequence[int],
        kernel_size: int = 7,
        downsampling: Downsampling = "avg",
        drop_path_rate: float = 0.0,
        stem: StemKind = "patch",
    ) -> None:
        super().__init__()
        # numbers are needed even where tensors are made without data, under torch.device("meta")
        rates = torch.linspace(0, drop_path_rate, sum(depths), device="cpu").tolist()
        self.width = widths[-1]  # of the tokens it ends with
        self.level_widths = tuple(widths)
        self.level_strides = tuple(STEM_STRIDE * 2**stage for stage in range(len(widths)))
        self.stem = (PatchStem if stem == "patch" else ConvolutionalStem)(in_channels, widths[0])
        self.stages = nn.ModuleList()
        for depth, width in zip(depths, widths, strict=True):
            self.stages.append(nn.Sequential(*[Block(width, kernel_size, rates.pop(0)) for _ in range(depth)]))
        self.transitions = nn.ModuleList(
            Transition(narrow, wide, downsampling) for narrow, wide in itertools.pairwise(widths)
        )

    def blocks(self) -> list[list[Block]]:
        """The blocks of every stage."""
        return [cast(list[Block], list(cast(nn.Sequential, stage))) for stage in self.stages]

    def convolutions(self) -> list[list[DepthwiseConv3d]]:
        """The depthwise convolutions of every stage."""
        return [[block.depthwise for block in blocks] for blocks in self.blocks()]

    def layers(self) -> list[nn.Module]:
        """All parts from input to output, as learning rates are given to them."""
        deeper = [nn.ModuleList(pair) for pair in zip(self.transitions, self.stages[1:], strict=True)]
        return [self.stem, self.stages[0], *deeper]

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        x = self._stage(0, self.stem(x_bczyx))
        for number, transition in enumerate(self.transitions, start=1):
            x = self._stage(number, transition(x))
        return x

    def levels(self, x_bczyx: torch.Tensor) -> list[torch.Tensor]:
        """Features (B, C, Z, Y, X) of every stage, the finest first."""
        x = self._stage(0, self.stem(x_bczyx))
        found = [to_volume(x)]
        for number, transition in enumerate(self.transitions, start=1):
            x = self._stage(number, transition(x))
            found.append(to_volume(x))
        return found

    def _stage(self, number: int, x: torch.Tensor) -> torch.Tensor:
        if not self.recompute:
            return self.stages[number](x)
        for block in self.blocks()[number]:
            x = self.through(block, x)
        return x


class ClassificationHead(nn.Module):
    """Mean over space, a norm, Linear: tokens (B, Z, Y, X, C) to (B, outputs).

    The means of brain scans are nearly the same for everybody. LayerNorm, the paper's, keeps what they share and with
    it most of the size of the features, batch norm takes it away; both have as many parameters.
    """

    def __init__(self, width: int, num_outputs: int, norm: HeadNorm = "layer") -> None:
        super().__init__()
        normalise = nn.LayerNorm(width, eps=1e-6) if norm == "layer" else nn.BatchNorm1d(width)
        # nnU-Net's own loader of pre-trained weights leaves tensors named "seg_layers" alone, and demands all others
        self.seg_layers = nn.ModuleList([normalise, nn.Linear(width, num_outputs)])

    def forward(self, x_bzyxc: torch.Tensor) -> torch.Tensor:
        norm, linear = self.seg_layers
        return linear(norm(self.pool(x_bzyxc)))

    def pool(self, x_bzyxc: torch.Tensor) -> torch.Tensor:
        """One vector of features per scan, (B, C)."""
        return x_bzyxc.mean(dim=(1, 2, 3))


class ADNeXt(nn.Module):
    """The classifier: (B, C, Z, Y, X) to logits (B, outputs)."""

    # where nnU-Net's tools for pre-training look for the parts that can be handed on
    key_to_encoder = "encoder"
    key_to_stem = "encoder.stem"

    def __init__(
        self,
        encoder: ADNeXtEncoder,
        num_outputs: int,
        init: Init = "paper",
        head_norm: HeadNorm = "layer",
        mirror: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.mirror = mirror
        self.head = ClassificationHead(encoder.width, num_outputs, head_norm)
        initialise(self, init)
        self.to(memory_format=torch.channels_last_3d)

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        if self.training or not self.mirror:
            return in_float32(self.head, self.encoder(x_bczyx))
        # the scan itself comes last, so that hooks on a layer are left with its features
        mirrored = in_float32(self.head, self.encoder(x_bczyx.flip(-1)))
        return (mirrored + in_float32(self.head, self.encoder(x_bczyx))) / 2


def initialise(network: nn.Module, init: Init) -> None:
    """Draw the weights of all convolutions and linear layers from a normal cut at ±2; biases become 0.

    `paper`: standard deviation 0.02 everywhere. `fan_in`: 1/sqrt(inputs of the layer), which keeps the signal's size.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv3d | nn.Linear):
            deviation = 0.02 if init == "paper" else 1 / math.sqrt(module.weight[0].numel())
            nn.init.trunc_normal_(module.weight, std=deviation)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def build(
    depths: Sequence[int],
    widths: Sequence[int],
    in_channels: int,
    num_outputs: int,
    input_size_voxels: Sequence[int] = (128, 128, 128),
    *,
    kernel_size: int = 7,
    downsampling: Downsampling = "avg",
    drop_path_rate: float = 0.1,
    init: Init = "paper",
    head_norm: HeadNorm = "layer",
    stem: StemKind = "patch",
    mirror: bool = False,
) -> ADNeXt:
    """Build an AD-NeXt of any size with fresh weights.

    Args:
        depths, widths: blocks and channels of the four stages.
        in_channels: modalities of a scan.
        num_outputs: logits.
        input_size_voxels: (Z, Y, X) it will be fed, each a multiple of 4 of at least 32.
        kernel_size: 3, 5 or 7, of the depthwise convolutions.
        downsampling: between stages: average pooling (the paper's choice), max pooling or a strided convolution.
        drop_path_rate: chance to skip the last residual branch; rises linearly from 0 at the first.
        init: see `initialise`.
        head_norm: of the features before the last layer. `layer` is the paper's; from scratch, on a few hundred
            scans, the network learns with `batch` only (docs/recipes.md).
        stem: `patch`, the paper's, or `convolutional`, with which far fewer scans suffice (docs/recipes.md). Only the
            first can be pre-trained by masking.
        mirror: in eval mode, give the mean of the logits of a scan and of its mirror image, left to right.

    Raises:
        SettingsError: a value that is not on offer.
    """
    for name, value, allowed in (
        ("kernel_size", kernel_size, (3, 5, 7)),
        ("downsampling", downsampling, ("avg", "max", "strided")),
        ("init", init, ("paper", "fan_in")),
        ("head_norm", head_norm, ("layer", "batch")),
        ("stem", stem, ("patch", "convolutional")),
        ("mirror", mirror, (False, True)),
    ):
        if value not in allowed:
            raise SettingsError(f"AD-NeXt has no {name} {value!r}; choose from {', '.join(map(str, allowed))}")
    if not 0 <= drop_path_rate < 1:
        raise SettingsError(f"drop_path_rate must be in [0, 1), got {drop_path_rate}")
    # a strided convolution would drop the last plane of an odd axis
    multiple = SMALLEST_INPUT if downsampling == "strided" else STEM_STRIDE
    if any(size < SMALLEST_INPUT or size % multiple for size in input_size_voxels):
        raise SettingsError(
            f"AD-NeXt with {downsampling} downsampling needs an input of at least {SMALLEST_INPUT} voxels per axis and "
            f"a multiple of {multiple}, got {list(input_size_voxels)}; plan again with another --input-size"
        )
    encoder = ADNeXtEncoder(in_channels, depths, widths, kernel_size, downsampling, drop_path_rate, stem)
    return ADNeXt(encoder, num_outputs, init, head_norm, mirror)


# Parameters and multiply-adds are for one channel, two outputs and 128³
adnext_t = partial(build, (2, 2, 6, 2), (16, 32, 64, 128))  # 756,242, 0.90 G
adnext_s = partial(build, (3, 3, 9, 3), (32, 64, 128, 256))  # 3,715,138, 3.63 G
adnext_b = partial(build, (3, 3, 27, 3), (64, 128, 256, 512))  # 24,358,530, 16.79 G
adnext_l = partial(build, (3, 3, 27, 3), (128, 256, 512, 512))  # 71,248,130, 57.40 G
