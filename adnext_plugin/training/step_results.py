"""What training steps leave behind, read from the device once for many of them.

A GPU works through what it was told while the program is already telling it what comes next. Whoever reads a value
makes the program wait for all of that, so that the GPU then waits for the program.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import optim

from adnext_plugin.errors import AdnextError


def numbers(values: Sequence[torch.Tensor | float]) -> list[float]:
    """Scalars as numbers, in one copy where all are tensors of one device."""
    tensors = [value for value in values if isinstance(value, torch.Tensor)]
    if not tensors or len(tensors) < len(values):
        return [float(value) for value in values]
    return torch.stack([tensor.detach() for tensor in tensors]).tolist()


def on_cpu(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Outputs of steps with their tensors on the CPU."""
    return [
        {name: value.cpu() if isinstance(value, torch.Tensor) else value for name, value in output.items()}
        for output in outputs
    ]


def require_finite(losses: Sequence[float], epoch: int) -> None:
    """Make sure that a run may go on.

    Args:
        losses: of steps of the epoch.
        epoch: counted from 0, for the message.

    Raises:
        AdnextError: a loss is not finite.
    """
    for loss in losses:
        if not math.isfinite(loss):
            raise AdnextError(f"the loss became {loss} in epoch {epoch + 1}; lower the learning rate")


def load_optimizer(optimizer: optim.Optimizer, state: dict[str, Any]) -> None:
    """Put a saved state into an optimizer, which goes on computing as it was built to, on whatever device.

    Moments lie in memory as their parameter does, which need not be how they were saved: of others, PyTorch's fused
    optimizers pair values with those of another place on a CPU, and refuse them on a GPU.

    Args:
        optimizer: changed in place.
        state: of an optimizer that may have been built for another device; left as it is.
    """
    groups = [
        {**saved, **{name: own[name] for name in ("fused", "foreach") if name in own}}
        for saved, own in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})
    for parameter, saved in optimizer.state.items():
        for name, value in saved.items():
            is_moment = isinstance(value, torch.Tensor) and value.shape == parameter.shape
            if is_moment and value.stride() != parameter.stride():
                saved[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
