"""The benchmarks run, on tiny sizes, so that they do not rot."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"


def test_the_training_step_benchmark_reports_every_arm_under_both_allocators() -> None:
    command = [sys.executable, FOLDER / "train_step.py", "--sizes", "T", "--batches", "2", "--input-size", "32"]
    done = subprocess.run([*command, "--repeats", "1", "--dry"], capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    for rows in report["allocators"].values():
        assert set(rows[0]["median_seconds"]) == {"ours", "stock_channels_last", "stock_contiguous"}
        assert rows[0]["speed_up_over_stock_contiguous"] > 0


def test_the_sparse_step_benchmark_reports_every_arm_under_both_allocators() -> None:
    command = [sys.executable, FOLDER / "sparse_step.py", "--sizes", "T", "--batches", "1", "--ratios", "0.5"]
    done = subprocess.run(
        [*command, "--input-size", "64", "--repeats", "1", "--dry"], capture_output=True, text=True, check=True
    )
    for rows in json.loads(done.stdout)["allocators"].values():
        assert set(rows[0]["median_seconds"]) == {"gathered", "dense", "masked_dense", "stock_masked_dense"}
        assert 0.4 < rows[0]["saved_over_dense"] < 0.6  # half of the patches are visible


def test_the_bootstrap_benchmark_reports_time_and_memory_of_every_kind_of_score() -> None:
    command = [sys.executable, FOLDER / "bootstrap.py", "--subjects", "50", "--resamples", "20", "--repeats", "1"]
    done = subprocess.run([*command, "--dry"], capture_output=True, text=True, check=True)
    rows = json.loads(done.stdout)["rows"]
    assert [row["resamples"] for row in rows] == [20, 40]
    for row in rows:
        for measured in (row["median_seconds"], row["peak_mebibytes"]):
            assert set(measured) == {"classification", "decision_curve", "regression"}


def test_the_leak_audit_benchmark_reports_copies_and_both_cohorts_in_every_geometry(real_data: Path) -> None:
    command = [sys.executable, FOLDER / "leak_audit.py", "--people", "6", "--sizes", "--copies", "1", "--heads", "1"]
    environment = {**os.environ, "ADNEXT_TEST_DATA": str(real_data)}
    done = subprocess.run([*command, "--dry"], capture_output=True, text=True, check=True, env=environment)
    report = json.loads(done.stdout)
    assert [row["people"] for row in report["whole_cohorts"]] == 3 * [6, 6, 12]
    halves = [row["half"] for row in report["copies"]]
    assert halves.count("chosen on") == halves.count("confirmed on") >= 15
    assert {"mirrored", "turned by 6°"} <= {row["change"] for row in report["copies"]}
    assert min(row["least_alike_copy"] for row in report["copies"] if row["change"] == "mirrored") > 0.5


@pytest.mark.parametrize(
    "name", ["oasis_ad", "kill_and_resume", "kills", "four_folds", "pretraining_gain", "audit_and_permutation"]
)
def test_the_other_benchmarks_explain_themselves(monkeypatch: pytest.MonkeyPatch, capsys, name: str) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--help"])
    monkeypatch.delattr(os, "execv")  # the process is not the benchmark's own
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
    assert not ended.value.code and "--work" in capsys.readouterr().out


def test_the_benchmark_of_large_scans_and_tables_reports_memory_and_time() -> None:
    command = [sys.executable, FOLDER / "large_scan.py", "--voxels", "64", "--rows", "20", "--dry"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert all(step["peak_gibibytes"] > 0.1 for step in report["scan"]["steps"].values())
    assert [(row["rows"], row["cpu_seconds"] > 0) for row in report["tables"]] == [(20, True)]


def test_committed_results_say_what_made_them() -> None:
    results = list((FOLDER / "results").glob("*.json"))
    assert results
    for path in results:
        made_by = json.loads(path.read_text())["made_by"]
        assert {"commit", "device", "torch"} <= made_by.keys()


def test_the_benchmark_over_public_trees_compares_cells_and_finds_what_is_wrong(tmp_path: Path) -> None:
    for name, sex in (("good", "F"), ("bad", "x")):
        root = tmp_path / "trees" / name
        for subject in ("sub-01", "sub-001"):
            (root / subject / "anat").mkdir(parents=True)
            (root / subject / "anat" / f"{subject}_T1w.nii.gz").touch()
        rows = f"participant_id\tage\tsex\nsub-01\t60\t{sex}\nsub-02\t70\tM\n"
        (root / "participants.tsv").write_text(rows)
    command = [sys.executable, FOLDER / "public_trees.py", tmp_path / "trees", "--result", tmp_path / "result.json"]
    subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads((tmp_path / "result.json").read_text())
    assert report["outcomes"] == {"imported": 2} and report["wrong_cells"] == 0
    assert (report["scans"], report["cells"]) == (2, 8)  # age and sex of sub-01, in the rows and in subjects.csv
