"""What the networks beside AD-NeXt have in common: an encoder that can be handed on, and a head that cannot."""

from collections.abc import Sequence

import torch
from torch import nn

from adnext_plugin.errors import SettingsError


class Classifier(nn.Module):
    """An encoder from scans (B, C, Z, Y, X) to features, and a head from those to logits (B, outputs)."""

    # what -pretrained_weights takes over
    key_to_encoder = "encoder"

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        return in_float32(self.head, self.encoder(x_bczyx))


class SpatialMean(nn.Module):
    """Mean over space: (B, C, Z, Y, X) to (B, C)."""

    def forward(self, x_bczyx: torch.Tensor) -> torch.Tensor:
        return x_bczyx.mean(dim=(2, 3, 4))


def in_float32(head: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """What a head makes of features, in float32 also where autocast has the rest of a network compute in 16 bits.

    The 8 bits of bfloat16 leave two people in fifty with equal logits.
    """
    device = features.device.type
    if features.is_meta or not torch.is_autocast_enabled(device):  # which knows nothing of tensors without data
        return head(features)
    with torch.autocast(device, enabled=False):
        return head(features.float())


def require_input_size(network: str, input_size_voxels: Sequence[int], smallest: int, multiple: int = 1) -> None:
    """Refuse a size that a network cannot take.

    Raises:
        SettingsError: an axis is shorter than `smallest`, or no multiple of `multiple`.
    """
    if any(size < smallest or size % multiple for size in input_size_voxels):
        divisible = f" and a multiple of {multiple}" if multiple > 1 else ""
        raise SettingsError(
            f"{network} needs an input of at least {smallest} voxels per axis{divisible}, "
            f"got {list(input_size_voxels)}; plan again with another --input-size"
        )


def require_rate(name: str, value: float) -> None:
    """Refuse a chance of dropping something that is not in [0, 1).

    Raises:
        SettingsError: it is not.
    """
    if not 0 <= value < 1:
        raise SettingsError(f"{name} must be in [0, 1), got {value}")


def has_batch_norm(network: nn.Module) -> bool:
    """Whether samples of a batch affect each other in training, so that batches of one are a bad idea."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())
