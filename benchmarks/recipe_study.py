"""Which changes to the paper's recipe make AD-NeXt learn from a few hundred scans: one training per lever and fold.

    python benchmarks/recipe_study.py --work DIR --tasks sex --levers paper base
    python benchmarks/recipe_study.py --work DIR --tasks ad --levers base age_head --weights FILE

Every lever changes one thing of `base`, for a reason written down before it was tried. All have the same number of
epochs and the same scans, OASIS-1, and but for those that change preparation 48×56×48 voxels of 3.2 mm; those named
age_ begin with weights of brain_age.py. What is compared is the score on `selection` of folds 0 and 1, as the mean of
the last quarter of epochs, so that no lever gains by one lucky epoch; held-out parts are not read. Appends one line per
run to benchmarks/results/recipe_study.jsonl; what is there already is not run again; --table prints it. The scans are
those described in the data's own README; ADNEXT_TEST_DATA names their folder.
"""

import argparse
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from oasis_ad import EPOCH_SECONDS, RESULTS, TASKS, import_task
from pipeline import dataset_folder, run_command, set_options, use_folders

from adnext_plugin.paths import PLANS_NAME, run_name
from adnext_plugin.training.provenance import provenance
from adnext_plugin.training.weights import read_checkpoint

FOLDS = (0, 1)
PRESET = Path(__file__).parent / "oasis_coarse_plan.json"
LOG_OF_RUNS = RESULTS / "recipe_study.jsonl"


@dataclass(frozen=True, kw_only=True)
class Lever:
    """Why a change might help, the change to preparation, to the network's options and to the trainer's settings."""

    reason: str
    preprocessing: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    trainer: str = "ADNeXtTrainer_T"
    has_weights: bool = False


