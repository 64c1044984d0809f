"""Names of tensors without what wrappers of a network put before them."""

from collections.abc import Mapping
from typing import TypeVar

Value = TypeVar("Value")

COMPILED = "_orig_mod"  # torch.compile, around a network or a part of it
PARALLEL = "module"  # DataParallel and DistributedDataParallel, around a network


def without_wrappers(weights: Mapping[str, Value]) -> dict[str, Value]:
    """The same tensors under the names that the network itself gives them.

    A network that has a part of its own that is called `module` keeps it.

    Args:
        weights: content of a `state_dict`, perhaps of a compiled or a parallel network.
    """
    found = {_joined(part for part in _parts(name) if part != COMPILED): value for name, value in weights.items()}
    while found and all(_parts(name)[0] == PARALLEL for name in found):
        found = {_joined(_parts(name)[1:]): value for name, value in found.items()}
    return found


def _parts(name: str) -> list[str]:
    return name.split(".")


_joined = ".".join
