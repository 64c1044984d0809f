"""Normalisations of channels-last tokens, (B, Z, Y, X, C)."""

import torch
import torch.nn.functional as F
from torch import nn

from adnext_plugin.networks.kernels.layer_norm import layer_norm
from adnext_plugin.networks.kernels.triton_here import computed_in, usable, wanted
from adnext_plugin.networks.layers.patch_counts import PatchCounts
from adnext_plugin.networks.layers.relative_response import relative_response


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of each voxel, with learned scale and shift; (..., C) to the same shape.

    Args:
        channels: C.
        eps: added to the variance.
        for_linear: nothing but a linear layer takes the result, so that under autocast on a GPU it need not be wider
            than that layer reads it.
    """

    def __init__(self, channels: int, eps: float = 1e-6, *, for_linear: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps
        self._for_linear = for_linear
        self._kernels_wanted = wanted()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self._kernels_wanted and x.is_cuda and usable(x):
            # as PyTorch's, float32 under autocast, where no linear layer would make it narrower at once
            wide = torch.float32 if torch.is_autocast_enabled("cuda") else x.dtype
            dtype = computed_in(x) if self._for_linear else wide
            return layer_norm(x, self.weight, self.bias, self.eps, dtype)[0]
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class GlobalResponseNorm(nn.Module):
    """Global response normalisation over all three spatial axes, for each sample by itself.

    With G = L2 norm of each channel over space and N = G / (mean of G over channels + eps):
    out = gamma · (x · N) + beta + x. Gamma and beta start at zero, where it is the identity.

    Source: Woo et al. 2023, ConvNeXt V2, section 3.2. The released AD-NeXt code takes the norm over two of the three
    axes; all three are meant (docs/decisions.md).
    """

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x_bzyxc: torch.Tensor, patches: PatchCounts | None = None) -> torch.Tensor:
        """Normalise tokens (B, Z, Y, X, C), or patches of tokens.

        Args:
            x_bzyxc: the tokens.
            patches: where the first axis counts patches rather than samples, how many each sample has.
        """
        dtype = torch.promote_types(x_bzyxc.dtype, torch.float32)  # also under autocast
        if patches is None:
            norm = torch.linalg.vector_norm(x_bzyxc, dim=(1, 2, 3), dtype=dtype)
        else:
            samples = x_bzyxc.split(patches.per_sample)
            norm = torch.stack([torch.linalg.vector_norm(sample, dim=(0, 1, 2, 3), dtype=dtype) for sample in samples])
        # this norm has gradient 0, not NaN, where a channel is zero everywhere
        scale = (1 + self.gamma * relative_response(norm, self.eps)).to(x_bzyxc.dtype)
        if patches is not None:
            scale = scale.index_select(0, patches.sample_of_patch)
        # beta + x · (1 + gamma · N) in one pass over the tokens
        return torch.addcmul(self.beta.to(x_bzyxc.dtype), x_bzyxc, scale[:, None, None, None])
