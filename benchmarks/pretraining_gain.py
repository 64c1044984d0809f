"""What pre-training is worth: the same classifier from pre-trained and from fresh weights, on the same folds and seeds.

    python benchmarks/pretraining_gain.py --work DIR --task sex --size T --fractions 0.25 1.0 --seeds 1 2 3 \
        --pretrain-set epochs=300 --finetune-set epochs=40

Everything goes through the commands a user types. Tasks and what is pre-trained on:
    ad          AD against normal (60 and older), after IXI and the OASIS-1 people under 60, none of whom is in the task
    young_old   normal, under 40 against 60 and older, after IXI
    sex         all of OASIS-1, after IXI
Pre-training holds a fourth of its people out, and its error on their masked voxels is recorded beside two guesses. An
interrupted study continues when the same command is given again; runs that are finished are not repeated. The scans
are those described in the data's own README; ADNEXT_TEST_DATA names their folder. Writes
benchmarks/results/pretraining_CORPUS_SIZE.json and, with what there is so far after every run,
pretraining_gain_TASK_SIZE.json.
"""

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from oasis_ad import DEFAULT_DATA, EPOCH_SECONDS, RESULTS, TASKS, oasis_table
from pipeline import dataset_folder, run_command, run_of, set_options, use_folders

from adnext_plugin.environment import environment_with
from adnext_plugin.evaluation.subjects.predictions import per_subject
from adnext_plugin.evaluation.uncertainty.intervals import gain, resamples_of
from adnext_plugin.paths import PLANS_NAME, run_name
from adnext_plugin.subjects import read_dataset
from adnext_plugin.training.provenance import provenance

# whole 32³ patches, square in the axial plane for quarter turns; the rate suits a study shorter than the paper's
PRETRAINING_PLAN = {
    "preprocessing": {"input_size_voxels": [96, 128, 128]},
    "network": {"options": {"init": "fan_in"}},
    "pretraining": {"learning_rate": 1e-3, "warmup_epochs": 15, "epochs": 300},
}
# the stem is the one that can be pre-trained; the rest of the recipe is what lets AD-NeXt learn from scratch at all
FINETUNING_PLAN = {
    "preprocessing": {"input_size_voxels": [96, 112, 96]},
    "network": {"options": {"init": "fan_in", "head_norm": "batch", "drop_path_rate": 0.0}},
    "training": {
        "epochs": 20,
        "batch_size": 8,
        "learning_rate": 1e-3,
        "warmup_epochs": 2,
        "weight_decay": 0.05,
        "augmentation": "inside",
        "evaluate_with": "final",
    },
}
# as ConvNeXt V2 is fine-tuned: what is near the input stays nearly as it was pre-trained
PRETRAINED_SETTINGS = ["layer_decay=0.7"]
CORPORA = {"ad": (303, "IXIandYoungOasis"), "young_old": (301, "IXI"), "sex": (301, "IXI")}
RESAMPLES = 2000


