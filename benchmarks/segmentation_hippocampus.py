"""Two structures of the hippocampus from few labelled scans: does an encoder begin better where it was pre-trained?

    python benchmarks/segmentation_hippocampus.py --data DATA/hippocampus --work FOLDER

Arms, on the same cases, with the same patch and batch, and as many steps as take the same processor time:

    stock        nnU-Net's own trainer and network
    scratch      AMAES' U-Net B from random weights
    pretrained   the same from weights that AMAES' objective has learned on the scans, without labels, of the whole
                 training part of the fold

Steps are counted out by how long a few of them take. Pre-training comes on top and is reported beside. Everything goes
through the commands that users have. No arm mirrors what it predicts, which would take eight times as long. What is
finished is not done again, so that it may be interrupted; longer, with more folds or more cases, it is the study that
its name says. Held-out scans are compared in pairs.

Data: Medical Segmentation Decathlon, Task04 (CC BY-SA 4.0).
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from adnext_plugin.evaluation.segmentation.dice import dice_of_classes
from adnext_plugin.evaluation.segmentation.paired import compare_segmentations, require_same_cases
from adnext_plugin.evaluation.segmentation.summaries import read_segmented_cases
from adnext_plugin.paths import NNUNETS_FOLDS, run_name
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.training.provenance import provenance

BENCHMARKS = Path(__file__).parent
DATASET, CROPS, PLANS = "Dataset004_Hippocampus", "Dataset005_Crops", "StudyPlans"
ARMS = {"stock": "StockOfStudy", "scratch": "ADNeXtSegUNetBTrainer", "pretrained": "ADNeXtSegUNetBTrainer"}
PRETRAINER = "ADNeXtAMAESTrainer_UNetB"
EPOCHS, VALIDATION_STEPS, TIMED_STEPS = 5, 1, 4
RESAMPLES = 10_000


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ADNEXT_TEST_DATA", BENCHMARKS.parents[1] / "shared" / "data")) / "hippocampus"
    parser.add_argument("--data", type=Path, default=default, help="folder with images/ and labels/")
    parser.add_argument("--work", type=Path, required=True, help="folder of all that is made; may be gone on with")
    parser.add_argument("--minutes", type=float, default=6, help="of one processor, for the steps of each arm")
    parser.add_argument("--pretrain-minutes", type=float, default=8, help="likewise, for pre-training")
    parser.add_argument("--n-train", type=int, default=20, help="labelled cases to learn from")
    parser.add_argument("--folds", type=int, nargs="+", default=[0], help="of nnU-Net's five")
    parser.add_argument("--held-out", type=int, help="of each fold's held-out scans only so many, to be quicker")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-3, help="of AdamW, for runs much shorter than the paper's")
    parser.add_argument("--patch", type=int, nargs=3, default=[32, 48, 32], metavar=("Z", "Y", "X"))
    parser.add_argument("--cases", type=int, help="only so many scans, to try the benchmark out")
    parser.add_argument("--output", type=Path, default=BENCHMARKS / "results" / "segmentation_hippocampus.json")
    parser.add_argument("--time-arm", choices=list(ARMS), help=argparse.SUPPRESS)  # for a process of its own
    return parser.parse_args()


class Study:
    """The study in its folder."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.work = arguments, arguments.work.absolute()
        self.environment = {
            **os.environ,
            **{f"nnUNet_{name}": str(self.work / name) for name in ("raw", "preprocessed", "results")},
            **{"nnUNet_def_n_proc": "1", "OMP_NUM_THREADS": "1"},
            "PYTHONPATH": os.pathsep.join(filter(None, [str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")])),
        }

    # ------------------------------------------------------------------ data

    def prepare(self) -> None:
        """Have nnU-Net plan and prepare the dataset, with the study's batch and patch."""
        raw, prepared = self.work / "raw" / DATASET, self.work / "preprocessed" / DATASET
        if (prepared / f"{PLANS}.json").is_file():
            return
        for name in ("raw", "preprocessed", "results"):
            (self.work / name).mkdir(parents=True, exist_ok=True)
        for name in ("imagesTr", "labelsTr"):
            (raw / name).mkdir(parents=True, exist_ok=True)
        labels = {path.name: path for path in (self.arguments.data / "labels").glob("hippocampus_*.nii.gz")}
        images = sorted((self.arguments.data / "images").glob("hippocampus_*.nii.gz"))
        images = [path for path in images if path.name in labels][: self.arguments.cases]
        for path in images:
            shutil.copy(path, raw / "imagesTr" / path.name.replace(".nii.gz", "_0000.nii.gz"))
            shutil.copy(labels[path.name], raw / "labelsTr" / path.name)
        content = {
            "channel_names": {"0": "MRI"},
            "labels": {"background": 0, "anterior": 1, "posterior": 2},
            "numTraining": len(images),
            "file_ending": ".nii.gz",
        }
        (raw / "dataset.json").write_text(json.dumps(content))
        self.run("nnUNetv2_plan_and_preprocess", "-d", "4", "-c", "3d_fullres", "-np", "1", nnUNet_n_proc_DA="1")
        plans = json.loads((prepared / "nnUNetPlans.json").read_text())
        plans["plans_name"] = PLANS
        full = plans["configurations"]["3d_fullres"]
        full["batch_size"], full["patch_size"] = self.arguments.batch, self.arguments.patch
        (prepared / f"{PLANS}.json").write_text(json.dumps(plans))
        from nnunetv2.utilities.crossval_split import generate_crossval_split

        from adnext_plugin.trainers.segmentation.cases import SEED, take_cases

        names = sorted(path.name.removesuffix(".nii.gz") for path in images)
        splits = generate_crossval_split(names, seed=SEED, n_splits=NNUNETS_FOLDS)
        for fold in splits:
            fold["val"] = take_cases(fold["val"], self.arguments.held_out or len(fold["val"]), seed=0)
        (prepared / "splits_final.json").write_text(json.dumps(splits))

    def _splits(self) -> list[dict[str, list[str]]]:
        return json.loads((self.work / "preprocessed" / DATASET / "splits_final.json").read_text())

    # ------------------------------------------------------------------ pre-training

    def pretrain(self, fold: int, seconds_a_patch: float) -> tuple[Path, dict[str, Any]]:
        """Pre-train on the scans of a fold's training part, without labels; the checkpoint, and what it took."""
        number = 10 + fold
        dataset = f"Dataset{number:03d}_Crops{fold}"
        folder = self.work / "results" / dataset / f"{PRETRAINER}__ADNeXtPlans__3d_fullres" / "fold_all"
        notes = self.work / f"pretraining_{fold}.json"
        if not notes.is_file():
            scans = self._splits()[fold]["train"]
            images = self.work / "raw" / DATASET / "imagesTr"
            rows = [f"{name},{images / f'{name}_0000.nii.gz'}" for name in scans]
            table = self.work / f"crops_{fold}.csv"
            table.write_text("\n".join(["subject,path", *rows]) + "\n")
            preset = self.work / "preset.json"
            size = {"input_size_voxels": [48, 64, 48], "spacing_mm": [1, 1, 1], "brain_extraction": "none"}
            preset.write_text(json.dumps({"preprocessing": size}))
            if not (self.work / "raw" / dataset).is_dir():
                self.run("adnext_import", str(number), f"Crops{fold}", "--table", str(table), "--unlabelled")
            self.run("adnext_plan_and_preprocess", "-d", str(number), "-np", "1", "--preset", str(preset))
            epochs = max(2, round(self.arguments.pretrain_minutes * 60 / (seconds_a_patch * len(scans))))
            values = {"epochs": epochs, "batch_size": 8, "warmup_epochs": 1, "patch_voxels": self.arguments.patch}
            words = [word for key, value in values.items() for word in ("--set", f"{key}={json.dumps(value)}")]
            seconds = self.run(
                "adnext_pretrain", str(number), "3d_fullres", "-tr", PRETRAINER, "-device", "cpu", *words
            )
            notes.write_text(json.dumps({"scans": len(scans), **values, "wall_seconds": seconds}))
        return folder / "checkpoint_final.pth", json.loads(notes.read_text())

    # ------------------------------------------------------------------ arms

    def train(self, arm: str, fold: int, seconds_a_step: float, weights: Path | None) -> dict[str, Any]:
        """Train an arm on a fold; what it took."""
        steps = max(1, round(self.arguments.minutes * 60 / seconds_a_step / EPOCHS))
        numbers = {"epochs": EPOCHS, "steps_per_epoch": steps, "validation_steps": VALIDATION_STEPS}
        numbers["n_train"] = self.arguments.n_train
        results = self.work / "results_of_arms" / arm
        results.mkdir(parents=True, exist_ok=True)
        folder = self.run_folder(arm).fold(fold).path
        notes = results / f"fold_{fold}.json"
        if not notes.is_file():
            words = ["4", "3d_fullres", str(fold), "-tr", ARMS[arm], "-p", PLANS, "-device", "cpu"]
            if any(folder.glob("checkpoint_*.pth")):
                words.append("--c")
            elif weights is not None:
                words += ["-pretrained_weights", str(weights)]
            seconds = self.run("nnUNetv2_train", *words, **self._trainers(numbers), nnUNet_results=str(results))
            notes.write_text(json.dumps({"steps": steps * EPOCHS, "wall_seconds": seconds}))
        return {**json.loads(notes.read_text()), "seconds_a_step": seconds_a_step}

    def run_folder(self, arm: str) -> RunFolder:
        """Of all folds of an arm."""
        return RunFolder(self.work / "results_of_arms" / arm / DATASET / run_name(ARMS[arm], PLANS, "3d_fullres"))

    def seconds_a_step(self, arm: str) -> float:
        """Processor time of a training step, loading and augmentation included; measured once, in a process alone."""
        notes = self.work / f"seconds_a_step_{arm}.json"
        if not notes.is_file():
            numbers = {"epochs": 1, "steps_per_epoch": 1, "validation_steps": 1, "n_train": self.arguments.n_train}
            results = str(self.work / "results_of_timing")
            words = [sys.executable, __file__, "--work", str(self.work), "--time-arm", arm]
            variables = {**self._trainers(numbers), "nnUNet_results": results}
            done = subprocess.run(
                words, env={**self.environment, **variables}, check=True, capture_output=True, text=True
            )
            notes.write_text(done.stdout.strip().splitlines()[-1])
        return float(json.loads(notes.read_text()))

    def _trainers(self, numbers: dict[str, int]) -> dict[str, str]:
        from adnext_plugin.paths import hook_dir

        paths = os.pathsep.join([str(hook_dir()), str(BENCHMARKS / "study_trainers")])
        own = {**numbers, "batch_size": self.arguments.batch, "learning_rate": self.arguments.rate}
        return {
            "nnUNet_extTrainer": paths,
            "ADNEXT_SETTINGS": json.dumps(own),
            "ADNEXT_SEGMENTATION_STUDY": json.dumps(numbers),
            "nnUNet_n_proc_DA": "0",
        }

    def run(self, command: str, *words: str, **variables: str) -> float:
        """Run a command of the environment; seconds on the clock."""
        start = time.monotonic()
        print(f"{time.strftime('%H:%M:%S')} {command} {' '.join(words)}", flush=True)
        program = Path(sys.executable).with_name(command)
        subprocess.run([str(program), *words], env={**self.environment, **variables}, check=True)
        return time.monotonic() - start


def time_arm(arm: str) -> None:
    """Print the processor time of a step, in the environment that the study has made."""
    import torch
    from nnunetv2.run.run_training import get_trainer_from_args

    torch.set_num_threads(1)
    trainer = get_trainer_from_args(DATASET, "3d_fullres", 0, ARMS[arm], PLANS, device=torch.device("cpu"))
    trainer.disable_checkpointing = True
    trainer.on_train_start()
    trainer.network.train()
    trainer.train_step(next(trainer.dataloader_train))
    start = time.process_time()
    for _ in range(TIMED_STEPS):
        trainer.train_step(next(trainer.dataloader_train))
    print((time.process_time() - start) / TIMED_STEPS)


def scores(runs: dict[str, RunFolder]) -> dict[str, Any]:
    """Dice of each arm, and paired differences on the same cases, each of which is a person of its own."""
    cases = {arm: read_segmented_cases(run) for arm, run in runs.items()}
    require_same_cases(cases)
    people = cases["scratch"].case_ids
    return {
        "cases": len(people),
        "dice": {
            arm: [asdict(one) for one in dice_of_classes(found, people, RESAMPLES)] for arm, found in cases.items()
        },
        "pairs": [asdict(pair) for pair in compare_segmentations(cases, people, RESAMPLES)],
    }


def main() -> None:
    """Do what is not done yet, and write down what there is after every arm."""
    arguments = _arguments()
    if arguments.time_arm:
        time_arm(arguments.time_arm)
        return
    study = Study(arguments)
    study.prepare()
    seconds = {arm: study.seconds_a_step("scratch" if arm == "pretrained" else arm) for arm in ARMS}
    print("processor seconds a step:", seconds, flush=True)
    arms: dict[str, dict[int, dict[str, Any]]] = {}
    pretraining = {}
    for fold in arguments.folds:
        weights, pretraining[fold] = study.pretrain(fold, seconds["scratch"] / arguments.batch)
        for arm in ("scratch", "pretrained", "stock"):
            found = study.train(arm, fold, seconds[arm], weights if arm == "pretrained" else None)
            arms.setdefault(arm, {})[fold] = found
        report = {
            "made_by": {**provenance(), "nnunetv2": version("nnunetv2")},
            "what": "Dice of two structures of the hippocampus on held-out scans, and its mean over both",
            "n_train": arguments.n_train,
            "folds": sorted(arms["stock"]),
            "patch_voxels_zyx": arguments.patch,
            "batch": arguments.batch,
            "rate_of_adamw": arguments.rate,
            "processor_minutes_of_each_arm": arguments.minutes,
            "pretraining": pretraining,
            **scores({arm: study.run_folder(arm) for arm in reversed(ARMS)}),
            "arms": arms,
        }
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")
        print(json.dumps({key: report[key] for key in ("dice", "pairs")}, indent=1), flush=True)


if __name__ == "__main__":
    main()
