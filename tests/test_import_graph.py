"""No module of the package needs itself by a detour; the contract of layers would allow that within a layer."""

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

import adnext_plugin

PACKAGE = Path(adnext_plugin.__file__).parent


def _circle(imports: dict[str, set[str]]) -> list[str] | None:
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        return list(error.args[1])
    return None


def test_no_module_imports_itself_by_a_detour_not_even_inside_a_function() -> None:
    graph = grimp.build_graph("adnext_plugin", exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    # an import inside a function, so that an empty answer cannot come from looking at modules' heads alone
    assert "adnext_plugin.cohort" in imports["adnext_plugin.workflows.evaluate"]
    assert sum(len(found) for found in imports.values()) > 500
    assert _circle(imports) is None


@pytest.mark.parametrize(
    "imports",
    [
        {"a": {"b"}, "b": {"a"}},
        {"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}},
    ],
)
def test_a_circle_would_be_found(imports: dict[str, set[str]]) -> None:
    found = _circle(imports)
    assert found is not None and set(found) <= {"a", "b", "c"} and found[0] == found[-1]


def test_use_cases_print_nothing_themselves() -> None:
    modules = sorted((PACKAGE / "workflows").glob("*.py"))
    printing = [
        f"{path.name}, line {node.lineno}"
        for path in modules
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Name) and node.id == "print"
    ]
    assert len(modules) > 8 and printing == []
