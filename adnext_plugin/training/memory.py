"""How much memory of a GPU training takes: estimated before the first step, on tensors without data.

What a step keeps for its gradients is most of it. A forward pass of one scan under `FakeTensorMode`, which computes
shapes and no values, tells how much that is; it takes seconds and next to no memory. Weights, their gradients and the
two moments of Adam come on top.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from adnext_plugin.environment import environment_with
from adnext_plugin.networks.recomputation import USE_CHECKPOINT, MayRecompute, layers_watched, recompute_in
from adnext_plugin.settings import Precision
from adnext_plugin.training.precision import HALF

GIB = 2**30
BYTES_OF_PARAMETER = 16  # float32: the weight, its gradient, two moments
SCRATCH = 1.1  # what kernels need besides while they run, of the rest


def kept_bytes(network: nn.Module, inputs: Sequence[tuple[int, ...]], precision: Precision) -> int:
    """What a forward pass of one case keeps for the gradient, weights apart.

    Of layers that are computed again it keeps their input, and in the backward pass the inside of one at a time.

    Args:
        network: in training mode, on any device; left as it is.
        inputs: shapes of its inputs for one case, without the axis of cases.
        precision: that it computes in.
    """
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage
        return tensor

    inside = [0]

    def passed_again(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        before = set(kept)
        y = layer(x)
        new = [kept.pop(key) for key in kept.keys() - before]
        inside.append(sum(storage.nbytes() for storage in new))
        keep(x)
        return y

    half = HALF.get(precision)
    # two cases, as batch norms want; kernels of our own need values
    with FakeTensorMode(allow_non_fake_inputs=True), environment_with(ADNEXT_KERNELS="stock"):
        state = {name: _on_gpu(tensor) for name, tensor in _state(network).items()}
        images = [torch.empty(2, *shape, device="cuda") for shape in inputs]
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            layers_watched(network, passed_again),
            nullcontext() if half is None else torch.autocast("cuda", dtype=half),
        ):
            functional_call(network, state, tuple(images))
    for tensor in state.values():
        kept.pop(tensor.untyped_storage()._cdata, None)
    return (sum(storage.nbytes() for storage in kept.values()) + max(inside)) // 2


def memory_line(
    what: str,
    needed_bytes: Sequence[int],
    free_bytes: int,
    first_parts: int = 1,
    *,
    recomputed_bytes: Sequence[int] = (),
    smallest_part: int = 1,
) -> str:
    """What a step is estimated to need and what there is, with advice where it hardly fits.

    Args:
        what: network, batch, input and precision in words.
        needed_bytes: of a batch in `first_parts` parts, and in one, two, ... more, as many as can be advised.
        free_bytes: of the GPU.
        first_parts: in which a batch goes through the network.
        recomputed_bytes: the like with `recompute`; empty where the network cannot, or already does.
        smallest_part: scans that a part must have, more than 1 of networks with batch norm: to them, parts are
            another training.
    """
    line = f"{what}: about {needed_bytes[0] / GIB:.1f} GiB of the GPU's memory; {free_bytes / GIB:.1f} GiB are free"
    if needed_bytes[0] <= free_bytes:
        return line
    again = "--set recompute=true"
    ways = [
        _in_parts("", needed_bytes, free_bytes, first_parts),
        f"{again} needs {recomputed_bytes[0] / GIB:.1f}"
        if recomputed_bytes and recomputed_bytes[0] <= free_bytes
        else None,
    ]
    if ways == [None, None]:
        ways = [_in_parts(f"{again} ", recomputed_bytes, free_bytes, first_parts)]
    fitting = [way for way in ways if way is not None]
    if not fitting:
        least = "one scan fits" if smallest_part == 1 else f"a part of {smallest_part} scans fits"
        return f"WARNING: {line}. Not even {least}: take a smaller network or input"
    advice = ", or ".join(fitting)
    if smallest_part > 1 and any("accumulate" in way for way in fitting):
        advice += ". Its batch norm sees a part at a time, so that parts are another training than the whole batch"
    return f"WARNING: {line}. It will hardly fit: {advice}"


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


def needed_of_parts(
    network: nn.Module, inputs: Sequence[tuple[int, ...]], precision: Precision, batch_size: int
) -> list[int]:
    """Memory of a step whose batch goes through the network in 1, 2, ... parts, down to one case at a time."""
    kept = kept_bytes(network, inputs, precision)
    fixed = BYTES_OF_PARAMETER * sum(parameter.numel() for parameter in network.parameters())
    sizes = [math.ceil(batch_size / parts) for parts in range(1, batch_size + 1)]
    return [int(SCRATCH * (size * kept + fixed)) for size in sizes]


def _in_parts(before: str, needed_bytes: Sequence[int], free_bytes: int, first_parts: int) -> str | None:
    """The fewest parts that fit, as advice."""
    for parts, needed in enumerate(needed_bytes, start=first_parts):
        if needed <= free_bytes:
            return f"{before}--set accumulate={parts} needs {needed / GIB:.1f}"
    return None


def _state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _on_gpu(tensor: torch.Tensor) -> Any:
    found = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cuda")
    return found.requires_grad_(tensor.requires_grad)
