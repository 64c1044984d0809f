"""The first hour of a new user: the README's own commands, as they stand there, on real scans.

    python benchmarks/first_hour.py --work DIR [--cohort oasis1|ds000011] [--gpu] [--change OLD NEW] [--dry]

Reads the commands of "Your own data in five minutes" out of README.md and runs them one after the other in an empty
folder, in which lies what they speak of. For `oasis1` that is `scans.csv` with 100 people of 60 and older, half with
dementia, and five more in `scans/`; the commands are those of the README to the letter, with what it says to add
without a GPU. For `ds000011`, six young heads with ages and no diagnosis, the README's words are replaced as
CHANGED_FOR_DS000011 says. Writes what each step printed,
and its seconds, processor time and exit code, into benchmarks/results/first_hour_COHORT.json. Steps that are in DIR
already, under the same command, are not run again; one that was interrupted by SIGTERM or Ctrl-C goes on, and its times
add up. `--change` replaces further words, which the results name. The scans are those described in the data's own
README; ADNEXT_TEST_DATA names their folder.
"""

import argparse
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
DEFAULT_DATA = ROOT.parent / "shared" / "data"
SECTION = "Your own data in five minutes"
PEOPLE, NEW_PEOPLE = 100, 5
SOURCES = {"oasis1": "--table", "ds000011": "--bids"}  # which of the two imports it takes
CHANGED_FOR_DS000011 = {
    "/data/adni": "ds000011",
    "--target diagnosis --label-map CN,SMC=CN AD,Dementia=AD": "--regress age",
    " --keep nWBV": "",
    "--baseline age,sex,nWBV": "--baseline sex",
}
INTERRUPTED = 130
SAYS_WHERE = "export "  # what such commands say holds for all that follow


@dataclass(frozen=True, kw_only=True)
class Step:
    """A command of the README as it was run, and how it ended. `cpu_seconds` counts all of its processes."""

    command: str
    seconds: float
    cpu_seconds: float
    code: int
    output: tuple[str, ...]


def commands_of(readme: str, source: str, *, has_gpu: bool = True) -> list[str]:
    """Commands of the section, in order; of the two imports, the one with this option.

    Args:
        readme: its text.
        source: `--table` or `--bids`.
        has_gpu: without one, commands have what their comment says to add there.
    """
    section = re.search(rf"^## {re.escape(SECTION)}\n(.*?)(?=^## )", readme, re.DOTALL | re.MULTILINE)
    if section is None:
        sys.exit(f"README.md has no section {SECTION!r}")
    blocks = re.findall(r"^```bash\n(.*?)^```$", section[1], re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines()]
    if not has_gpu:
        lines = [re.sub(r"\s+# without a GPU, add (.*)", r" \1", line) for line in lines]
    lines = [re.sub(r"\s+# .*", "", line) for line in lines]
    return [line for line in lines if not line.startswith("adnext_import ") or source in line.split()]


def optional_of(readme: str) -> set[str]:
    """Commands that the README calls optional in their comment: they may fail for a scan, and the hour goes on."""
    found = re.findall(r"^(adnext_[^#\n]*?)\s+# optional\b", readme, re.MULTILINE)
    return set(found)


def changed(command: str, words: Mapping[str, str]) -> str:
    """The command with words replaced."""
    for old, new in words.items():
        command = command.replace(old, new)
    return command


