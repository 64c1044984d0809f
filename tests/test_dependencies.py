"""What is declared is what is imported."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import adnext_plugin

PACKAGE = Path(adnext_plugin.__file__).parent
PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
BY_OTHERS = {"openpyxl", "tensorboard"}  # pandas imports it to read XLSX tables, torch to write curves
# triton comes with torch where there is a GPU for it; MinkowskiEngine is used where somebody has built it; for types
NOT_TO_DECLARE = {"triton", "minkowskiengine", "typeshed"}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _declared(requirements: list[str]) -> set[str]:
    return {_normal(re.match(r"[\w.-]+", requirement).group()) for requirement in requirements}


def _imported(source: str) -> set[str]:
    """Top-level modules of a file's imports, those inside functions included."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found.add(node.module.partition(".")[0])
    return found - sys.stdlib_module_names - {"adnext_plugin"}


def test_packages_that_are_imported_are_declared_and_the_other_way_round() -> None:
    modules = set().union(*(_imported(path.read_text()) for path in PACKAGE.rglob("*.py")))
    distributions = packages_distributions()
    imported = {_normal(distributions.get(module, [module.strip("_")])[0]) for module in modules} - NOT_TO_DECLARE
    always = _declared(PROJECT["dependencies"])
    extras = PROJECT["optional-dependencies"]
    optional = set().union(*(_declared(extras[name]) for name in extras if name not in ("test", "docs", "dev")))
    assert imported - always - optional == set()
    assert (always | optional) - imported - BY_OTHERS == set()


def test_the_versions_that_belong_together_are_of_every_package_and_within_bounds() -> None:
    lines = (Path(__file__).parents[1] / "constraints.txt").read_text().splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    versions = {_normal(one.name): next(iter(one.specifier)).version for one in pinned}
    for requirement in map(Requirement, PROJECT["dependencies"]):
        assert requirement.specifier.contains(versions[_normal(requirement.name)]), requirement


@pytest.mark.parametrize(
    ("line", "module"),
    [("import a.b as c", "a"), ("from a.b import c", "a"), ("def f():\n    import a", "a"), ("from . import a", None)],
)
def test_imports_are_seen_wherever_they_stand(line: str, module: str | None) -> None:
    assert _imported(line) == ({module} if module else set())
