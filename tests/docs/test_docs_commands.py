"""Commands that README and docs show exist, with the options and settings that are shown."""

import contextlib
import io
import re
import shlex
from dataclasses import fields
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from adnext_plugin.registry import NETWORKS, OBJECTIVES, load_all
from adnext_plugin.settings import (
    LinearSettings,
    PretrainingSettings,
    ProbeSettings,
    SegmentationSettings,
    TrainerSettings,
)

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMANDS = {
    entry.name: entry
    for entry in entry_points(group="console_scripts")
    if entry.module.startswith("adnext_plugin.") or entry.name.startswith("adnext_")
}
CPP_COMMANDS = re.findall(r"add_executable\((\w+)", (ROOT / "deploy" / "cpp" / "CMakeLists.txt").read_text())
NETWORK_NAMES = {entry.name for entry in entry_points(group=NETWORKS)}
OPTIONS = [objective.options_type for objective in load_all(OBJECTIVES).values()]
RECORDS = (TrainerSettings, SegmentationSettings, LinearSettings, ProbeSettings, PretrainingSettings, *OPTIONS)
SETTINGS = {field.name for record in RECORDS for field in fields(record)}
OPTION = re.compile(r"(?<![\w-])--?[a-zA-Z][\w-]*")


def _shown(page: Path) -> list[list[str]]:
    """Words of every command line of a page, from its blocks and from its sentences."""
    text = page.read_text()
    blocks = re.findall(r"^```bash\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    sentences = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    lines += [code for code in re.findall(r"`([^`\n]+)`", sentences) if code.startswith("adnext_")]
    words = [shlex.split(line, comments=True) for line in lines]
    return [line for line in words if line and line[0].startswith("adnext_") and line[0] != "adnext_plugin"]


@cache
def _options(command: str) -> frozenset[str]:
    """What a command's `--help` names."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        COMMANDS[command].load()(["--help"])
    return frozenset(OPTION.findall(said.getvalue()))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_that_a_page_shows_exist_with_their_options(page: Path) -> None:
    for command, *words in _shown(page):
        if command in {*NETWORK_NAMES, *CPP_COMMANDS} or re.search(r"[/.(]|_$", command):
            continue  # a network, a program in C++, or a file, a folder or a function
        assert command in COMMANDS, f"{page.name} shows {command}"
        unknown = [word for word in words if OPTION.fullmatch(word) and word not in _options(command)]
        assert not unknown, f"{page.name} shows {command} with {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_settings_that_a_page_sets_exist(page: Path) -> None:
    shown = re.findall(r"--set '?(\w+)=", page.read_text())
    assert set(shown) - SETTINGS - {"NAME"} == set()


def test_every_command_is_shown_on_some_page() -> None:
    text = " ".join(page.read_text() for page in PAGES)
    assert [command for command in COMMANDS if not re.search(rf"\b{command}\b", text)] == []
