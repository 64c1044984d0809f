"""From voxels to the first tokens: scan (B, C, Z, Y, X) to tokens (B, Z/4, Y/4, X/4, width)."""

import torch
import torch.nn.functional as F
from torch import nn

from adnext_plugin.networks.kernels.triton_here import wanted
from adnext_plugin.networks.layers.norms import ChannelNorm
from adnext_plugin.networks.layers.pooled_norm import pooled_norm
from adnext_plugin.networks.layers.tokens import to_tokens

STEM_STRIDE = 4
FULL_RESOLUTION_CHANNELS = 16  # of the convolutional stem, whatever the network's size


class PatchStem(nn.Module):
    """Cuts the scan into 4³ patches that know nothing of one another; the paper's."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(in_channels, width, kernel_size=STEM_STRIDE, stride=STEM_STRIDE)
        self.norm = ChannelNorm(width)
        self._kernels_wanted = wanted()

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        if self._kernels_wanted and x_bczyx.is_cuda and not any(size % STEM_STRIDE for size in x_bczyx.shape[2:]):
            return self.norm(patches_through(self.conv, x_bczyx))
        return self.norm(to_tokens(self.conv(x_bczyx)))


def patches_through(conv: nn.Conv3d, x_bczyx: torch.Tensor) -> torch.Tensor:
    """A convolution whose stride is its kernel, as the linear map that it is: tokens (B, Z/k, Y/k, X/k, out).

    GPUs have no good kernel for one input channel, but multiply matrices fast.
    """
    side, (batch, channels, *size) = conv.kernel_size[0], x_bczyx.shape
    z, y, x = (length // side for length in size)
    cut = x_bczyx.reshape(batch, channels, z, side, y, side, x, side).permute(0, 2, 4, 6, 1, 3, 5, 7)
    return F.linear(cut.reshape(batch, z, y, x, -1), conv.weight.flatten(1), conv.bias)


class ConvolutionalStem(nn.Module):
    """Twice a 3³ convolution, batch norm, the strongest response of 2³ voxels and ReLU.

    A token says what was found near it, wherever exactly it lay. One linear map of 4³ voxels, the patch stem's token,
    changes with every shift of the brain by a voxel, and few scans do not suffice to learn which of that matters.
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_halving(in_channels, FULL_RESOLUTION_CHANNELS), *_halving(FULL_RESOLUTION_CHANNELS, width)
        )

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        return to_tokens(self.layers[4:](pooled_norm(self.layers[:4], x_bczyx))).contiguous()


def _halving(channels_in: int, channels_out: int) -> list[nn.Module]:
    convolution = nn.Conv3d(channels_in, channels_out, kernel_size=3, padding=1)
    # pooling before ReLU is the same, and leaves it an eighth of the work
    return [convolution, nn.BatchNorm3d(channels_out), nn.MaxPool3d(2), nn.ReLU()]
