"""The table of methods of explanation has every method and setting."""

import re
from dataclasses import fields
from pathlib import Path

from adnext_plugin.registry import EXPLANATIONS, load_all

PAGE = (Path(__file__).parents[2] / "docs" / "explanations.md").read_text()


def test_the_table_of_methods_has_every_method_with_all_its_settings() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \| [^|]+ \|$", PAGE, re.MULTILINE)
    shown = {name: re.findall(r"`(\w+)`", settings) for name, settings in rows}
    known = {
        name: [one.name for one in fields(method.settings_type)] for name, method in load_all(EXPLANATIONS).items()
    }
    assert shown == known