def main() -> None:
    """Run what is missing of one study."""
    arguments = _parse()
    data = Path(os.environ.get("ADNEXT_TEST_DATA", DEFAULT_DATA))
    use_folders(arguments.work)
    checkpoint = _pretrain(arguments, data)
    number, dataset = _prepare_task(arguments, data)
    results = {"task": arguments.task, "size": arguments.size, "made_by": provenance(), "runs": []}
    results["finetuning"] = {
        **FINETUNING_PLAN,
        "set": arguments.finetune_set,
        "set_of_pretrained_arm": PRETRAINED_SETTINGS,
    }
    results["pretraining"] = json.loads((checkpoint.parent / "validation" / "summary.json").read_text())
    for fraction in arguments.fractions:
        for seed in arguments.seeds:
            runs = {}
            for arm in ("scratch", "pretrained"):
                start = []
                if arm == "pretrained":
                    start = ["-pretrained_weights", str(checkpoint), *set_options(PRETRAINED_SETTINGS)]
                runs[arm] = _finetune(arguments, number, dataset, f"{arm}_{fraction}_{seed}", fraction, seed, start)
            results["runs"].append({"fraction": fraction, "seed": seed, **compared(runs, dataset)})
            results["summary"] = _summary(results["runs"])
            path = RESULTS / f"pretraining_gain_{arguments.task}_{arguments.size}.json"
            path.write_text(json.dumps(results, indent=1) + "\n")
            print(json.dumps(results["runs"][-1], indent=1), flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=lambda text: Path(text).absolute(), required=True)
    parser.add_argument("--task", choices=CORPORA, required=True)
    parser.add_argument("--size", choices=["T", "S", "B", "L"], default="T")
    parser.add_argument("--fractions", nargs="+", type=float, default=[0.25, 1.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--pretrain-set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--finetune-set", action="append", default=[], metavar="KEY=VALUE")
    return parser.parse_args()


def _pretrain(arguments: argparse.Namespace, data: Path) -> Path:
    """Import, prepare and pre-train on the task's corpus; return the checkpoint."""
    plan = _written(PRETRAINING_PLAN, arguments.work / "pretraining_plan.json")
    ixi = ["--table", str(data / "ixi" / "ixi.csv"), "--image-pattern", "brain/{subject_id}_T1w.nii.gz"]
    _import(301, "IXI", [*ixi, "--unlabelled"], plan)
    if arguments.task == "ad":
        _import(
            302,
            "YoungOasis",
            [*_oasis(data, arguments.work), "--where", "session==MR1", "--where", "Age<60", "--unlabelled"],
            plan,
        )
        if not (Path(os.environ["nnUNet_preprocessed"]) / "Dataset303_IXIandYoungOasis").is_dir():
            run_command("adnext_merge", "303", "IXIandYoungOasis", "301", "302")
    number, name = CORPORA[arguments.task]
    trainer = f"ADNeXtFCMAETrainer_{arguments.size}"
    run = Path(os.environ["nnUNet_results"]) / dataset_folder(number, name) / run_of(trainer)
    fold = run / "fold_0"
    if not (fold / "validation" / "summary.json").is_file():
        resume = ["--c"] if (fold / "checkpoint_latest.pth").is_file() else []
        options = [*resume, *set_options(arguments.pretrain_set)]
        run_command("adnext_pretrain", str(number), "3d_fullres", "0", "-tr", trainer, *options)
    _record_pretraining(fold, RESULTS / f"pretraining_{name}_{arguments.size}.json")
    return fold / "checkpoint_final.pth"


def _record_pretraining(fold: Path, path: Path) -> None:
    """The held-out error beside two guesses, with the settings and the time it took."""
    run = json.loads((fold / "run.json").read_text())
    logs = "".join(log.read_text() for log in sorted(fold.glob("training_log_*.txt")))
    result = {
        "made_by": {name: value for name, value in run.items() if name != "settings"},
        "settings": run["settings"],
        "training_seconds": sum(float(seconds) for seconds in EPOCH_SECONDS.findall(logs)),
        **json.loads((fold / "validation" / "summary.json").read_text()),
    }
    path.write_text(json.dumps(result, indent=1) + "\n")


def _prepare_task(arguments: argparse.Namespace, data: Path) -> tuple[int, str]:
    number, name, selection = TASKS[arguments.task]
    plan = _written(FINETUNING_PLAN, arguments.work / "finetuning_plan.json")
    _import(number, name, [*_oasis(data, arguments.work), *selection], plan)
    return number, dataset_folder(number, name)


def _written(plan: dict, path: Path) -> Path:
    path.write_text(json.dumps(plan))
    return path


def _oasis(data: Path, work: Path) -> list[str]:
    return [
        *("--table", str(oasis_table(data / "oasis1", work)), "--images", str(data / "oasis1")),
        *("--image-pattern", "images/{ID}.nii.gz"),
        *("--subject-column", "subject_id", "--session-column", "session"),
        *("--age-column", "Age", "--sex-column", "M/F"),
    ]


def _import(number: int, name: str, source: list[str], plan: Path) -> None:
    if not (Path(os.environ["nnUNet_raw"]) / dataset_folder(number, name)).is_dir():
        run_command("adnext_import", str(number), name, *source)
    run_command("adnext_plan_and_preprocess", "-d", str(number), "--preset", str(plan))


def _finetune(
    arguments: argparse.Namespace,
    number: int,
    dataset: str,
    name: str,
    fraction: float,
    seed: int,
    start: list[str],
) -> Path:
    """Cross-validate, in a results folder of the arm's own; return the run's folder."""
    settings = set_options([*arguments.finetune_set, f"train_fraction={fraction}"])
    trainer = f"ADNeXtTrainer_{arguments.size}"
    folder = arguments.work / "finetuned" / name
    return cross_validated((number, dataset), folder, trainer, [*settings, "--seed", str(seed)], start)


def cross_validated(
    dataset: tuple[int, str],
    results: Path,
    trainer: str,
    options: Sequence[str],
    start: Sequence[str] = (),
) -> Path:
    """Train what is missing of four folds, and evaluate; arguments as of `folds_trained`."""
    run = folds_trained(dataset, results, trainer, options, start)
    if not (run / "crossval_results" / "metrics.json").is_file():
        with environment_with(nnUNet_results=str(results)):
            run_command("adnext_evaluate", str(dataset[0]), "-tr", trainer)
    return run


def folds_trained(
    dataset: tuple[int, str],
    results: Path,
    trainer: str,
    options: Sequence[str],
    start: Sequence[str] = (),
    plans: str = PLANS_NAME,
) -> Path:
    """Train what is missing of four folds.

    Args:
        dataset: its number, and its folder's name.
        results: takes the place of `nnUNet_results`, so that runs of one trainer do not meet.
        trainer, plans: of the run.
        options: of `adnext_train`.
        start: those of them that a run which goes on has heard already.

    Returns:
        The run's folder.
    """
    number, name = dataset
    run = results / name / run_name(trainer, plans, "3d_fullres")
    with environment_with(nnUNet_results=str(results)):
        for fold in range(4):
            folder = run / f"fold_{fold}"
            if not (folder / "validation" / "summary.json").is_file():
                begun = (folder / "checkpoint_latest.pth").is_file()
                words = [str(number), "3d_fullres", str(fold), "-tr", trainer, "-p", plans]
                run_command("adnext_train", *words, *options, *(["--c"] if begun else start))
    return run


def compared(runs: dict[str, Path], dataset: str) -> dict:
    """Both arms' AUC with intervals, and the paired difference over the same subjects."""
    task, _ = read_dataset(Path(os.environ["nnUNet_preprocessed"]) / dataset)
    found, scores = {}, {}
    for arm, run in runs.items():
        metrics = json.loads((run / "crossval_results" / "metrics.json").read_text())
        found[arm] = metrics["scores"]["auc_mean_of_folds"]
        tables = [pd.read_csv(run / f"fold_{fold}" / "validation" / "predictions.csv") for fold in range(4)]
        scores[arm] = per_subject(pd.concat(tables), task)
    over_scratch = gain(scores["pretrained"], scores["scratch"], resamples_of(scores["scratch"], RESAMPLES))
    return {"auc_mean_of_folds": found, "gain": vars(over_scratch)}


def _summary(runs: list[dict]) -> dict:
    """Mean gain over seeds and its standard deviation, for each fraction."""
    gains = pd.DataFrame([{"fraction": run["fraction"], "gain": run["gain"]["value"]} for run in runs])
    grouped = gains.groupby("fraction")["gain"].agg(["mean", "std", "count"])
    return {str(fraction): row.dropna().to_dict() for fraction, row in grouped.iterrows()}


if __name__ == "__main__":
    main()
