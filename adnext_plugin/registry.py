"""Looking things up by name. Anything installed may add to an entry-point group; nothing is imported to list names.

A package adds by one line in its entry points, `name = module:object`. What a group's objects must look like is said
where they are used: trainers in `trainers.lifecycle`, networks in `networks.build`, augmentations in
`data.augmentation`, objectives of pre-training in `pretraining.objective`, and so on.
"""

import warnings
from collections import defaultdict
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from adnext_plugin.errors import AdnextWarning, RegistryError, UnknownNameError, nearest_names

TRAINERS = "adnext.trainers"
NETWORKS = "adnext.networks"
AUGMENTATIONS = "adnext.augmentations"
OBJECTIVES = "adnext.objectives"
STEPS = "adnext.steps"
EXPLANATIONS = "adnext.explanations"
SCORES = "adnext.scores"
WEIGHT_SOURCES = "adnext.weight_sources"
GROUPS = (TRAINERS, NETWORKS, AUGMENTATIONS, OBJECTIVES, STEPS, EXPLANATIONS, SCORES, WEIGHT_SOURCES)


def registered_names(group: str) -> list[str]:
    """Names in a group, sorted; nothing is imported."""
    return sorted(_entries(group))


def brought_by(group: str, name: str) -> tuple[str, ...]:
    """Packages that declare a name, sorted: one, none, or several whose names clash."""
    return tuple(sorted({_package(entry) for entry in _entries(group).get(name, ())}))


def module_of(group: str, name: str) -> str:
    """Module that a name is declared to lie in; "" for none, or where several packages claim the name."""
    entries = _entries(group).get(name, [])
    return entries[0].module if len(entries) == 1 else ""


def load(group: str, name: str) -> Any:
    """Import what is registered under a name.

    Raises:
        UnknownNameError: nothing is; the message suggests the nearest name.
        RegistryError: two packages claim the name, or the one that does cannot be imported.
    """
    entries = _entries(group)
    if name not in entries:
        raise UnknownNameError(
            f"no {kind_of(group)} {name!r}{nearest_names(name, entries)} "
            "(if you have just declared it in entry_points.txt, reinstall: pip install -e .)"
        )
    return _import(group, entries[name])


def load_all(group: str) -> dict[str, Any]:
    """Import everything in a group, by name, sorted; what cannot be imported is left out with a warning.

    Raises:
        RegistryError: two packages claim one name: leaving out either would change what the name means.
    """
    found = {}
    for name, entries in sorted(_entries(group).items()):
        _refuse_clash(group, entries)
        try:
            found[name] = _import(group, entries)
        except RegistryError as error:
            warnings.warn(f"{error}; going on without it", AdnextWarning, stacklevel=2)
    return found


def kind_of(group: str) -> str:
    """What one thing of a group is called in messages."""
    return group.rpartition(".")[2].removesuffix("s")


def _entries(group: str) -> dict[str, list[EntryPoint]]:
    found = defaultdict(list)
    for entry in entry_points(group=group):
        found[entry.name].append(entry)
    return dict(found)


def _package(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.module.partition(".")[0]


def _refuse_clash(group: str, entries: list[EntryPoint]) -> None:
    if len(entries) > 1:
        claims = " and ".join(sorted(f"{_package(entry)} ({entry.value})" for entry in entries))
        raise RegistryError(
            f"the {kind_of(group)} {entries[0].name!r} is declared by {claims}; uninstall one, or rename its entry"
        )


def _import(group: str, entries: list[EntryPoint]) -> Any:
    _refuse_clash(group, entries)
    (entry,) = entries
    what = f"{kind_of(group)} {entry.name!r} of the package {_package(entry)}"
    if not entry.attr:
        raise RegistryError(f"{what} is declared as the module {entry.value}; declare it as {entry.module}:OBJECT")
    try:
        return entry.load()
    except Exception as error:  # what an import runs is another's code and may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise RegistryError(f"{what} cannot be imported from {entry.value} ({reason})") from error
