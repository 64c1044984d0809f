"""Trainers by name, and whether they take the settings that were asked for."""

from collections.abc import Mapping
from typing import Any


def find_trainer(name: str) -> type:
    """A trainer by name: ours, nnU-Net's, or one in a folder of `nnUNet_extTrainer`.

    Raises:
        UnknownNameError: there is none; names the nearest.
    """
    from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

    from adnext_plugin.registry import TRAINERS, load, registered_names

    if name not in registered_names(TRAINERS):
        try:
            return recursive_find_trainer_class_by_name(name)
        except RuntimeError:
            pass  # the lookup below says which name comes nearest
    return load(TRAINERS, name)


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
