"""Every trainer for labelled tasks, two epochs each on a handful of real scans, through the commands a user types.

    python benchmarks/all_networks.py --work DIR

Twelve OASIS-1 subjects, six young and six old, at SIDE³ voxels of 1.75 mm, batches of two. Prints and writes, after
every run, seconds per training step, the training process's peak memory and the losses; a trainer that is in the result
already is not run again. What is shown here is that everything trains, and at what cost, not how well it learns.
"""

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
from oasis_ad import DEFAULT_DATA, RESULTS
from pipeline import run_command, set_options, use_folders

from adnext_plugin.registry import TRAINERS, load, registered_names
from adnext_plugin.trainers.labelled import ADNeXtTrainer
from adnext_plugin.training.provenance import provenance

SETTINGS = ("epochs=2", "warmup_epochs=0", "batch_size=2")
EPOCH = re.compile(r"epoch (\d)/2 .*train loss (\S+) .*?([0-9.]+) s  ETA")
CASES = re.compile(r"(\d+) cases to train on")
DATASET = "Dataset211_Handful"


def main() -> None:
    """Run every trainer that is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--trainers", nargs="+", help="default: all that are registered, one per network and recipe")
    parser.add_argument("--side", type=int, default=96, help="of the input, voxels; another needs another DIR")
    parser.add_argument("--result", type=Path, default=RESULTS / "all_networks.json")
    arguments = parser.parse_args()
    _prepare(arguments.work, arguments.side)
    results = {"made_by": provenance(), "threads": int(os.environ.get("OMP_NUM_THREADS", os.cpu_count())), "rows": []}
    if arguments.result.is_file():
        results["rows"] = json.loads(arguments.result.read_text())["rows"]
    done = {row["trainer"] for row in results["rows"]}
    for name in arguments.trainers or _trainers():
        if name not in done:
            results["rows"].append(_train(name, arguments))
            print(json.dumps(results["rows"][-1]), flush=True)
            arguments.result.write_text(json.dumps(results, indent=1) + "\n")


def _trainers() -> list[str]:
    """Those that build a network of their own; kernel and downsampling ablations are left out."""
    classes = {name: load(TRAINERS, name) for name in registered_names(TRAINERS)}
    return [
        name
        for name, found in classes.items()
        if issubclass(found, ADNeXtTrainer) and found.network_settings and "_k" not in name
    ]


def _prepare(work: Path, side: int) -> None:
    use_folders(work)
    if (work / "nnUNet_preprocessed" / DATASET / "splits_final.json").is_file():
        return
    data = Path(os.environ.get("ADNEXT_TEST_DATA", DEFAULT_DATA)) / "oasis1"
    people = pd.read_csv(data / "oasis1.csv")
    people = people[(people["session"] == "MR1") & ~(people["CDR"] > 0)]
    chosen = pd.concat([people[people["Age"] < 40].head(6), people[people["Age"] >= 60].head(6)])
    chosen.assign(group=["young"] * 6 + ["old"] * 6).to_csv(work / "handful.csv", index=False)
    (work / "preset.json").write_text(json.dumps({"preprocessing": {"input_size_voxels": [side] * 3}}))
    source = ["--table", str(work / "handful.csv"), "--images", str(data), "--image-pattern", "images/{ID}.nii.gz"]
    columns = ["--subject-column", "subject_id", "--age-column", "Age", "--sex-column", "M/F"]
    run_command("adnext_import", "211", "Handful", *source, *columns, "--target", "group")
    run_command("adnext_plan_and_preprocess", "-d", "211", "--preset", str(work / "preset.json"))


def _train(name: str, arguments: argparse.Namespace) -> dict:
    """Train fold 0 in a process of its own, and read off its log what it cost."""
    with (arguments.work / f"{name}.log").open("w+") as log:
        words = ["adnext_train", "211", "3d_fullres", "0", "-tr", name, "-device", "cpu", *set_options(SETTINGS), "-v"]
        process = subprocess.Popen([str(Path(sys.executable).parent / words[0]), *words[1:]], stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
        log.seek(0)
        text = log.read()
    if status:
        sys.exit(f"{name} failed: {text[-2000:]}")
    epochs, cases = EPOCH.findall(text), int(CASES.search(text).group(1))
    summary = json.loads(
        next((arguments.work / "nnUNet_results").glob(f"*/{name}__*/fold_0/validation/summary.json")).read_text()
    )
    return {
        "trainer": name,
        "side_voxels": arguments.side,
        "steps_per_epoch": cases // 2,
        # the first epoch also pays for warming up
        "seconds_per_step_and_share_of_scoring": float(epochs[-1][2]) / (cases // 2),
        "peak_memory_gibibytes": usage.ru_maxrss / 2**20,
        "train_losses": [float(loss) for _, loss, _ in epochs],
        "held_out": summary["metrics"]["val"],
    }


if __name__ == "__main__":
    main()
