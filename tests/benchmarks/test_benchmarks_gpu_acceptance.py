"""The acceptance benchmark for GPUs runs all of its parts on a CPU, and a part that fails hides no other."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def acceptance(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("gpu_acceptance")


def test_every_part_runs_on_a_cpu(acceptance: ModuleType, tmp_path: Path) -> None:
    result = tmp_path / "result.json"
    words = [sys.executable, FOLDER / "gpu_acceptance.py", "--device", "cpu", "--tiny", "--work", tmp_path / "work"]
    done = subprocess.run([*words, "--result", result], capture_output=True, text=True)
    report = json.loads(result.read_text())
    assert {name: part["status"] for name, part in report["parts"].items()} == dict.fromkeys(acceptance.PARTS, "ok")
    assert done.returncode == 0
    found = {name: part["found"] for name, part in report["parts"].items()}
    for part in ("steps", "graph_steps", "compiled_steps", "sparse_steps", "mednext_steps"):
        for row in found[part]["rows"]:
            assert "failed" not in row and min(row["milliseconds"].values()) > 0
    assert 0 <= found["demo"]["auc"] <= 1
    assert found["stock_command"]["held_out"]["cases"] > 0
    assert found["commands"]["losses_differ_by"] == 0


def test_a_part_that_fails_or_hangs_is_named_and_hides_no_other(
    acceptance: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "parts_of_a_test.py").write_text(
        "import time\n"
        "def right(*_): return {'is': 1}\n"
        "def wrong(*_): raise ValueError('no such kernel')\n"
        "def slow(*_): time.sleep(60)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    parts = {
        name: acceptance.Part("parts_of_a_test", name, 0.5, name != "right") for name in ("wrong", "slow", "right")
    }
    copy = tmp_path / "gpu_acceptance.py"
    source = (FOLDER / "gpu_acceptance.py").read_text()
    start, end = source.index("PARTS = {"), source.index("CPU_PATIENCE")
    listed = ", ".join(f"{name!r}: Part({', '.join(map(repr, part))})" for name, part in parts.items())
    copy.write_text(f"{source[:start]}PARTS = {{{listed}}}\n{source[end:]}")
    done = subprocess.run([sys.executable, copy, "--device", "cpu", "--dry"], capture_output=True, text=True)
    found = json.loads(done.stdout)["parts"]
    assert done.returncode == 1
    assert {name: part["status"] for name, part in found.items()} == {
        "wrong": "failed",
        "slow": "took too long",
        "right": "ok",
    }
    assert found["wrong"]["printed"][-1] == "ValueError: no such kernel"
    assert found["right"]["found"] == {"is": 1}


def test_lines_are_met_by_their_figures_alone(
    acceptance: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_cpu = tmp_path / "cpu.json"
    on_cpu.write_text(json.dumps({"parts": {"demo": {"found": {"interval": [0.8, 0.9]}}}}))
    monkeypatch.setattr(acceptance, "CPU_RESULT", on_cpu)
    step = {"size": "B", "batch": 4, "precision": "bfloat16"}
    times = {"stock_contiguous": 90.0, "stock_channels_last": 60.0, "ours": 30.0}
    graphs = {"dense": 30.0, "gathered": 30.0, "dense_as_graph": 3.0, "gathered_as_graph": 2.0}
    parts = {
        "steps": {"rows": [{**step, "milliseconds": times}]},
        "graph_steps": {"rows": [{**step, "milliseconds": {"ours": 15.0}}]},
        "sparse_steps": {"rows": [{"size": "B", "batch": 4, "mask_ratio": 0.6, "milliseconds": graphs}]},
        "kernels": {"depthwise": {"32": {"roofline_us": 4.0, "forward": {"roofline_share": 0.4}}}},
        "data": {"utilisation": 0.96},
        "demo": {"auc": 0.91},
    }
    reports = {name: {"found": found} for name, found in parts.items()}
    assert acceptance.acceptance({"parts": {"steps": reports["graph_steps"]}}) == {}  # nothing to compare it with
    lines = acceptance.acceptance({"parts": reports})
    assert [(line["figure"], line["met"]) for line in lines.values()] == [
        (4.0, True),
        (1.5, False),
        (0.4, False),
        (0.96, True),
        (0.91, False),
    ]
