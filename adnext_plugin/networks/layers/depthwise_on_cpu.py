"""Depthwise 3D convolutions on a CPU, forward and both gradients, a few channels at a time.

All three are forward convolutions, for which oneDNN has a fast kernel (`networks.layers.depthwise` has the formulas).
That kernel goes through the output row by row, with all channels of a row, and reads K² rows of the input for each.
With many channels these are more than a core's cache holds, and are read from further away K² times; with the channels
of one cache line they stay. How many there are at a time changes no bit, for each is convolved by itself.
"""

import itertools
from collections.abc import Iterator

import torch
import torch.nn.functional as F

CHANNELS_OF_A_LINE = 16  # float32
ROWS_BYTES = 1 << 17  # that a row of the output may read before its channels are divided
MULTIPLY_ADDS = 1 << 23  # of a thread in one call: with fewer, calling takes longer than what is gained
TOKENS_OF_A_SUM = 1 << 12  # that a gradient of filters adds up at once, in float32, and that a cache holds


def convolve(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, padding: int) -> torch.Tensor:
    """Convolve (B, C, Z, Y, X) with filters (C, 1, K, K, K), stride 1; the result is channels-last in memory."""
    kernel = weight.shape[-1]
    x = x.contiguous(memory_format=torch.channels_last_3d)
    rows_bytes = kernel**2 * x.shape[-1] * x.shape[1] * x.element_size()
    tokens = x[:, 0].numel()
    width = len(weight) if rows_bytes <= ROWS_BYTES else _channels_at_once(len(weight), tokens, kernel)
    if width >= len(weight):
        return F.conv3d(x, weight, bias, padding=padding, groups=len(weight))
    biases = itertools.repeat(None) if bias is None else bias.split(width)
    parts = zip(_blocks(x, width), weight.split(width), biases, strict=False)
    return torch.cat([F.conv3d(part, w, b, padding=padding, groups=len(w)) for part, w, b in parts], dim=1)


def gradient_of_filters(x: torch.Tensor, grad: torch.Tensor, kernel_size: int, padding: int) -> torch.Tensor:
    """The gradient (C, 1, K, K, K) of filters that made of `x` what has the gradient `grad`, both (B, C, Z, Y, X).

    It is the convolution of each sample with its gradient as a filter, of large volumes a few planes at a time.
    """
    width = min(grad.shape[1], _channels_at_once(grad.shape[1], grad[0, 0].numel(), kernel_size))
    planes = max(1, TOKENS_OF_A_SUM // (grad.shape[-1] * grad.shape[-2]))
    sums = []
    for x_part, grad_part in zip(_blocks(x, width), _blocks(grad, width), strict=True):
        taps = torch.zeros(1, x_part.shape[1], *[kernel_size] * 3, dtype=x.dtype)
        for sample, grad_of_sample in zip(x_part.split(1), grad_part.unsqueeze(2), strict=True):
            taps += _taps(sample, grad_of_sample, padding, planes)
        sums.append(taps)
    return torch.cat(sums, dim=1).transpose(0, 1)


def _taps(sample: torch.Tensor, grad_c1zyx: torch.Tensor, padding: int, planes: int) -> torch.Tensor:
    depth, channels = grad_c1zyx.shape[2], len(grad_c1zyx)
    if depth <= planes:
        return F.conv3d(sample, grad_c1zyx, padding=padding, groups=channels)
    sample = F.pad(sample, (0, 0, 0, 0, padding, padding)).contiguous(memory_format=torch.channels_last_3d)
    around = sample.shape[2] - depth
    total = torch.zeros((), dtype=sample.dtype)
    for first in range(0, depth, planes):
        part = grad_c1zyx[:, :, first : first + planes]
        read = sample[:, :, first : first + part.shape[2] + around]
        total = total + F.conv3d(read, part, padding=(0, padding, padding), groups=channels)
    return total


def _channels_at_once(channels: int, tokens: int, kernel_size: int) -> int:
    """Those of a cache line, or more of them, so that a call has enough to do; all where there are few tokens."""
    if tokens < TOKENS_OF_A_SUM:
        return channels
    of_a_line = CHANNELS_OF_A_LINE * tokens * kernel_size**3
    return CHANNELS_OF_A_LINE * -(-MULTIPLY_ADDS * torch.get_num_threads() // of_a_line)


def _blocks(volume: torch.Tensor, width: int) -> Iterator[torch.Tensor]:
    """`width` channels each, side by side in memory."""
    return (part.contiguous(memory_format=torch.channels_last_3d) for part in volume.split(width, dim=1))
