"""Depthwise convolution among visible tokens only: masked ones count as zero and get no result.

Ways to the same result. `scatter`: put the tokens into a volume of zeros and convolve that. `halo`: give each patch a
margin of what is visible around it and convolve the patches. The first wins where patches are small, the second where
they are large and few. `skip`, on GPUs: a kernel that looks the neighbours of each patch up in a table. On a CPU they
keep only the visible tokens for the gradient, and compute it, as `networks.layers.depthwise` does, with forward
convolutions:

    dL/dx = g ∗ flip(w) among visible tokens,    dL/dw = x ∗ g
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Literal

import torch
import torch.nn.functional as F
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from adnext_plugin.networks.kernels.depthwise import filters_of
from adnext_plugin.networks.kernels.depthwise_visible import cell_edge, depthwise3d_visible, reach, tables_of
from adnext_plugin.networks.kernels.triton_here import LARGEST, computed_in, or_stock, wanted
from adnext_plugin.networks.layers.depthwise import DepthwiseConv3d, forward_kernel_is_faster
from adnext_plugin.networks.layers.depthwise_on_cpu import convolve, gradient_of_filters
from adnext_plugin.networks.layers.pieces import PIECE_BYTES
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_patches import VisiblePatches, whole_volume

Way = Literal["halo", "scatter", "skip"]
ALL_AT_ONCE = 1 << 62


class VisibleDepthwise(ABC):
    """A stage's depthwise convolutions for one mask; get one from `visible_depthwise`."""

    def __call__(self, layer: DepthwiseConv3d, x_npppc: torch.Tensor) -> torch.Tensor:
        """Convolve tokens (N, p, p, p, C) with a layer's weights."""
        weight, bias = layer.conv.weight, layer.conv.bias
        if self.uses_kernels(layer, x_npppc):
            return self.by_kernel(layer, x_npppc.to(computed_in(x_npppc)))
        if forward_kernel_is_faster(x_npppc.device):
            return _Function.apply(x_npppc, weight, bias, self)
        return self.convolve(x_npppc, weight, bias)

    def uses_kernels(self, layer: DepthwiseConv3d, x_npppc: torch.Tensor) -> bool:
        """Whether it has a form made of our kernels for GPUs that can take these tokens."""
        return False

    def by_kernel(self, layer: DepthwiseConv3d, x_npppc: torch.Tensor) -> torch.Tensor:
        """That form."""
        raise NotImplementedError

    @abstractmethod
    def convolve(self, x_npppc: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """The convolution by itself, differentiable by torch."""

    @abstractmethod
    def gradients(
        self, x_npppc: torch.Tensor, grad_npppc: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Gradients of the tokens and of the weight (C, 1, k, k, k), by forward convolutions."""


def visible_depthwise(patches: VisiblePatches, side: int, kernel_size: int, way: Way) -> VisibleDepthwise:
    """Prepare the convolutions of a stage.

    Args:
        patches: where the visible ones lie.
        side: tokens along the side of a patch.
        kernel_size: of the convolution.
        way: how to compute.
    """
    if way == "skip" and way in ways_on(patches.device):
        return _Skip(patches, side, kernel_size)
    # what was chosen on a GPU also has a result elsewhere
    return (_Halo if way == "halo" else _Scatter)(patches, side, kernel_size)


def tables_of_cells(patches: VisiblePatches, side: int, kernel_size: int, edge: int) -> list[torch.Tensor]:
    """What `depthwise3d_visible` needs to know of a mask, for patches of p = `side` that are cut into such cells."""
    return tables_of(patches.around_cells(side, edge, reach(edge, kernel_size)), edge)


def ways_on(device: torch.device) -> tuple[Way, ...]:
    """The ways there are on a device, those worth measuring."""
    if device.type != "cuda" or not wanted():
        return ("halo", "scatter")
    return ("scatter", "skip")


class _Scatter(VisibleDepthwise):
    def __init__(self, patches: VisiblePatches, side: int, kernel_size: int) -> None:
        batch, *grid = patches.visible.shape
        self._size = (batch, *[cells * side for cells in grid])
        self._patches, self._side = patches, side
        self._padding = kernel_size // 2

    @cached_property
    def _rows(self) -> torch.Tensor:
        return self._patches.rows_in_volume(self._side)

    def uses_kernels(self, layer: DepthwiseConv3d, x_npppc: torch.Tensor) -> bool:
        # what is convolved is the whole volume, of which the visible tokens are a part
        return layer.uses_kernels(x_npppc) and math.prod(self._size) * x_npppc.shape[-1] < LARGEST

    def by_kernel(self, layer: DepthwiseConv3d, x_npppc: torch.Tensor) -> torch.Tensor:
        channels = x_npppc.shape[-1]
        convolved = layer.of_tokens(whole_volume(x_npppc.reshape(-1, channels), self._rows, self._size))
        return convolved.view(-1, channels).index_select(0, self._rows).view(x_npppc.shape)

    def convolve(self, x_npppc: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return self._convolve(self._volume(x_npppc), weight, bias).view(x_npppc.shape)

    def gradients(
        self, x_npppc: torch.Tensor, grad_npppc: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        x, grad = self._volume(x_npppc), self._volume(grad_npppc)
        taps = gradient_of_filters(x, grad, weight.shape[-1], self._padding)
        return self._convolve(grad, weight.flip(2, 3, 4), None).view(x_npppc.shape), taps

    def _convolve(self, volume: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        convolved = _convolved(volume, weight, bias, self._padding)
        return convolved.permute(0, 2, 3, 4, 1).reshape(-1, len(weight)).index_select(0, self._rows)

    def _volume(self, x_npppc: torch.Tensor) -> torch.Tensor:
        channels = x_npppc.shape[-1]
        return whole_volume(x_npppc.reshape(-1, channels), self._rows, self._size).permute(0, 4, 1, 2, 3)


class _Halo(VisibleDepthwise):
    def __init__(self, patches: VisiblePatches, side: int, kernel_size: int) -> None:
        self._rows = patches.rows_around(side, kernel_size // 2)

    def convolve(self, x_npppc: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        surroundings = self._surroundings(x_npppc, PIECE_BYTES if x_npppc.device.type == "cpu" else ALL_AT_ONCE)
        found = [_convolved(around, weight, bias, 0) for around in surroundings]
        return torch.cat(found).permute(0, 2, 3, 4, 1)

    def gradients(
        self, x_npppc: torch.Tensor, grad_npppc: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        taps = torch.zeros_like(weight)
        # patch by patch, so that what is read lies in the processor's cache
        for around, grad in zip(
            self._surroundings(x_npppc, 0), grad_npppc.permute(0, 4, 1, 2, 3).split(1), strict=True
        ):
            taps += gradient_of_filters(around, grad, weight.shape[-1], 0)
        return self.convolve(grad_npppc, weight.flip(2, 3, 4), None), taps

    def _surroundings(self, x_npppc: torch.Tensor, piece_bytes: int) -> Iterator[torch.Tensor]:
        """Patches with their margins, (n, C, w, w, w), so many at a time as fit into a piece, but at least one."""
        table = x_npppc.reshape(-1, x_npppc.shape[-1])
        table = torch.cat([table, table.new_zeros(1, table.shape[1])])  # the last row: where there is no token
        patches = max(1, piece_bytes // (self._rows[0].numel() * table[0].nbytes))
        for rows in self._rows.split(patches):
            around = table.index_select(0, rows.flatten()).view(*rows.shape, -1)
            yield around.permute(0, 4, 1, 2, 3)


class _Skip(_Scatter):
    """Where the kernel cannot be used after all, it is `scatter`."""

    def __init__(self, patches: VisiblePatches, side: int, kernel_size: int) -> None:
        super().__init__(patches, side, kernel_size)
        self._edge = cell_edge(side, kernel_size)
        self._tables = tables_of_cells(patches, side, kernel_size, self._edge)

    def by_kernel(self, layer: DepthwiseConv3d, x_npppc: torch.Tensor) -> torch.Tensor:
        conv = layer.conv
        bias = None if conv.bias is None else conv.bias.float()
        return or_stock(
            lambda: depthwise3d_visible(x_npppc, filters_of(conv.weight).float(), bias, self._edge, self._tables),
            lambda: _Scatter.by_kernel(self, layer, x_npppc),
        )


def _convolved(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, padding: int) -> torch.Tensor:
    if x.device.type == "cpu":
        return convolve(x, weight, bias, padding)
    return F.conv3d(x, weight, bias, padding=padding, groups=len(weight))


class _Function(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cpu")
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, way: VisibleDepthwise) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.way = way
        return way.convolve(x, weight, bias)

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous()
        grad_x, grad_weight = ctx.way.gradients(x, grad, weight)
        return grad_x, grad_weight, grad.sum(dim=(0, 1, 2, 3)), None
