"""Files for people and machines outside: how to cite, and the recipe for other systems."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
yaml = pytest.importorskip("yaml")


def test_the_citation_is_of_this_version_and_has_what_its_format_needs() -> None:
    content = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {"cff-version", "message", "title", "authors"} <= content.keys() and content["cff-version"] == "1.2.0"
    assert (content["title"], content["version"]) == (project["name"], project["version"])
    assert content["license"] == project["license"] and content["type"] == "software"
    assert all({"name", "family-names"} & author.keys() for author in content["authors"])


def test_the_recipe_for_other_systems_installs_the_package_and_runs_tests_that_exist() -> None:
    content = yaml.safe_load((ROOT / ".github" / "workflows" / "other_systems.yml").read_text())
    (job,) = content["jobs"].values()
    assert set(job["strategy"]["matrix"]["system"]) == {"windows-latest", "macos-latest"}
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert any(command.endswith('pip install ".[test]"') for command in commands)
    (tests,) = [command for command in commands if "pytest" in command]
    paths = [word for word in tests.split() if word.startswith("tests/")]
    assert len(paths) > 5 and [path for path in paths if not (ROOT / path).exists()] == []
