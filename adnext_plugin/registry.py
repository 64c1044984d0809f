"""Looking up trainers and networks by name. Anything installed may add to the two entry-point groups."""

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Any

from adnext_plugin.errors import UnknownNameError, nearest_names

TRAINERS = "adnext.trainers"
NETWORKS = "adnext.networks"


def registered_names(group: str) -> list[str]:
    """Names in a group, sorted; nothing is imported."""
    return sorted({entry.name for entry in entry_points(group=group)})


def load(group: str, name: str) -> Callable[..., Any]:
    """Import what is registered under a name.

    Raises:
        UnknownNameError: nothing is; the message suggests the nearest name.
    """
    matches = list(entry_points(group=group, name=name))
    if not matches:
        kind = group.rpartition(".")[2].removesuffix("s")
        raise UnknownNameError(
            f"no {kind} {name!r}{nearest_names(name, registered_names(group))} "
            "(if you have just declared it in entry_points.txt, reinstall: pip install -e .)"
        )
    return matches[0].load()
