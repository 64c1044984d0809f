"""What no file of the package may contain, found in its syntax."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import adnext_plugin

PACKAGE = Path(adnext_plugin.__file__).parent
PICKLES = "case_properties.py"  # the one reader of pickles, which follows no instruction in them


def _unsafe_calls(source: str, name: str = "a.py") -> Iterator[str]:
    """Calls that may run what a file or a text says."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module in ("pickle", "cPickle", "dill", "joblib", "cloudpickle"):
            yield f"{name}:{node.lineno} from {node.module}"
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        unsafe = (
            called in ("eval", "exec", "compile", "__import__", "os.system", "os.popen", "joblib.load", "shelve.open")
            or called.split(".")[0] in ("dill", "cloudpickle", "marshal")
            or (called.startswith("pickle.") and called != "pickle.dumps")
            or called.endswith(("read_pickle", "yaml.load", "yaml.unsafe_load", "yaml.full_load"))
            or (called.endswith("torch.load") and options.get("weights_only") != "True")
            or (called in ("np.load", "numpy.load") and options.get("allow_pickle", "False") != "False")
            or options.get("shell", "False") != "False"
        )
        if unsafe:
            yield f"{name}:{node.lineno} {called}"


def test_nothing_in_the_package_runs_what_a_file_says() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        found += _unsafe_calls(path.read_text(), str(path.relative_to(PACKAGE)))
    # subclassing the unpickler is how the reader of case properties refuses everything but plain data
    assert [call for call in found if not call.startswith(f"{PICKLES}:") or "UnpicklingError" not in call] == []
    classes = [
        f"{path.relative_to(PACKAGE)}: {base}"
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        for base in map(ast.unparse, node.bases)
        if "Unpickler" in base
    ]
    assert classes == [f"{PICKLES}: pickle.Unpickler"]


@pytest.mark.parametrize(
    "line",
    [
        "pickle.load(file)",
        "pickle.loads(data)",
        "pickle.Unpickler(file).load()",
        "from pickle import loads",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "pd.read_pickle(path)",
        "subprocess.run(text, shell=True)",
        "yaml.load(text)",
        "eval(text)",
        "exec(text)",
    ],
)
def test_the_search_sees(line) -> None:
    assert list(_unsafe_calls(line))


@pytest.mark.parametrize(
    "line",
    ["network.eval()", "pickle.dumps(x)", "torch.load(path, weights_only=True)", "np.load(path)", "json.loads(x)"],
)
def test_the_search_leaves_alone(line) -> None:
    assert not list(_unsafe_calls(line))
