"""The formula of global response norm once norms are known, and its gradient; layers and kernels share them."""

import torch


def relative_response(norm: torch.Tensor, eps: float) -> torch.Tensor:
    """Each channel's norm relative to the mean over channels, (..., C)."""
    return norm / (norm.mean(dim=-1, keepdim=True) + eps)


def gradient_through_norm(norm: torch.Tensor, grad_relative: torch.Tensor, eps: float) -> torch.Tensor:
    """Factor of what a norm is of in the gradient that reaches it through the norm, (..., C).

    It is 0 where a channel is silent, as torch's norm has it.

    Args:
        norm: of each channel, (..., C).
        grad_relative: the gradient of `relative_response`, (..., C).
        eps: added to the mean norm.
    """
    mean = norm.mean(dim=-1, keepdim=True) + eps
    grad_norm = grad_relative / mean - (grad_relative * norm).sum(dim=-1, keepdim=True) / (mean**2 * norm.shape[-1])
    return torch.where(norm > 0, grad_norm / norm, 0)
