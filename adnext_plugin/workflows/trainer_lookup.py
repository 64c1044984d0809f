"""Trainers by name, and whether they take the settings that were asked for."""

import os
import re
from collections.abc import Mapping
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from adnext_plugin.environment import trainer_search_path
from adnext_plugin.errors import SettingsError, UnknownNameError, nearest_names
from adnext_plugin.nnunet_lookup import find_in_files
from adnext_plugin.registry import TRAINERS, load, module_of, registered_names
from adnext_plugin.settings import TrainerSettings

# where trainers lie that have no settings but `TrainerSettings`; those of pre-training also take options of objectives
PLAIN = re.compile(r"adnext_plugin\.trainers\.(labelled|variants\.(adnext|small|ablations|compared|published))")


def require_names(trainer: str, overrides: Mapping[str, Any]) -> None:
    """Check the names of a trainer and of its settings before anything is imported that takes seconds.

    Values, and settings of pre-training and of other packages' trainers, are left to `check_settings`.

    Raises:
        UnknownNameError: there is no such trainer; names the nearest.
        SettingsError: it is one of ours with the usual settings, and none is called so.
    """
    known = registered_names(TRAINERS)
    if trainer not in known and not _is_in_a_file(trainer):
        raise UnknownNameError(f"no trainer {trainer!r}{nearest_names(trainer, known)} (adnext_list trainers)")
    if not PLAIN.fullmatch(module_of(TRAINERS, trainer)):
        return
    settings = {field.name for field in fields(TrainerSettings)}
    for name in overrides:
        if name not in settings:
            raise SettingsError(f"--set: unknown key {name!r}{nearest_names(name, settings)}")


def _is_in_a_file(trainer: str) -> bool:
    """Whether nnU-Net or a folder of `nnUNet_extTrainer` has a class of that name, as nnU-Net will look for it."""
    spec = find_spec("nnunetv2")
    assert spec is not None and spec.submodule_search_locations is not None  # we depend on it
    folders = [Path(folder) / "training" / "nnUNetTrainer" for folder in spec.submodule_search_locations]
    folders += [Path(folder) for folder in trainer_search_path().split(os.pathsep)]
    declared = re.compile(rf"^class {re.escape(trainer)}\b|^{re.escape(trainer)}\s*=|\bas {re.escape(trainer)}\b", re.M)
    files = (path for folder in folders for path in folder.rglob("*.py"))
    return any(declared.search(path.read_text(encoding="utf-8", errors="replace")) for path in files)


def find_trainer(name: str) -> type:
    """A trainer by name: ours, nnU-Net's, or one in a folder of `nnUNet_extTrainer`.

    Raises:
        UnknownNameError: there is none; names the nearest.
    """
    found = None if name in registered_names(TRAINERS) else find_in_files(name)
    return found or load(TRAINERS, name)  # where there is none, it says which name comes nearest


def check_settings(trainer: type, overrides: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether the trainer is one of ours, and whether it is one for a labelled task.

    Raises:
        SettingsError: it is ours and has no such setting, or not with such a value.
    """
    from adnext_plugin.trainers.labelled import ADNeXtTrainer
    from adnext_plugin.trainers.lifecycle import RunTrainer

    if not issubclass(trainer, RunTrainer):
        return False, False
    trainer.settings_with((overrides, "--set"))
    return True, issubclass(trainer, ADNeXtTrainer)
