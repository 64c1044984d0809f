"""The shipped plan presets, and users' own."""

from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from adnext_plugin.errors import UnknownNameError, nearest_names
from adnext_plugin.files import read_object
from adnext_plugin.plan import Plan
from adnext_plugin.records import from_json, with_overrides

FOLDER = files("adnext_plugin.plans") / "presets"


def preset_names() -> list[str]:
    """Names of the shipped presets."""
    return sorted(Path(entry.name).stem for entry in FOLDER.iterdir() if entry.name.endswith(".json"))


def load_preset(name_or_file: str, preprocessing: dict[str, Any]) -> Plan:
    """Read a preset and change some of its preprocessing settings.

    Args:
        name_or_file: a shipped preset's name, or a JSON file with (some of) the keys of one.
        preprocessing: fields of `PreprocessingSettings` to use instead of the preset's.

    Raises:
        UnknownNameError: neither a preset nor a file.
        SettingsError: unknown keys or impossible values.
    """
    path = Path(name_or_file)
    if name_or_file in preset_names():
        path = Path(str(FOLDER / f"{name_or_file}.json"))
    elif not path.is_file():
        raise UnknownNameError(f"no preset or file {name_or_file!r}{nearest_names(name_or_file, preset_names())}")
    plan = from_json(Plan, read_object(path), str(path))
    return change_preprocessing(plan, preprocessing)


def change_preprocessing(plan: Plan, preprocessing: Mapping[str, Any]) -> Plan:
    """The plan with some fields of its `PreprocessingSettings` replaced.

    Raises:
        SettingsError: unknown keys or impossible values.
    """
    return replace(plan, preprocessing=with_overrides(plan.preprocessing, preprocessing, "the command line"))