# Every round has a base of its own, which takes over what the rounds before it showed; the log keeps all of them.
# Round 1: 24 epochs and drop path 0.1, the network's default; without drop path it did better.
# Round 2: rate 1e-3 and intensity changes that also touch the background; a higher rate did better, and the loss on
# `selection` leapt by orders of magnitude, so that the background is left alone and batch norms are settled.
# Round 3: 16 epochs, scored without mirror images. Round 4 starts from the recipe that came out, ADNeXtTrainer_T_Small.
ROUND = 4
BASE_OPTIONS = {
    "init": "fan_in",
    "head_norm": "batch",
    "stem": "convolutional",
    "drop_path_rate": 0.0,
    "mirror": True,
}
BASE_SETTINGS = {
    "epochs": 20,
    "batch_size": 8,
    "learning_rate": 3e-3,
    "warmup_epochs": 2,
    "weight_decay": 0.05,
    "augmentation": "inside",
    "precise_batch_norm": True,
}
TWICE_AS_LONG = {"epochs": 40, "warmup_epochs": 4}
LEVERS = {
    "base": Lever(reason="local filters find what moves between heads; batch norm takes away what all features share"),
    "patch_stem": Lever(reason="everything of base but the stem", options={"stem": "patch"}),
    "layer_norm_head": Lever(reason="everything of base but the head's norm", options={"head_norm": "layer"}),
    "paper_init": Lever(reason="branches begin near zero: a shallow network at first", options={"init": "paper"}),
    "paper": Lever(
        reason="the published network and recipe at this length",
        options=dict.fromkeys(BASE_OPTIONS),
        settings={"learning_rate": 1e-5, "batch_size": 4, "warmup_epochs": 0, "weight_decay": 1e-4},
    ),
    "lower_rate": Lever(reason="training scans are fitted within ten epochs", settings={"learning_rate": 1e-3}),
    "higher_rate": Lever(reason="noise of large steps may regularise", settings={"learning_rate": 1e-2}),
    "batch_4": Lever(reason="twice the steps, noisier norms", settings={"batch_size": 4}),
    "plain_scoring": Lever(reason="the mean over a scan and its mirror image varies less", options={"mirror": False}),
    "longer": Lever(reason="twice the steps", settings=TWICE_AS_LONG),
    "affine": Lever(reason="heads differ in pose and size by more than flips", settings={"augmentation": "affine"}),
    "longer_affine": Lever(
        reason="what is harder to fit needs more steps", settings={**TWICE_AS_LONG, "augmentation": "affine"}
    ),
    "anatomical": Lever(reason="intensity changes everywhere, as in round 2", settings={"augmentation": "anatomical"}),
    "mirror": Lever(reason="few steps: scans little changed", settings={"augmentation": "mirror"}),
    "mixup": Lever(reason="training scans are fitted perfectly", trainer="ADNeXtTrainer_T_Mixup"),
    "label_smoothing": Lever(reason="training scans are fitted perfectly", trainer="ADNeXtTrainer_T_Smoothed"),
    "averaged_weights": Lever(reason="scores leap between epochs", trainer="ADNeXtTrainer_T_Averaged"),
    "running_statistics": Lever(reason="as in rounds 1 and 2", settings={"precise_batch_norm": False}),
    "drop_path": Lever(reason="training scans are fitted perfectly", options={"drop_path_rate": 0.1}),
    "weight_decay": Lever(reason="training scans are fitted perfectly", settings={"weight_decay": 0.3}),
    "max_pooling": Lever(reason="keeps the strongest response of a region", options={"downsampling": "max"}),
    "small_kernel": Lever(reason="7³ of 12.8 mm tokens spans the head", options={"kernel_size": 3}),
    "size_s": Lever(reason="five times the parameters", trainer="ADNeXtTrainer_S"),
    "mean_max_head": Lever(reason="a small region may matter most", trainer="ADNeXtTrainer_T_MeanMax"),
    "attention_head": Lever(reason="not every region says as much", trainer="ADNeXtTrainer_T_Attention"),
    "auxiliary": Lever(
        reason="features that also tell age and sex cannot be people learned by heart",
        trainer="ADNeXtTrainer_T_Auxiliary",
    ),
    "grid_2.4": Lever(
        reason="what differs may be smaller than 3 mm; 2.4 times the compute",
        preprocessing={"spacing_mm": [2.4, 2.4, 2.4], "input_size_voxels": [64, 76, 64]},
    ),
    "resize": Lever(reason="every head at the same place and size", preprocessing={"fit": "resize"}),
    "rigid": Lever(reason="no pose to be learned by heart", preprocessing={"alignment": "rigid"}),
    "no_clipping": Lever(reason="clipping may take away what tells", preprocessing={"clip_percentiles": None}),
    "age_head": Lever(
        reason="what an encoder knows of age tells AD; a head of 130 numbers cannot learn 90 scans by heart",
        settings={"layer_decay": 0.0},
        has_weights=True,
    ),
    "age_head_higher_rate": Lever(
        reason="the head's loss still falls at the end",
        settings={"layer_decay": 0.0, "learning_rate": 1e-2},
        has_weights=True,
    ),
    "age_head_covariates": Lever(
        reason="what counts is how much older a brain looks than it is",
        settings={"layer_decay": 0.0, "learning_rate": 1e-2, "covariates": ["age", "sex"]},
        has_weights=True,
    ),
    "age_decay": Lever(
        reason="layers near the input keep what they know of age", settings={"layer_decay": 0.5}, has_weights=True
    ),
    "age_all": Lever(reason="every layer learns on", has_weights=True),
}
# Other networks for as long as base trains, by processor time of a step at batch 8 on one thread: 0.24 s, and 0.5, 1.2
# and 5 s of theirs. Each with the rate that suits it.
PEERS = {
    "tiny_densenet": ("ADNeXtTinyDenseNetTrainer", {"epochs": 9, "warmup_epochs": 1}),
    "densenet121": ("ADNeXtDenseNet121Trainer", {"epochs": 4, "warmup_epochs": 1}),
    "resnet10": ("ADNeXtResNet10Trainer", {"epochs": 1, "warmup_epochs": 0}),
}
LEVERS |= {
    f"{peer}_{rate:g}": Lever(
        reason="another network at equal compute",
        options=dict.fromkeys(BASE_OPTIONS),
        settings={**length, "learning_rate": rate},
        trainer=trainer,
    )
    for peer, (trainer, length) in PEERS.items()
    for rate in (3e-3, 1e-3, 3e-4)
}


def main() -> None:
    """Run what is missing."""
    arguments = _parse()
    if arguments.table:
        print(_table())
        return
    if arguments.weights is None and any(LEVERS[name].has_weights for name in arguments.levers):
        raise SystemExit("levers named age_ need --weights: make them with brain_age.py")
    use_folders(arguments.work)
    os.environ["nnUNet_extTrainer"] = str(Path(__file__).parent / "study_trainers")
    done = [json.loads(line) for line in LOG_OF_RUNS.read_text().splitlines()] if LOG_OF_RUNS.is_file() else []
    for task in arguments.tasks:
        for name in arguments.levers:
            keys = [
                {"round": ROUND, "task": task, "lever": name, "fold": fold, "seed": arguments.seed} for fold in FOLDS
            ]
            missing = [key for key in keys if not any(key.items() <= line.items() for line in done)]
            if missing:
                _prepare(task, name, arguments.work)
            for key in missing:
                line = {**key, **_train(task, name, key["fold"], arguments)}
                with LOG_OF_RUNS.open("a") as log:
                    log.write(json.dumps(line) + "\n")
                print(json.dumps(line), flush=True)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    without_weights = [name for name, lever in LEVERS.items() if not lever.has_weights]
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--work", type=lambda text: Path(text).absolute())
    what.add_argument("--table", action="store_true", help="print what the log holds")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=["sex"])
    parser.add_argument("--levers", nargs="+", choices=LEVERS, default=without_weights)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--weights", type=Path, help="checkpoint for the levers named age_")
    return parser.parse_args()


