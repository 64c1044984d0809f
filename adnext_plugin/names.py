"""Names from files and command lines that become names of files and folders: checked once, where they are read."""

import os
import re
import unicodedata
from typing import Any

from adnext_plugin.errors import SettingsError

LONGEST_BYTES = 240  # file systems take 255, of which the endings of our files take some
DIGITS = re.compile(r"[0-9]{1,18}")
# no file on Windows has such a name, with whatever ending
DEVICES = frozenset(
    ("CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10)))
)
SEPARATORS = "/\\"  # of this system and of those that a dataset may be moved to


def problem_of_file_name(name: Any) -> str:
    """Why a name cannot be one of a file or folder, to follow it in a message; "" where it can."""
    if not isinstance(name, str):
        return "is no text"
    if not name:
        return "is empty"
    if name in (".", ".."):
        return "is not a name but a folder"
    if any(character in SEPARATORS for character in name):
        return "holds a separator of folders"
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        return "holds a character that no name of a file has"
    if os.name == "nt" and (problem := _problem_on_windows(name)):
        return problem
    if len(name.encode()) > LONGEST_BYTES:
        return f"has more than {LONGEST_BYTES} bytes"
    return ""


def _problem_on_windows(name: str) -> str:
    if any(character in '<>:"|?*' for character in name):
        return 'holds one of <>:"|?*, which no name on Windows has'
    if name[-1] in ". ":
        return "ends with a dot or a space, which Windows drops"
    return "is a device of Windows" if name.partition(".")[0].rstrip().upper() in DEVICES else ""


def require_file_name(name: Any, what: str) -> str:
    """Return a name that can be one of a file or folder.

    Args:
        name: as it was read.
        what: whose name it is and where it stands, for the message.

    Raises:
        SettingsError: it cannot: it would lead to another folder, or is too long.
    """
    if problem := problem_of_file_name(name):
        shown = name if not isinstance(name, str) or len(name) <= 60 else f"{name[:60]}..."
        raise SettingsError(f"{what} {problem}, got {shown!r}; give a plain name, without folders")
    return name


def names_in(text: str) -> tuple[str, ...]:
    """The names in a text, between commas; spaces around them and empty ones are left out."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def whole_number(text: str) -> int | None:
    """The number that a text is; None unless it is up to 18 ASCII digits.

    `str.isdigit` also says yes to "²", which `int` refuses, as it does more than 4,300 digits.
    """
    return int(text) if DIGITS.fullmatch(text) else None
