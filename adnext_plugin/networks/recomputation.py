"""Memory for time: parts of a network forget what is inside them, and compute it again for the backward pass."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

USE_CHECKPOINT = "use_checkpoint"  # what MONAI's transformers have for it


class MayRecompute(nn.Module):
    """A part of a network that sends what passes it through its layers by `through`."""

    recompute = False

    def through(self, layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        """What a layer makes of x; with `recompute` only x itself is kept for the backward pass."""
        if self.recompute and self.training and torch.is_grad_enabled():
            return checkpoint(layer, x, use_reentrant=False)
        return layer(x)


def parts_computed_again(network: nn.Module) -> list[MayRecompute]:
    """The parts of a network that have been told to compute their insides again."""
    return [module for module in network.modules() if isinstance(module, MayRecompute) and module.recompute]


@contextmanager
def layers_watched(network: nn.Module, watch: Callable[[nn.Module, torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """Let a function pass on what goes through layers that would be computed again."""
    parts = parts_computed_again(network)
    try:
        for part in parts:
            vars(part)["through"] = watch
        yield
    finally:
        for part in parts:
            vars(part).pop("through", None)


def recompute_in(network: nn.Module) -> int:
    """Have every part of a network that can do so compute its insides again; how many there are."""
    parts = 0
    for module in network.modules():
        if isinstance(module, MayRecompute):
            module.recompute = True
        elif hasattr(module, USE_CHECKPOINT):
            setattr(module, USE_CHECKPOINT, True)
        else:
            continue
        parts += 1
    return parts


@contextmanager
def computing_again(network: nn.Module) -> Iterator[int]:
    """Let a network compute parts of itself again for a while; how many are asked to that did not do so before."""
    names = {
        module: "recompute" if isinstance(module, MayRecompute) else USE_CHECKPOINT for module in network.modules()
    }
    before = {module: getattr(module, name) for module, name in names.items() if hasattr(module, name)}
    try:
        recompute_in(network)
        yield sum(not is_on for is_on in before.values())
    finally:
        for module, is_on in before.items():
            setattr(module, names[module], is_on)
