"""How much memory of a GPU training takes: estimated before the first step, on tensors without data.

What a step keeps for its gradients is most of it. A forward pass of one scan under `FakeTensorMode`, which computes
shapes and no values, tells how much that is; it takes seconds and next to no memory. Weights, their gradients and the
two moments of Adam come on top.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adnext_plugin.environment import environment_with
from adnext_plugin.networks.recomputation import layers_watched
from adnext_plugin.settings import Precision
from adnext_plugin.training.precision import HALF

GIB = 2**30
BYTES_OF_PARAMETER = 16  # float32: the weight, its gradient, two moments
CASES = 2  # that are sent through a network to see what they leave, as batch norms want
SCRATCH = 1.1  # what kernels need besides while they run, of the rest


def kept_bytes(network: nn.Module, inputs: Sequence[tuple[int, ...]], precision: Precision) -> int:
    """What a forward pass of one case keeps for the gradient, weights apart.

    Of layers that are computed again it keeps their input, and in the backward pass the inside of one at a time.

    Args:
        network: in training mode, on any device; left as it is.
        inputs: shapes of its inputs for one case, without the axis of cases.
        precision: that it computes in.
    """

    def passed(network: nn.Module, device: torch.device) -> None:
        network(*[torch.empty(CASES, *shape, device=device) for shape in inputs])

    # with PyTorch's kernels, which keep what ours do
    with environment_with(ADNEXT_KERNELS="stock"):
        return kept_by(passed, network, precision)


def kept_by(
    passed: Callable[[nn.Module, torch.device], object],
    network: nn.Module,
    precision: Precision,
    device: torch.device = torch.device("cuda"),  # noqa: B008  immutable
) -> int:
    """What a forward pass of whatever kind keeps for the gradient, by one case.

    Args:
        passed: sends `CASES` cases through the network, as far as the loss if there is one. It makes its tensors on the
            device, where they have no values; what it computes on the CPU has.
        network: as of `kept_bytes`.
        precision: as of `kept_bytes`.
        device: on which would be computed; there need not be one.
    """
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if isinstance(tensor, FakeTensor):
            storage = tensor.untyped_storage()
            kept[storage._cdata] = storage
        return tensor

    inside, watch = [0], _ValuesOfCPU()

    def passed_again(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
        before = set(kept)
        y = layer(x)
        new = {key: kept.pop(key) for key in kept.keys() - before}
        inside.append(sum(storage.nbytes() for key, storage in new.items() if key not in watch.of_weights))
        keep(x)
        return y

    half, step = HALF.get(precision), _Step(network, passed)
    with FakeTensorMode(allow_non_fake_inputs=True), watch:
        state = {name: _without_data(tensor, device) for name, tensor in _state(step).items()}
        watch.of_weights |= {tensor.untyped_storage()._cdata for tensor in state.values()}
        with (
            torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
            layers_watched(network, passed_again),
            nullcontext() if half is None else torch.autocast(device.type, dtype=half),
        ):
            functional_call(step, state, (device,))
    for storage in watch.of_weights:
        kept.pop(storage, None)
    return (sum(storage.nbytes() for storage in kept.values()) + max(inside)) // CASES


def memory_line(
    what: str,
    needed_bytes: Sequence[int],
    free_bytes: int,
    first_parts: int = 1,
    *,
    recomputed_bytes: Sequence[int] = (),
    smallest_part: int = 1,
    smaller_batches: Sequence[tuple[int, int]] = (),
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
        smaller_batches: of a batch that cannot be cut into parts, smaller ones and what they need, the largest first.
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
    for size, needed in smaller_batches:
        if not fitting and needed <= free_bytes:
            fitting = [
                f"--set batch_size={size} needs {needed / GIB:.1f}. The loss compares the scans of a batch, so that a "
                "smaller one is another training"
            ]
    if not fitting:
        least = "one scan fits" if smallest_part == 1 else f"a part of {smallest_part} scans fits"
        if smaller_batches:
            least = f"a batch of {smaller_batches[-1][0]} scans fits"
        return f"WARNING: {line}. Not even {least}: take a smaller network or input"
    advice = ", or ".join(fitting)
    if smallest_part > 1 and any("accumulate" in way for way in fitting):
        advice += ". Its batch norm sees a part at a time, so that parts are another training than the whole batch"
    return f"WARNING: {line}. It will hardly fit: {advice}"


def needed_of_parts(network: nn.Module, kept: int, batch_size: int) -> list[int]:
    """Memory of a step whose batch goes through the network in 1, 2, ... parts, down to one case at a time.

    Args:
        network: whose weights are trained.
        kept: bytes for the gradient of one case, as of `kept_bytes`.
        batch_size: cases of the whole batch.
    """
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


class _Step(nn.Module):
    """A network and what is done with it, as a module, so that its weights can be replaced all the while."""

    def __init__(self, network: nn.Module, passed: Callable[[nn.Module, torch.device], object]) -> None:
        super().__init__()
        self.network = network
        self._passed = passed

    def forward(self, device: torch.device) -> object:
        return self._passed(self.network, device)


class _ValuesOfCPU(TorchDispatchMode):
    """Lets what is computed from tensors of the CPU with values, such as a mask, have values within `FakeTensorMode`.

    Masks are drawn and counted there, which a tensor without values cannot be. `of_weights` are the storages of weights
    and of their copies in 16 bits, of which there are as many for one case as for all.
    """

    def __init__(self) -> None:
        super().__init__()
        self.of_weights: set[int] = set()
        self.copies: list[torch.Tensor] = []  # held, so that no other storage is taken for one of them

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
        stays = torch.device(kwargs.get("device") or "cpu").type == "cpu"
        if tensors and stays and not any(isinstance(one, FakeTensor) for one in tensors):
            with unset_fake_temporarily():
                return func(*args, **kwargs)
        found = func(*args, **kwargs)
        if func is torch.ops.aten._to_copy.default and args[0].untyped_storage()._cdata in self.of_weights:
            self.copies.append(found)
            self.of_weights.add(found.untyped_storage()._cdata)
        return found


def _without_data(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    found = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=device)
    return found.requires_grad_(tensor.requires_grad)
