"""Lower learning rates for layers nearer to the input, for networks that start from weights learned elsewhere."""

from collections.abc import Callable
from typing import Any

from torch import nn

from adnext_plugin.training.schedule import RATE_SHARE


def parameter_groups(network: nn.Module, encoder: nn.Module, decay: float) -> list[dict]:
    """Groups for an optimizer: what is not in the encoder learns at the full rate, each layer below at a smaller one.

    Args:
        network: all that is trained.
        encoder: a part of it. Its layers are what its method `layers()` lists from input to output, else it is one.
        decay: rate of a layer over that of the layer above it. With 0 the encoder is frozen, which saves most of the
            time of a step.

    Source: Clark et al. 2020 (ELECTRA), whose fine-tuning ConvNeXt V2 takes over.
    """
    of_encoder: Callable[[], list[nn.Module]] | None = getattr(encoder, "layers", None)
    layers = [encoder] if of_encoder is None else of_encoder()
    below = {id(parameter) for parameter in encoder.parameters()}
    # the first group's rate is the one that is logged
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in network.parameters() if id(parameter) not in below]}
    ]
    if decay == 0:
        encoder.requires_grad_(False)
        return groups
    for depth, layer in enumerate(reversed(layers), start=1):
        groups.append({"params": list(layer.parameters()), RATE_SHARE: decay**depth})
    return groups
