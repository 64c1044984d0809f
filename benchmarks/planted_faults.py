"""One-line faults planted in a copy of the package, one at a time: which of them does no test notice?

    python benchmarks/planted_faults.py            # all of them, about ten minutes on one core
    python benchmarks/planted_faults.py --only threshold --dry

Each fault is an exact text that stands once in the package, and what it is replaced by; where the text has changed, the
fault must be written anew, and the benchmark says so and fails. A fault is killed when the tests named for it fail on
the copy that has it; they must pass on the copy that has none. The working tree is never touched. Prints and writes
JSON.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from planted_faults_list import FAULTS, Fault

from adnext_plugin.training.provenance import provenance

ROOT = Path(__file__).parents[1]
RESULT = Path(__file__).parent / "results" / "planted_faults.json"
COPIED = ("adnext_plugin", "tests", "benchmarks", "docs", "pyproject.toml", "entry_points.txt", "README.md")
FAILED = 1  # exit code of pytest; others mean that it did not come to run the tests


def main() -> int:
    """Plant every fault and report; 1 where one survives or its text is gone."""
    arguments = _parse()
    faults = [fault for fault in FAULTS if arguments.only in fault.name]
    lost = [fault.name for fault in faults if len(_places(fault, ROOT)) != 1]
    if lost:
        print(f"not planted, for the text is not in the package exactly once: {'; '.join(lost)}", file=sys.stderr)
        return 1
    if arguments.check:
        print(f"{len(faults)} faults can be planted")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            source = ROOT / name
            ignored = shutil.ignore_patterns("__pycache__", "results")
            (shutil.copytree(source, copy / name, ignore=ignored) if source.is_dir() else shutil.copy(source, copy))
        sound = _run(copy, sorted({test for fault in faults for test in fault.tests}))
        if sound.returncode:
            print(f"the tests fail without any fault:\n{sound.stdout[-4000:]}", file=sys.stderr)
            return 1
        rows = [_try(fault, copy) for fault in faults]
    if arguments.only and RESULT.is_file():  # the others as they were found before
        tried = {row["name"]: row for row in rows}
        rows = [tried.get(row["name"], row) for row in json.loads(RESULT.read_text())["faults"]]
    survived = [row["name"] for row in rows if row["outcome"] != "killed"]
    report = {"made_by": provenance(), "planted": len(rows), "survived": survived, "faults": rows}
    text = json.dumps(report, indent=1)
    print(text)
    if not arguments.dry:
        RESULT.write_text(text + "\n")
    return int(bool(survived))


def _try(fault: Fault, copy: Path) -> dict:
    (place,) = _places(fault, copy)
    sound = place.read_text()
    start = time.perf_counter()
    place.write_text(sound.replace(fault.text, fault.planted))
    try:
        done = _run(copy, fault.tests)
    finally:
        place.write_text(sound)
    if done.returncode not in (0, FAILED):
        raise RuntimeError(f"{fault.name}: the tests did not run:\n{done.stdout[-4000:]}")
    by = [
        line.removeprefix("FAILED ").split(" - ")[0] for line in done.stdout.splitlines() if line.startswith("FAILED")
    ]
    outcome = "killed" if done.returncode else "survived"
    print(f"{outcome:10}{time.perf_counter() - start:6.0f} s  {fault.name}", file=sys.stderr)
    return {**asdict(fault), "file": str(place.relative_to(copy)), "outcome": outcome, "killed_by": by}


def _run(copy: Path, tests: tuple[str, ...] | list[str]) -> subprocess.CompletedProcess:
    """The tests, with the package of the copy in front of any that is installed."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    where = "import adnext_plugin as a, sys; sys.exit(not a.__file__.startswith(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", where, str(copy)], check=True, cwd=copy, env=environment)
    # the fixtures of conftest take long to import, and most of these tests do without them
    fixtures = [] if any("_of_runs" in test for test in tests) else ["--noconftest"]
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=no", *fixtures, *tests]
    return subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)


def _places(fault: Fault, root: Path) -> list[Path]:
    """The file with the text, as often as it stands there."""
    files = sorted((root / "adnext_plugin").rglob("*.py"))
    return [path for path in files for _ in range(path.read_text().count(fault.text))]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORDS", help="faults whose name has these words")
    parser.add_argument("--check", action="store_true", help="only see whether every fault can be planted")
    parser.add_argument("--dry", action="store_true", help="do not write the result file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
