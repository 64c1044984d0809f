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


NAMES_OF_A_RUN = (
    *("crossval_results", "checkpoint_final", "checkpoint_best", "checkpoint_latest", "fold_all", "inflation_meter/"),
    *("summary.json", "metrics.json", "run.json", "pretraining_data.json", "report.html"),
    *("roc.png", "confusion.png", "predicted.png"),
)
WHERE_THEY_ARE_SAID = {
    "run_folder.py": "names every file of a run",
    "prediction/bundle.py": "names the files of a bundle, fold_0.safetensors",
    "prediction/archive.py": "the same",
    "training/adaptation.py": "names the files that nnU-Net looks for in a folder of the hub",
    "report/html.py": "renders the template report.html.j2",
}


def _paths_by_heart(source: str) -> Iterator[tuple[int, str]]:
    """Texts that are the name of something in a run's folder. Messages, help and docstrings may speak of them."""
    tree = ast.parse(source)
    documentation = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
            text = node.value
            is_name = " " not in text and any(text.removesuffix(".pth") == name for name in NAMES_OF_A_RUN)
            if is_name or text == "fold_" or text.startswith("fold_*"):
                yield node.lineno, text


def test_only_the_folder_of_a_run_knows_what_its_files_are_called() -> None:
    found = [
        f"{path.relative_to(PACKAGE)}:{line} {text!r}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if str(path.relative_to(PACKAGE)) not in WHERE_THEY_ARE_SAID
        for line, text in _paths_by_heart(path.read_text())
    ]
    assert found == []


@pytest.mark.parametrize(
    ("line", "is_one"),
    [
        ('run / "crossval_results"', True),
        ('run / f"fold_{fold}"', True),
        ('folder / "checkpoint_best.pth"', True),
        ('run.glob("fold_*")', True),
        ('help="default: crossval_results/report.html"', False),
        ('"train until there is a checkpoint_final.pth"', False),
    ],
)
def test_the_search_for_names_sees_paths_and_leaves_sentences(line, is_one) -> None:
    assert bool(list(_paths_by_heart(f"f({line})"))) == is_one