def lay_out_oasis(data: Path, folder: Path) -> None:
    """Write `scans.csv` of people who go by numbers, and put others' scans into `scans/`."""
    people = pd.read_csv(data / "oasis1" / "oasis1.csv")
    people = people[(people["session"] == "MR1") & (people["Age"] >= 60) & people["CDR"].notna()]
    people["diagnosis"] = people["CDR"].gt(0).map({False: "CN", True: "AD"})
    chosen = people.groupby("diagnosis").head(PEOPLE // 2).sort_index()
    others = people.drop(chosen.index).head(NEW_PEOPLE)
    image = (str(data / "oasis1" / "images" / f"{ID}.nii.gz") for ID in chosen["ID"])
    table = {"subject": [f"P{number:03}" for number in range(1, len(chosen) + 1)], "path": list(image)}
    named = chosen[["diagnosis", "Age", "M/F", "nWBV"]].set_axis(["diagnosis", "age", "sex", "nWBV"], axis=1)
    pd.DataFrame(table).join(named.reset_index(drop=True)).to_csv(folder / "scans.csv", index=False)
    _new_scans(folder, [data / "oasis1" / "images" / f"{ID}.nii.gz" for ID in others["ID"]])


def lay_out_ds000011(data: Path, folder: Path) -> None:
    """Put the tree there; its first two heads are also what is new."""
    tree = data / "bids_ds000011"
    (folder / "ds000011").symlink_to(tree, target_is_directory=True)
    _new_scans(folder, sorted(tree.glob("sub-*/anat/*T1w.nii.gz"))[:2])


def _new_scans(folder: Path, files: Sequence[Path]) -> None:
    (folder / "scans").mkdir()
    for number, file in enumerate(files, start=1):
        (folder / "scans" / f"new{number}.nii.gz").symlink_to(file)


def run(command: str, folder: Path) -> Step:
    """Run a command in the folder, as bash would."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("nnUNet_")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    started, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    log = folder / "step.txt"
    with log.open("w") as output:
        process = subprocess.Popen(
            ["bash", "-c", command], cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()
            process.wait()
            code = INTERRUPTED
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Step(
        command=command,
        seconds=round(time.monotonic() - started, 1),
        cpu_seconds=round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        code=code,
        output=tuple(log.read_text(errors="replace").replace(str(folder), "...").splitlines()),
    )


def play(commands: Sequence[str], folder: Path, optional: Collection[str] = ()) -> list[Step]:
    """Run commands until one fails that is not optional; those that have been run before are not run again."""
    kept = folder / "steps.json"
    known = {step["command"]: Step(**step) for step in json.loads(kept.read_text())} if kept.is_file() else {}
    where = "".join(f"{command}\n" for command in commands if command.startswith(SAYS_WHERE))
    steps: list[Step] = []
    for command in (command for command in commands if not command.startswith(SAYS_WHERE)):
        step = known.get(command)
        if step is None or (step.code and command not in optional):
            before = step if step is not None and step.code == INTERRUPTED else None
            step = replace(run(f"{where}{command}", folder), command=command)
            if before is not None:
                seconds, cpu_seconds = before.seconds + step.seconds, before.cpu_seconds + step.cpu_seconds
                step = replace(step, seconds=round(seconds, 1), cpu_seconds=round(cpu_seconds, 1))
        steps.append(step)
        print(f"{step.seconds:8.1f} s  {step.cpu_seconds:8.1f} s of CPU  exit code {step.code}  {command}", flush=True)
        kept.write_text(json.dumps([asdict(one) for one in steps], indent=1))
        if step.code and (command not in optional or step.code == INTERRUPTED):
            print("\n".join(step.output[-20:]), file=sys.stderr)
            break
    return steps


def _shown(output: Sequence[str], data: Path) -> tuple[str, ...]:
    """The last lines of an output, without what is nobody's business: where the data lie, and ids of OASIS."""
    return tuple(re.sub(r"OAS\d_\d{4}", "OAS1_....", line.replace(str(data), "DATA")) for line in output[-60:])


def main() -> int:
    """Lay out, play, write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder to play in; what is there is gone on with")
    parser.add_argument("--cohort", choices=SOURCES, default="oasis1")
    parser.add_argument("--change", nargs=2, action="append", default=[], metavar=("OLD", "NEW"))
    parser.add_argument("--gpu", action="store_true", help="the commands are those for a machine with a GPU")
    parser.add_argument("--dry", action="store_true", help="write no results")
    arguments = parser.parse_args()
    data = Path(os.environ.get("ADNEXT_TEST_DATA", DEFAULT_DATA)).absolute()
    folder = arguments.work.absolute() / arguments.cohort
    if not folder.is_dir():
        folder.mkdir(parents=True)
        {"oasis1": lay_out_oasis, "ds000011": lay_out_ds000011}[arguments.cohort](data, folder)
    readme = (ROOT / "README.md").read_text()
    words = {**(CHANGED_FOR_DS000011 if arguments.cohort == "ds000011" else {}), **dict(arguments.change)}
    said = commands_of(readme, SOURCES[arguments.cohort], has_gpu=arguments.gpu)
    commands = [changed(command, words) for command in said]
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    steps = play(commands, folder, optional_of(readme))
    has_passed = len(steps) == sum(not command.startswith(SAYS_WHERE) for command in commands) and not steps[-1].code
    if not arguments.dry:
        from adnext_plugin.training.provenance import provenance

        report = {
            "made_by": provenance(),
            "processors": len(os.sched_getaffinity(0)),
            "threads": os.environ.get("OMP_NUM_THREADS"),
            "gpu": arguments.gpu,
            "changed": words,
            "finished": has_passed,
            "seconds": round(sum(step.seconds for step in steps), 1),
            "cpu_seconds": round(sum(step.cpu_seconds for step in steps), 1),
            "steps": [asdict(replace(step, output=_shown(step.output, data))) for step in steps],
        }
        path = ROOT / "benchmarks" / "results" / f"first_hour_{arguments.cohort}.json"
        path.write_text(json.dumps(report, indent=1) + "\n")
    return 0 if has_passed else 1


if __name__ == "__main__":
    sys.exit(main())
