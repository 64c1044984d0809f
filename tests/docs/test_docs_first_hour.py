"""The page on the first hour shows what was printed, and the times that were measured."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "first_hour.md"
PLAYED = {
    path.stem.removeprefix("first_hour_"): json.loads(path.read_text())
    for path in sorted((ROOT / "benchmarks" / "results").glob("first_hour_*.json"))
}


def _sections() -> dict[str, str]:
    """Text below each heading that names a cohort, by the cohort."""
    parts = re.split(r"^## .*?\b(oasis1|ds000011)\b.*$", PAGE.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_every_cohort_that_was_played_is_on_the_page() -> None:
    assert PLAYED and set(_sections()) == set(PLAYED)


@pytest.mark.parametrize("cohort", PLAYED)
def test_what_the_page_shows_was_printed_by_the_command_above_it(cohort: str) -> None:
    printed = {step["command"]: step["output"] for step in PLAYED[cohort]["steps"]}
    blocks = re.findall(r"^```text\n\$ (.*)\n(.*?)^```$", _sections()[cohort], re.DOTALL | re.MULTILINE)
    assert blocks
    for command, shown in blocks:
        lines = [line for line in shown.splitlines() if line != "[...]"]
        assert [line for line in lines if line not in printed[command]] == []


@pytest.mark.parametrize("cohort", PLAYED)
def test_the_times_are_those_that_were_measured(cohort: str) -> None:
    rows = re.findall(r"^\| `(.*?)` \| (\d+) \| (\d+) \|", _sections()[cohort], re.MULTILINE)
    expected = [
        (step["command"].split()[0], f"{step['seconds']:.0f}", f"{step['cpu_seconds']:.0f}")
        for step in PLAYED[cohort]["steps"]
    ]
    assert rows == expected
