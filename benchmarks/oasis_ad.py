"""The whole pipeline on real scans, through the commands a user types: OASIS-1, five tasks, honest 4-fold protocol.

    python benchmarks/oasis_ad.py --task young_old --trainer ADNeXtTrainer_T --set epochs=20 --work DIR

Tasks: `ad` (AD against normal, 60 years and older), `young_old` (normal, under 40 against 60 and older), `sex` (all),
`stages` (young normal, old normal, AD), `age` (of everyone normal, in years).
The scans are those described in the data's own README; ADNEXT_TEST_DATA names their folder. The result, one JSON file
per task in benchmarks/results/, holds scores with intervals beside every baseline, settings, seed, hardware, commit and
training time. An interrupted run continues when the same command is given again.
"""

import argparse
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pipeline import dataset_folder, run_command, run_of, set_options, use_folders

RESULTS = Path(__file__).parent / "results"
DEFAULT_DATA = Path(__file__).parents[2] / "shared" / "data"

EPOCH_SECONDS = re.compile(r"([0-9.]+) s  ETA")

FIRST_SESSIONS = ["--where", "session==MR1"]
WITHOUT_DEMENTIA = [word for cdr in ("0.5", "1", "2") for word in ("--where", f"CDR!={cdr}")]
TASKS = {
    "ad": (201, "OasisAD", ["--from-cdr", "CDR", "--where", "Age>=60", *FIRST_SESSIONS]),
    "young_old": (
        202,
        "OasisAge",
        ["--target-bins", "Age", "<40=young", ">=60=old", *FIRST_SESSIONS, *WITHOUT_DEMENTIA],
    ),
    "sex": (203, "OasisSex", ["--target", "M/F", *FIRST_SESSIONS]),
    "stages": (
        204,
        "OasisStages",
        ["--target", "stage", "--label-map", "young=young", "old=old", "AD=AD", "--skip-unlabelled", *FIRST_SESSIONS],
    ),
    "age": (205, "OasisYears", ["--regress", "Age", *FIRST_SESSIONS, *WITHOUT_DEMENTIA]),
}
# by adnext_audit most probably a person who is in the cohort under another id as well
SAME_PERSON = "OAS1_0193"
HALF_A_BRAIN = "OAS1_0250"  # as adnext_plan_and_preprocess says of it where tissues are asked for
BASELINES = {
    "ad": ["age,sex", "age,sex,nWBV"],
    "young_old": ["sex", "nWBV"],
    "sex": ["age", "age,eTIV,nWBV"],
    "stages": ["age,sex", "nWBV"],
    "age": ["sex", "nWBV"],
}


def main() -> None:
    """Run one task and write its result file."""
    arguments = _parse()
    work = arguments.work.absolute()
    use_folders(work)
    number, name, _ = TASKS[arguments.task]
    dataset = dataset_folder(number, name)
    seconds = {}
    if not (work / "nnUNet_raw" / dataset).is_dir():
        seconds["import"] = import_task(arguments.task, work)
    seconds["plan_and_preprocess"] = run_command(
        "adnext_plan_and_preprocess", "-d", str(number), "--preset", str(arguments.preset)
    )
    device = ["-device", arguments.device] if arguments.device else []
    train = ["adnext_train", str(number), "3d_fullres", "cv", "-tr", arguments.trainer, "--continue"]
    run_command(*train, "--seeds", str(arguments.seeds), *set_options(arguments.set), *device)
    baselines = [word for columns in BASELINES[arguments.task] for word in ("--baseline", columns)]
    seconds["evaluate"] = run_command("adnext_evaluate", str(number), "-tr", arguments.trainer, *baselines)
    folder = work / "nnUNet_results" / dataset / run_of(arguments.trainer)
    _write_result(arguments, folder, seconds)


def import_task(task: str, work: Path, run: Callable[..., float] = run_command, options: Sequence[str] = ()) -> float:
    """Import a task's dataset into the folder of work by what runs a command, with further options; seconds."""
    number, name, selection = TASKS[task]
    data = Path(os.environ.get("ADNEXT_TEST_DATA", DEFAULT_DATA)) / "oasis1"
    return run(
        *("adnext_import", str(number), name, "--table", str(oasis_table(data, work)), "--images", str(data)),
        *("--image-pattern", "images/{ID}.nii.gz", "--subject-column", "subject_id", "--session-column", "session"),
        *("--age-column", "Age", "--sex-column", "M/F", "--keep", "nWBV,eTIV", *selection, *options),
    )


def oasis_table(data: Path, work: Path) -> Path:
    """A copy of the table without one of a likely pair, and with a column `stage`.

    That is empty for those between 40 and 60 and for the young with dementia.
    """
    rows = pd.read_csv(data / "oasis1.csv")
    rows = rows[rows["subject_id"] != SAME_PERSON].copy()
    normal, old = ~(rows["CDR"] > 0), rows["Age"] >= 60
    stages = [(normal & (rows["Age"] < 40), "young"), (normal & old, "old"), (~normal & old, "AD")]
    rows["stage"] = np.select([who for who, _ in stages], [name for _, name in stages], default="")
    rows.to_csv(work / "oasis1.csv", index=False)
    return work / "oasis1.csv"


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--trainer", default="ADNeXtTrainer_T")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings for adnext_train")
    parser.add_argument("--seeds", type=int, default=1, help="how many cross-validations, each under another seed")
    parser.add_argument("--preset", default=Path(__file__).parent / "oasis_plan.json", help="for the planner")
    parser.add_argument("--device")
    parser.add_argument("--work", type=Path, required=True, help="folder for nnU-Net's three folders")
    return parser.parse_args()


def _write_result(arguments: argparse.Namespace, run: Path, seconds: dict[str, float]) -> None:
    fold = json.loads((run / "fold_0" / "run.json").read_text())
    plan = json.loads((run / "plans.json").read_text())["configurations"]["3d_fullres"]["adnext"]
    weights = plan["training"]["pretrained_weights"]
    if weights is not None:  # dataset, run, fold and file, not where they lie on this machine
        plan["training"]["pretrained_weights"] = "/".join(Path(weights).parts[-4:])
    logs = [sorted(folder.glob("training_log_*.txt")) for folder in sorted(run.glob("fold_*"))]
    result = {
        "task": arguments.task,
        "trainer": arguments.trainer,
        "made_by": {name: value for name, value in fold.items() if name != "settings"},
        "hardware": {"cpus": os.cpu_count(), "model": _processor()},
        "plan": plan,
        "seconds_of_other_stages": seconds,
        "training_seconds": sum(
            float(seconds) for log in logs for path in log for seconds in EPOCH_SECONDS.findall(path.read_text())
        ),
        "training_log_lines_of_fold_0": [
            line.split(": ", 1)[-1].strip()
            for log in logs[0]
            for line in log.read_text().splitlines()
            if "epoch " in line
        ],
        "metrics": json.loads((run / "crossval_results" / "metrics.json").read_text()),
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"oasis_{arguments.task}_{arguments.trainer}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"result written to {path}")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":")[1].strip()
    return "unknown"


if __name__ == "__main__":
    main()
