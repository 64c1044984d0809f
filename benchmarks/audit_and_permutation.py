"""What the honest protocol is worth: one network on OASIS-1, with true and with permuted labels, scored both ways.

    python benchmarks/audit_and_permutation.py --work DIR --set epochs=40

AD against normal, 60 years and older, on a coarse grid. The dataset is audited; then AD-NeXt-T is cross-validated with
its true labels and with labels dealt out anew among subjects, the inflation meter on. With permuted labels there is
nothing to learn: the honest interval has to cover 0.5, and what the paper's protocol would have printed of the same run
is inflation alone. Writes benchmarks/results/audit_and_permutation.json. The scans are those described in the data's
own README; ADNEXT_TEST_DATA names their folder. An interrupted run continues when the same command is given again.
"""

import argparse
import json
from pathlib import Path

from oasis_ad import EPOCH_SECONDS, RESULTS, TASKS, import_task
from pipeline import dataset_folder, run_command, run_of, set_options, use_folders

NUMBER, NAME, _ = TASKS["ad"]
DATASET = dataset_folder(NUMBER, NAME)
# what the result says of an evaluation
SCORES = ("auc_mean_of_folds", "auc_pooled", "accuracy", "balanced_accuracy")


def main() -> None:
    """Run what is missing and write the result."""
    arguments = _parse()
    work = arguments.work.absolute()
    use_folders(work)
    seconds = _prepare(arguments, work)
    results = work / "nnUNet_results"
    permuted = ["--permute", str(arguments.permute)]
    arms = {
        "true_labels": (results, []),
        "permuted_labels": (results / f"permuted_{arguments.permute}", permuted),
    }
    found = {}
    for arm, (folder, options) in arms.items():
        seconds[arm] = _train(arguments, options)
        found[arm] = _facts(folder / DATASET / run_of(arguments.trainer))
    # its exit code says whether something was found, which is part of the result
    run_command("adnext_audit", str(NUMBER), "-tr", arguments.trainer, "-o", str(work / "audit.json"), accepted=(0, 1))
    _write_result(arguments, found, _counts_of(work / "audit.json"), seconds)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainer", default="ADNeXtTrainer_T")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings for adnext_train")
    parser.add_argument(
        "--preset", type=Path, default=Path(__file__).parent / "oasis_coarse_adnext_plan.json", help="for the planner"
    )
    parser.add_argument("--permute", type=int, default=1, metavar="SEED", help="of the deal of labels")
    parser.add_argument("--device")
    parser.add_argument("--work", type=Path, required=True, help="folder for nnU-Net's three folders")
    return parser.parse_args()


def _prepare(arguments: argparse.Namespace, work: Path) -> dict[str, float]:
    """Import and preprocess; seconds of each."""
    seconds = {}
    if not (work / "nnUNet_raw" / DATASET).is_dir():
        seconds["import"] = import_task("ad", work)
    seconds["plan_and_preprocess"] = run_command(
        "adnext_plan_and_preprocess", "-d", str(NUMBER), "--preset", str(arguments.preset)
    )
    return seconds


def _train(arguments: argparse.Namespace, options: list[str]) -> float:
    device = ["-device", arguments.device] if arguments.device else []
    command = ["adnext_train", str(NUMBER), "3d_fullres", "cv", "-tr", arguments.trainer, "--continue"]
    return run_command(*command, "--inflation-meter", *options, *set_options(arguments.set), *device)


def _facts(folder: Path) -> dict:
    """Scores of a run, honest and by the inflation meter."""
    metrics = json.loads((folder / "crossval_results" / "metrics.json").read_text())
    area = metrics["scores"]["auc_mean_of_folds"]
    logs = "".join(path.read_text() for path in sorted(folder.glob("fold_*/training_log_*.txt")))
    return {
        "warning": metrics.get("warning"),
        "subjects": metrics["subjects"],
        "scores": {name: metrics["scores"][name] for name in SCORES},
        "delong": metrics["details"]["binary"]["delong"],
        "interval_covers_one_half": area["low"] <= 0.5 <= area["high"],
        "best_epochs": metrics["best_epochs"],
        "inflation_meter": metrics["inflation_meter"],
        "training_seconds": sum(float(seconds) for seconds in EPOCH_SECONDS.findall(logs)),
        "settings": json.loads((folder / "fold_0" / "run.json").read_text())["settings"],
        "made_by": {
            name: value
            for name, value in json.loads((folder / "fold_0" / "run.json").read_text()).items()
            if name != "settings"
        },
    }


def _counts_of(audit: Path) -> list[dict]:
    """How much the audit found, without who it was."""
    return [
        {"name": check["name"], "leaks": len(check["leaks"]), "remarks": len(check["remarks"])}
        for check in json.loads(audit.read_text())["checks"]
    ]


def _write_result(arguments: argparse.Namespace, found: dict, audit: list[dict], seconds: dict[str, float]) -> None:
    made_by = [arm.pop("made_by") for arm in found.values()]
    result = {
        "dataset": "OASIS-1, AD against normal, 60 years and older",
        "trainer": arguments.trainer,
        "made_by": made_by[0],
        "preset": json.loads(arguments.preset.read_text()),
        "audit": audit,
        "seconds": seconds,
        **found,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / "audit_and_permutation.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    for arm in found:
        print(arm, json.dumps(found[arm]["inflation_meter"]["scores"], indent=1))
    print(f"result written to {path}")


if __name__ == "__main__":
    main()
