"""Start the four folds of a fresh dataset in the same second, as an array of cluster jobs does, again and again.

    python benchmarks/four_folds.py --work DIR --trials 50

The dataset is planned without folds, and the project has no key yet. Four processes wait for one another and then
train a fold each. All four must finish, with one key, which only its owner may read, the same folds and nothing left
over. Every trial is a line in DIR/trials.jsonl, so that the benchmark may be stopped and started again. `--dry` leaves
benchmarks/results/four_folds.json, which sums them up, as it is.
"""

import argparse
import hashlib
import json
import os
import shutil
import stat
import sys
import time
from pathlib import Path

import warm

RESULT = Path(__file__).parent / "results" / "four_folds.json"
DATASET = "Dataset301_Toy"
RUN = f"{DATASET}/ADNeXtTrainer_T__ADNeXtPlans__3d_fullres"
TRAIN = ("train", "301", "3d_fullres")
OPTIONS = ("-tr", "ADNeXtTrainer_T", *warm.TRAINING, "--set", "epochs=1")
FOLDS = 4


def main() -> None:
    """Run the benchmark and exit with 1 if a trial went wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder to work in, which is made")
    parser.add_argument("--trials", type=int, default=50)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after as many, to go on another time")
    parser.add_argument("--dry", action="store_true", help="write no result")
    arguments = parser.parse_args()
    warm.begin_again_with_one_thread()
    work = arguments.work.absolute()
    stop = time.monotonic() + 60 * arguments.minutes
    lines = work / "trials.jsonl"
    _prepare(work)
    trials = [json.loads(line) for line in lines.read_text().splitlines()] if lines.is_file() else []
    while len(trials) < arguments.trials and time.monotonic() < stop:
        trials.append(_trial(work))
        with lines.open("a") as stream:
            stream.write(json.dumps(trials[-1]) + "\n")
        print(json.dumps(trials[-1]), flush=True)
    report = _report(trials)
    print(json.dumps(report, indent=1))
    if not arguments.dry:
        RESULT.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(report["trials"] > report["right"])


def _prepare(work: Path) -> None:
    """Import and plan the dataset, train once to see which modules are needed, and import them."""
    fresh, modules = work / "fresh", work / "modules.json"
    if not modules.is_file():
        shutil.rmtree(work / "home", ignore_errors=True)
        for folder in warm.folders(work / "home").values():
            Path(folder).mkdir(parents=True)
        table = warm.write_cohort(work / "home" / "source")
        imported = ("--table", str(table), "--target", "diagnosis", "--label-map", "CN=CN", "AD=AD", "-np", "1")
        preset = ("--preset", str(table.with_name("preset.json")))
        for command in (
            ("import_dataset", "301", "Toy", *imported),
            ("plan_and_preprocess", "-d", "301", "-np", "1", "--no-splits", *preset),
        ):
            _run(work, command)
        shutil.copytree(work / "home", fresh, dirs_exist_ok=True)
        _run(work, (*TRAIN, "0", *OPTIONS), modules)
    warm.warm_up(json.loads(modules.read_text()))


def _run(work: Path, command: tuple[str, ...], modules: Path | None = None) -> None:
    ended = warm.run(command, work / "home", work / "log.txt", modules)
    if ended.code:
        sys.exit(f"{command} ended with {ended.code}:\n{ended.text}")


def _trial(work: Path) -> dict:
    home = work / "home"
    shutil.rmtree(home)
    shutil.copytree(work / "fresh", home)
    prepared = home / "nnUNet_preprocessed"
    assert not (prepared / ".adnext_key.json").exists()
    assert not (prepared / DATASET / "splits_final.json").exists()
    logs = [work / f"log_{fold}.txt" for fold in range(FOLDS)]
    begun = time.monotonic()
    gate_out, gate_in = os.pipe()
    children = [
        warm.start((*TRAIN, str(fold), *OPTIONS), home, logs[fold], gate=(gate_out, gate_in)) for fold in range(FOLDS)
    ]
    os.close(gate_out)
    os.close(gate_in)  # which all of them wait for
    ended = [warm.end(child, log, begun) for child, log in zip(children, logs, strict=True)]
    keys, splits = set(), set()
    for fold in range(FOLDS):
        folder = home / "nnUNet_results" / RUN / f"fold_{fold}"
        if ended[fold].code == 0:
            from adnext_plugin.training.weights import read_checkpoint

            keys.add(read_checkpoint(folder / "checkpoint_final.pth")["adnext"]["pretraining_data"]["key_digest"])
            splits.add((folder / "validation" / "predictions.csv").is_file())
    key = prepared / ".adnext_key.json"
    content = json.loads((prepared / DATASET / "splits_final.json").read_text())
    return {
        "codes": [one.code for one in ended],
        "keys": len(keys),
        "key_is_private": stat.S_IMODE(key.stat().st_mode) == 0o600,
        "splits_sha256": hashlib.sha256(json.dumps(content).encode()).hexdigest(),
        "predicted": splits == {True},
        "left_over": [str(path.relative_to(home)) for path in home.rglob(".adnext-*")],
        "seconds": round(max(one.seconds for one in ended), 1),
        "problems": [one.text[-1000:] for one in ended if one.code],
    }


def _report(trials: list[dict]) -> dict:
    from adnext_plugin.environment import usable_cpus
    from adnext_plugin.training.provenance import provenance

    right = [
        trial["codes"] == [0] * FOLDS
        and trial["keys"] == 1
        and trial["key_is_private"]
        and trial["predicted"]
        and not trial["left_over"]
        for trial in trials
    ]
    return {
        "trials": len(trials),
        "right": sum(right),
        "all_four_finished": sum(trial["codes"] == [0] * FOLDS for trial in trials),
        "one_key": sum(trial["keys"] == 1 for trial in trials),
        "private_keys": sum(trial["key_is_private"] for trial in trials),
        "different_splits": len({trial["splits_sha256"] for trial in trials}),
        "processors": usable_cpus(),
        "made_by": provenance(),
    }


if __name__ == "__main__":
    main()
