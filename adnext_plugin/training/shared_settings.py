"""Settings as written beside weights, which people share: without paths of a machine and what was said of people.

Of the file that a run began with its name and SHA-256 are kept, which tell whether two runs began alike. Of a reason to
skip the audit, or to take equal ids for different people, it is kept that there was one; `reasons.log` beside the
preprocessed data has the text.
"""

import re
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from adnext_plugin.builtin.weights import name_of_file, weights_file
from adnext_plugin.images import file_sha256
from adnext_plugin.settings import REASON_GIVEN, REASONS, RunSettings

SettingsType = TypeVar("SettingsType", bound=RunSettings)

WEIGHTS = "pretrained_weights"
NOT_KNOWN = "not known"
FILE = re.compile(rf"[^/\\]+, SHA-256 ([0-9a-f]{{64}}|{NOT_KNOWN})")


def shared(settings: SettingsType, fold: int | str) -> SettingsType:
    """The settings to write into checkpoints, plans and `run.json`; those that are shared already stay as they are.

    Args:
        settings: as they were asked for, or read from a checkpoint, also of an earlier version.
        fold: which the run is of: "{fold}" in the name of a file stands for it.
    """
    values = {name: getattr(settings, name, None) for name in (*REASONS, WEIGHTS)}
    changes: dict[str, Any] = {
        name: shared_value(name, value, fold) for name, value in values.items() if value is not None
    }
    return replace(settings, **changes) if changes else settings


def shared_value(name: str, value: Any, fold: int | str) -> Any:
    """The value of a setting as `shared` has it."""
    if value is None or name not in (*REASONS, WEIGHTS):
        return value
    return REASON_GIVEN if name in REASONS else _file(str(value), fold)


def _file(path: str, fold: int | str) -> str:
    if FILE.fullmatch(path):
        return path
    file = weights_file(path, fold)
    try:
        known = file.stat()
        digest = _digest(file, known.st_size, known.st_mtime_ns)
    except OSError:  # of a run of an earlier version, whose first weights have gone since
        digest = NOT_KNOWN
    return f"{name_of_file(file)}, SHA-256 {digest}"


@lru_cache(maxsize=64)
def _digest(file: Path, _size: int, _modified_ns: int) -> str:
    return file_sha256(file)
