"""A depthwise 3D convolution that is fast in training, on a CPU and on a GPU.

PyTorch hands the forward pass of a depthwise convolution to a fast oneDNN kernel, but the backward pass to a generic
one that takes most of a training step. Both gradients are convolutions themselves, so they can take the forward kernel:
with y = x ∗ w (cross-correlation, stride 1, "same" padding p = k // 2, one filter per channel)

    dL/dx = g ∗ flip(w),    dL/dw = x ∗ g    (each sample's g as the filter, padding p),    dL/db = sum of g,

which equals PyTorch's gradient up to rounding (`networks.layers.depthwise_on_cpu`). On a GPU, kernels of our own take
its place (`networks.kernels`).
"""

import torch
from torch import nn
from torch.amp import custom_bwd, custom_fwd
from torch.autograd.function import once_differentiable

from adnext_plugin.networks.kernels.depthwise import default_numbers, depthwise3d, filters_of
from adnext_plugin.networks.kernels.triton_here import computed_in, usable, wanted
from adnext_plugin.networks.layers.depthwise_on_cpu import convolve, gradient_of_filters
from adnext_plugin.networks.layers.tokens import to_tokens, to_volume


class DepthwiseConv3d(nn.Module):
    """Depthwise convolution of (B, C, Z, Y, X) with stride 1 and an output of the input's size.

    Weights are those of the plain `torch.nn.Conv3d` in `conv`. That module itself does the work outside training and
    on devices where it is the faster one.

    Args:
        channels: C.
        kernel_size: odd edge length of the filters.
    """

    of_volumes = False  # what stands beside it in an encoder gives and takes tokens, with channels last in memory

    def __init__(self, channels: int, kernel_size: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
        self.plan: list[int] | None = None  # of the kernels, where one was chosen by measurement
        self._kernels_wanted = wanted()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.uses_kernels(x):
            return to_volume(self.of_tokens(to_tokens(x)))
        if self.training and forward_kernel_is_faster(x.device):
            return depthwise_in_training(x, self.conv.weight, self.conv.bias)
        return self.conv(x)

    def uses_kernels(self, x: torch.Tensor) -> bool:
        """Whether it is computed by kernels for GPUs."""
        return self._kernels_wanted and x.is_cuda and usable(x)

    def of_tokens(self, x_bzyxc: torch.Tensor) -> torch.Tensor:
        """The convolution by kernels for GPUs, of tokens (B, Z, Y, X, C) to tokens."""
        return _by_kernels(x_bzyxc, self.conv, self.plan or default_numbers(*x_bzyxc.shape))


def depthwise_as_planned(x: torch.Tensor, conv: nn.Conv3d, plan: list[int]) -> torch.Tensor:
    """A convolution of (B, C, Z, Y, X) on a GPU, stride 1, to the same size, as a plan's numbers say; contiguous."""
    return to_volume(_by_kernels(to_tokens(x), conv, plan, of_volumes=True))


def depthwise_in_training(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """Convolve (B, C, Z, Y, X) on a CPU, stride 1, to the same size; differentiable once, by forward convolutions."""
    return _DepthwiseFunction.apply(x, weight, bias)


def forward_kernel_is_faster(device: torch.device) -> bool:
    """Whether gradients as forward convolutions beat PyTorch's own: on CPUs for which oneDNN has its depthwise kernel.

    The rule looks at the instruction set only, so that two runs on one machine always compute alike.
    """
    return device.type == "cpu" and _has_avx()


@torch.compiler.assume_constant_result  # torch.compile cannot ask the processor
def _has_avx() -> bool:
    return torch.backends.cpu.get_cpu_capability().startswith("AVX")


def _by_kernels(x_bzyxc: torch.Tensor, conv: nn.Conv3d, plan: list[int], *, of_volumes: bool = False) -> torch.Tensor:
    x, bias = x_bzyxc.to(computed_in(x_bzyxc)), None if conv.bias is None else conv.bias.float()
    return depthwise3d(x, filters_of(conv.weight).float(), bias, plan, of_volumes)


class _DepthwiseFunction(torch.autograd.Function):
    @staticmethod
    @custom_fwd(device_type="cpu")
    def forward(ctx, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        return convolve(x, weight, bias, weight.shape[-1] // 2)

    @staticmethod
    @custom_bwd(device_type="cpu")
    @once_differentiable
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        padding = weight.shape[-1] // 2
        # a gradient that arrives in another layout would send both convolutions to a slow kernel
        grad = grad.contiguous(memory_format=torch.channels_last_3d)
        grad_x = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_x = convolve(grad, weight.flip(2, 3, 4), None, padding)
        if ctx.needs_input_grad[1]:
            grad_weight = gradient_of_filters(x, grad, weight.shape[-1], padding)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum(dim=(0, 2, 3, 4))
        return grad_x, grad_weight, grad_bias
