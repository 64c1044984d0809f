"""The blocks of MedNeXt, which are MONAI's, and of MedNeXt-v2 with either reading of its response norm."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from monai.networks.blocks import MedNeXtBlock, MedNeXtDownBlock, MedNeXtUpBlock
from torch import nn

from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.kernels.triton_here import usable
from adnext_plugin.networks.layers.activation import response_then_linear
from adnext_plugin.networks.layers.depthwise import (
    depthwise_as_planned,
    depthwise_in_training,
    forward_kernel_is_faster,
)
from adnext_plugin.networks.layers.instance_norm import instance_norm
from adnext_plugin.networks.layers.tokens import to_tokens, to_volume

ResponseNormaliser = Literal["mean", "sum"]
TINY = 1e-6  # added to what a response is divided by


class Block(MedNeXtBlock):
    """MONAI's block, which computes the same, up to rounding, in a faster way where there is one.

    PyTorch has depthwise convolutions of GPUs, and on a CPU their gradients and those of 1³ convolutions, computed by
    generic kernels. In training on a CPU the block computes of channels-last tokens. On a GPU kernels of our own
    convolve where a plan says so.
    """

    sums_response = False  # whether the response norm divides by the sum over channels; MONAI's does by their mean
    of_volumes = True  # what comes before and after the convolution takes and gives contiguous (B, C, Z, Y, X)
    plan: list[int] | None = None  # of the kernels, where one was chosen by measurement

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training and not torch.is_autocast_enabled("cpu") and forward_kernel_is_faster(x.device):
            return self._by_tokens(x.contiguous(memory_format=torch.channels_last_3d))
        if self.plan is not None and x.is_cuda and usable(x):
            return self._after_convolution(x, depthwise_as_planned(x, self.conv1, self.plan))
        return self._after_convolution(x, self.conv1(x)) if self.sums_response else super().forward(x)

    @property
    def conv(self) -> nn.Conv3d:
        """The depthwise convolution."""
        return self.conv1

    def _after_convolution(self, x: torch.Tensor, convolved: torch.Tensor) -> torch.Tensor:
        inside = self.act(self.conv2(self.norm(convolved)))
        if self.global_resp_norm:
            response = torch.linalg.vector_norm(inside, dim=(-3, -2, -1), keepdim=True)
            whole = response.sum if self.sums_response else response.mean
            share = response / (whole(dim=1, keepdim=True) + TINY)
            inside = self.global_resp_gamma * (inside * share) + self.global_resp_beta + inside
        out = self.conv3(inside)
        return x + out if self.do_res else out

    def _by_tokens(self, x: torch.Tensor) -> torch.Tensor:
        tokens = instance_norm(to_tokens(self._convolved(x)), self.norm)
        inside = F.linear(tokens, self.conv2.weight.flatten(1), self.conv2.bias)
        out = to_volume(self._activated_then(inside, self.conv3.weight.flatten(1), self.conv3.bias))
        return x + out if self.do_res else out

    def _convolved(self, x: torch.Tensor) -> torch.Tensor:
        """The depthwise convolution; every kind of it is one of stride 1, of which every stride-th voxel is taken, or
        to which the input is spread out."""
        conv = self.conv1
        if isinstance(conv, nn.ConvTranspose3d):
            return depthwise_in_training(_spread(x, conv.stride), conv.weight.flip(2, 3, 4), conv.bias)
        out = depthwise_in_training(x, conv.weight, conv.bias)
        step_z, step_y, step_x = conv.stride
        return out[..., ::step_z, ::step_y, ::step_x]

    def _activated_then(self, tokens: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        if not self.global_resp_norm:
            return F.linear(self.act(tokens), weight, bias)
        gamma, beta, eps = self.global_resp_gamma.flatten(), self.global_resp_beta.flatten(), TINY
        if self.sums_response:  # the sum is so many times the mean
            gamma, eps = gamma / len(gamma), eps / len(gamma)
        return response_then_linear(tokens, gamma, beta, eps, (1,) * len(tokens), weight, bias)


# MONAI's blocks that change the resolution call the plain one; here they find the one above in its place
class DownBlock(MedNeXtDownBlock, Block):
    """Halves the resolution."""


class UpBlock(MedNeXtUpBlock, Block):
    """Doubles the resolution."""


def _spread(x: torch.Tensor, strides: Sequence[int]) -> torch.Tensor:
    """The voxels of (B, C, Z, Y, X) with zeros between them."""
    step_z, step_y, step_x = strides
    sizes = [stride * (length - 1) + 1 for stride, length in zip(strides, x.shape[2:], strict=True)]
    apart = x.new_zeros(len(x), *sizes, x.shape[1])
    apart[:, ::step_z, ::step_y, ::step_x] = to_tokens(x)
    return to_volume(apart)


@dataclass(frozen=True, kw_only=True)
class MedNeXtBlocks:
    """What the blocks of a network are like; `response_norm` is what theirs divides by, None without one.

    Raises:
        SettingsError: there is no such normaliser.
    """

    kernel_size: int
    response_norm: ResponseNormaliser | None = None

    def __post_init__(self) -> None:
        if self.response_norm not in (None, *get_args(ResponseNormaliser)):
            raise SettingsError(f"grn_normaliser must be mean or sum, got {self.response_norm!r}")

    def level(self, width: int, depth: int, expansion: int) -> list[nn.Module]:
        """Blocks that keep the resolution."""
        return [self._made(Block, width, width, expansion) for _ in range(depth)]

    def down(self, width: int, expansion: int) -> nn.Module:
        """A block that halves the resolution and doubles the width."""
        return self._made(DownBlock, width, 2 * width, expansion)

    def up(self, width: int, expansion: int) -> nn.Module:
        """A block that doubles the resolution and halves the width."""
        return self._made(UpBlock, width, width // 2, expansion)

    def _made(self, kind: type[Block], width: int, width_out: int, expansion: int) -> Block:
        block = kind(
            width,
            width_out,
            expansion,
            kernel_size=self.kernel_size,
            use_residual_connection=True,
            global_resp_norm=self.response_norm is not None,
        )
        block.sums_response = self.response_norm == "sum"
        return block
