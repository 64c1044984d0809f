"""Time and peak memory of planning cohorts of up to 10,000 cases; prints and writes JSON.

    python benchmarks/planning_at_scale.py

A cohort is made of links to the real OASIS-1 scans (ADNEXT_TEST_DATA) and a table of as many subjects with class, age,
sex and site. Each is planned by `adnext_plan_and_preprocess --no_pp -np 1` in a process of its own: reading the table,
the fingerprint (which reads every scan), plans, folds. Memory is the process's peak resident set, its libraries
included; that of the smallest cohort says how much these take. Seconds are those of the processor.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from adnext_plugin.files import write_json
from adnext_plugin.training.provenance import provenance

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "planning_at_scale.json"
PLAN = "from adnext_plugin.cli.plan_and_preprocess import main; raise SystemExit(main())"


def main() -> None:
    """Plan cohorts of all sizes and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", type=int, default=[100, 1000, 3000, 10000])
    parser.add_argument("--dry", action="store_true", help="do not write the result file")
    arguments = parser.parse_args()
    data = Path(os.environ.get("ADNEXT_TEST_DATA", ROOT.parent / "shared" / "data"))
    scans = sorted((data / "oasis1" / "images").glob("*.nii.gz"))
    rows = []
    for cases in arguments.cases:
        with tempfile.TemporaryDirectory() as work:
            _write_cohort(Path(work) / "nnUNet_raw" / "Dataset001_Scale", scans, cases)
            rows.append({"cases": cases, **_plan(Path(work))})
        print(rows[-1])
    text = json.dumps({"made_by": provenance(), "rows": rows}, indent=1)
    print(text)
    if not arguments.dry:
        RESULT.write_text(text + "\n")


def _write_cohort(folder: Path, scans: list[Path], cases: int) -> None:
    (folder / "imagesTr").mkdir(parents=True)
    names = [f"case{index:05d}" for index in range(cases)]
    for index, name in enumerate(names):
        (folder / "imagesTr" / f"{name}_0000.nii.gz").symlink_to(scans[index % len(scans)])
    generator = np.random.default_rng(0)
    columns = {
        "case_id": names,
        "subject_id": names,
        "session_id": "M00",
        "age": generator.uniform(55, 90, cases).round(1),
        "sex": generator.choice(["M", "F"], cases),
        "site": generator.choice([f"site{index:02d}" for index in range(50)], cases),
        "diagnosis": generator.choice(["CN", "AD"], cases),
    }
    pd.DataFrame(columns).to_csv(folder / "subjects.csv", index=False)
    description = {
        "channel_names": {"0": "T1w"},
        "labels": {"background": 0, "foreground": 1},
        "numTraining": cases,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "NibabelIOWithReorient",
        "adnext": {"name": "Scale", "kind": "classification", "target": "diagnosis", "classes": ["CN", "AD"]},
    }
    write_json(description, folder / "dataset.json")


def _plan(work: Path) -> dict:
    folders = {f"nnUNet_{part}": str(work / f"nnUNet_{part}") for part in ("raw", "preprocessed", "results")}
    command = [sys.executable, "-c", PLAN, "-d", "1", "--no_pp", "-np", "1"]
    process = subprocess.Popen(
        command, env={**os.environ, **folders}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, "planning failed"
    return _measured(usage)


def _measured(usage: resource.struct_rusage) -> dict:
    return {
        "seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "peak_mebibytes": round(usage.ru_maxrss / 1024),
    }


if __name__ == "__main__":
    main()
