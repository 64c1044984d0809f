"""Trainers from a table: those that differ from another in network or settings alone, and are many.

A module of such a table hands its trainers out by name, as if each had been written down as a class:

    TRAINERS = trainers_of(ADNeXtTrainer, __name__, {"ADNeXtTrainer_T": Row(what="...", network=...)})

    def __getattr__(name: str) -> type[ADNeXtTrainer]:
        return trainer_in(TRAINERS, __name__, name)

so that `from ... import ADNeXtTrainer_T`, an entry point, pickle and nnU-Net's search all find one and the same class.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from adnext_plugin.plan import NetworkSettings
from adnext_plugin.settings import RunSettings
from adnext_plugin.trainers.lifecycle import RunTrainer

TrainerType = TypeVar("TrainerType", bound=RunTrainer)

SIZES = {"T": 0.76, "S": 3.7, "B": 24, "L": 71}  # of AD-NeXt, millions of parameters


@dataclass(frozen=True, kw_only=True)
class Row:
    """One trainer: what it is, in a sentence, and what is not as in the class it derives from."""

    what: str
    network: NetworkSettings | None = None
    settings: RunSettings | None = None


def trainers_of(base: type[TrainerType], module: str, rows: Mapping[str, Row]) -> dict[str, type[TrainerType]]:
    """Make the classes of a table.

    Args:
        base: the class all derive from.
        module: name of the module that hands them out.
        rows: by the classes' names.
    """
    return {name: _trainer(base, module, name, row) for name, row in rows.items()}


def trainer_in(trainers: Mapping[str, type[TrainerType]], module: str, name: str) -> type[TrainerType]:
    """What a module's `__getattr__` answers.

    Raises:
        AttributeError: no trainer of that name, in Python's own words.
    """
    if name not in trainers:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    return trainers[name]


def adnext(size: str, **options: Any) -> NetworkSettings:
    """AD-NeXt of a size."""
    return NetworkSettings(name=f"adnext_{size.lower()}", options=options)


def _trainer(base: type[TrainerType], module: str, name: str, row: Row) -> type[TrainerType]:
    members: dict[str, Any] = {"__doc__": row.what, "__module__": module, "__qualname__": name}
    if row.network is not None:
        members["network_settings"] = row.network
    if row.settings is not None:
        members["settings"] = row.settings
    return type(name, (base,), members)
