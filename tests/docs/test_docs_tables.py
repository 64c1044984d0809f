"""Tables that repeat what the code says say the same."""

import inspect
import json
import re
from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import pytest

from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.records import to_json
from adnext_plugin.registry import NETWORKS
from adnext_plugin.settings import PretrainingSettings, RunSettings, TrainerSettings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def _rows(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, without its header."""
    section = f"\n{page.read_text()}".split(f"\n{heading}\n", 1)[1]
    table = re.search(r"^\|.*(?:\n\|.*)+", section, re.MULTILINE).group()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in table.splitlines()[2:]]


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


SETTINGS_TABLES = {
    "## Every run": (RunSettings, ()),
    "## Labelled tasks": (TrainerSettings, RunSettings),
    "## Pre-training": (PretrainingSettings, RunSettings),
    "## Preprocessing": (PreprocessingSettings, ()),
}


@pytest.mark.parametrize("heading", SETTINGS_TABLES)
def test_the_tables_of_settings_have_every_setting_with_its_default(heading: str) -> None:
    settings, general = SETTINGS_TABLES[heading]
    inherited = to_json(general()) if general else {}
    expected = {
        name: value for name, value in to_json(settings()).items() if name not in inherited or inherited[name] != value
    }
    rows = _rows(DOCS / "settings.md", heading)
    assert {_code(name)[0]: json.loads(_code(default)[0]) for name, default, _ in rows} == expected
    assert len(rows) == len(expected)


def _networks() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=NETWORKS) if entry.module.startswith("adnext_plugin.")}


def _names(cell: str) -> list[str]:
    """`adnext_t`, `_s` are two names: one that begins with an underscore goes on from the first up to its last one."""
    first, *others = _code(cell)
    stem = first.rpartition("_")[0]
    return [first, *(stem + other if other.startswith("_") else other for other in others)]


def _network_rows() -> Iterator[tuple[list[str], list[str]]]:
    for cells in _rows(DOCS / "networks.md", "# Networks"):
        yield _names(cells[0]), cells


def test_the_table_of_networks_has_every_network_once() -> None:
    assert sorted(name for names, _ in _network_rows() for name in names) == sorted(_networks())


def test_the_table_of_networks_has_every_option() -> None:
    for names, cells in _network_rows():
        for name in names:
            parameters = inspect.signature(_networks()[name].load()).parameters.values()
            options = [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]
            assert _code(cells[-1]) == options, name