def _table() -> str:
    """Every lever that both folds were trained with, and what it changed against the base of its round."""
    runs = pd.DataFrame(json.loads(line) for line in LOG_OF_RUNS.read_text().splitlines())
    runs["score"] = [line.get("val_auc", line.get("val_mae")) for line in runs["last_quarter"]]
    runs["loss"] = [line["train_losses"] for line in runs["last_quarter"]]
    levers = runs.groupby(["round", "task", "lever"], sort=False).agg(
        reason=("reason", "first"), folds=("fold", "nunique"), score=("score", "mean"), loss=("loss", "mean")
    )
    levers = levers[levers["folds"] == len(FOLDS)].drop(columns="folds").reset_index()
    base = levers[levers["lever"] == "base"].set_index(["round", "task"])["score"]
    levers["against base"] = levers["score"] - levers.set_index(["round", "task"]).index.map(base)
    return levers.to_string(index=False, float_format="%.3f")


def _prepare(task: str, name: str, work: Path) -> None:
    """Import, preprocess and write the lever's plans file; levers that leave preparation alone share its volumes."""
    number, dataset, _ = TASKS[task]
    if not (work / "nnUNet_raw" / dataset_folder(number, dataset)).is_dir():
        import_task(task, work)
    lever, preset, source = LEVERS[name], PRESET, PLANS_NAME
    if lever.preprocessing:
        content = json.loads(PRESET.read_text())
        content["preprocessing"] |= lever.preprocessing
        preset, source = work / f"preset_{name}.json", f"Prepared_{name}"
        preset.write_text(json.dumps(content))
    run_command("adnext_plan_and_preprocess", "-d", str(number), "--preset", str(preset), "-p", source)
    folder = work / "nnUNet_preprocessed" / dataset_folder(number, dataset)
    plans = json.loads((folder / f"{source}.json").read_text())
    options = {**BASE_OPTIONS, **lever.options}
    network = plans["configurations"]["3d_fullres"]["adnext"]["network"]
    network["options"] = {option: value for option, value in options.items() if value is not None}
    plans["plans_name"] = f"Plans_{name}"
    (folder / f"Plans_{name}.json").write_text(json.dumps(plans, indent=1))


def _train(task: str, name: str, fold: int, arguments: argparse.Namespace) -> dict:
    number, dataset, _ = TASKS[task]
    lever = LEVERS[name]
    settings = {**BASE_SETTINGS, **lever.settings}
    os.environ["nnUNet_results"] = str(arguments.work / f"results_round_{ROUND}_seed_{arguments.seed}")
    folder = (
        Path(os.environ["nnUNet_results"])
        / dataset_folder(number, dataset)
        / run_name(lever.trainer, f"Plans_{name}", "3d_fullres")
        / f"fold_{fold}"
    )
    words = [str(number), "3d_fullres", str(fold), "-tr", lever.trainer, "-p", f"Plans_{name}"]
    words += ["-pretrained_weights", str(arguments.weights)] if lever.has_weights else []
    words += set_options([f"{key}={json.dumps(value)}" for key, value in settings.items()])
    # never resumed: minutes are lost, and not every lever of study_trainers keeps what it would need
    run_command("adnext_train", *words, "--seed", str(arguments.seed))
    history = read_checkpoint(folder / "checkpoint_final.pth")["logging"]
    logs = "".join(path.read_text() for path in sorted(folder.glob("training_log_*.txt")))
    last = max(1, len(history["train_losses"]) // 4)
    return {
        "reason": lever.reason,
        "changes": {
            "preprocessing": lever.preprocessing,
            "options": lever.options,
            "settings": lever.settings,
            "trainer": lever.trainer,
        },
        "base": {"options": BASE_OPTIONS, "settings": BASE_SETTINGS},
        "last_quarter": {
            key: float(np.mean(values[-last:])) for key, values in history.items() if _is_score(key, values)
        },
        "by_epoch": {key: values for key, values in history.items() if _is_score(key, values)},
        "training_seconds": sum(float(seconds) for seconds in EPOCH_SECONDS.findall(logs)),
        "made_by": provenance(),
    }


def _is_score(key: str, values: list) -> bool:
    return bool(values) and "timestamp" not in key and isinstance(values[0], float)


if __name__ == "__main__":
    main()
