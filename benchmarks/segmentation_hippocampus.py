"""Two structures of the hippocampus from few labelled scans: does an encoder begin better where it was pre-trained?

    python benchmarks/segmentation_hippocampus.py --data DATA/hippocampus --work FOLDER

Arms, on the same cases, with the same patch and batch, and as many steps as take the same time on the device:

    stock        nnU-Net's own trainer and network
    scratch      AMAES' U-Net B, and MedNeXt M, from random weights
    pretrained   the same from weights that AMAES' objective has learned on the scans, without labels, of the whole
                 training part of the fold

each from `--n-train` labelled scans and, if asked to, from all of the training part (0).

A step is timed for every network in turn, on a batch that is there already, and the median counts. Pre-training comes
on top and is reported beside. Everything goes through the commands that users have. No arm mirrors what it predicts.
Rate and schedule are chosen before any run: AdamW's rate is that of MedNeXt's papers, because AMAES' 1e-4 is for more
steps; nnU-Net's rate is its own. Every arm falls to the end of its schedule.

Folds are trained side by side. What is finished is not done again; an arm for which the time no longer lasts is not
begun. With --report, only what is there is put together. Held-out scans are compared in pairs.

Data: Medical Segmentation Decathlon, Task04 (CC BY-SA 4.0).
"""

import argparse
import json
import os
import shutil
import signal
import sys
import tarfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from segmentation_steps import beside, run, use_folders, wait_for

from adnext_plugin.evaluation.segmentation.dice import dice_of_classes
from adnext_plugin.evaluation.segmentation.paired import compare_segmentations, require_same_cases
from adnext_plugin.evaluation.segmentation.summaries import SegmentedCases, read_segmented_cases
from adnext_plugin.paths import NNUNETS_FOLDS, SPLITS_FILE, run_name
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.training.provenance import provenance

BENCHMARKS = Path(__file__).parent
DATASET, CROPS, PLANS = "Dataset004_Hippocampus", "Dataset005_Crops", "StudyPlans"
STOCK = "nnunet"
NETWORKS = {
    "unet_b": ("ADNeXtSegUNetBTrainer", "AMAESOfStudy_UNetB"),
    "mednext_m": ("ADNeXtSegMedNeXtMTrainer", "AMAESOfStudy_MedNeXtM"),
}
EPOCHS, VALIDATION_STEPS, WARM_STEPS = 10, 1, 3
RESAMPLES = 10_000
NUMBERS = ("batch", "rate", "arm_seconds")


@dataclass(frozen=True)
class Arm:
    """What is trained on how many labelled cases; 0 for all of the training part."""

    kind: str
    network: str
    n_train: int

    @property
    def name(self) -> str:
        return f"{self.kind}_{self.network}_{self.n_train or 'all'}"

    @property
    def trainer(self) -> str:
        return "StockOfStudy" if self.network == STOCK else NETWORKS[self.network][0]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ADNEXT_TEST_DATA", BENCHMARKS.parents[1] / "shared" / "data")) / "hippocampus"
    parser.add_argument("--data", type=Path, default=default, help="folder with images/ and labels/")
    parser.add_argument("--work", type=lambda text: Path(text).absolute(), required=True, help="may be gone on with")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cpu")
    parser.add_argument("--arm-seconds", type=float, default=300, help="of the device, for the steps of each arm")
    parser.add_argument("--timed-steps", type=int, default=15)
    parser.add_argument("--pretrain-epochs", type=int, default=100)
    parser.add_argument("--pretrain-batch", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1e9, help="after so many on the clock no arm is begun")
    parser.add_argument("--n-train", type=int, nargs="+", default=[20], help="labelled cases to learn from; 0: all")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=["unet_b"])
    parser.add_argument("--folds", type=int, nargs="+", default=[0], help="of nnU-Net's five")
    parser.add_argument("--held-out", type=int, help="of each fold's held-out scans only so many, to be quicker")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-3, help="of AdamW")
    parser.add_argument("--patch", type=int, nargs=3, default=[32, 48, 32], metavar=("Z", "Y", "X"))
    parser.add_argument("--cases", type=int, help="only so many scans, to try the benchmark out")
    parser.add_argument("--processes", type=int, default=1, help="to prepare scans with")
    parser.add_argument("--loaders", type=int, default=0, help="processes that load and augment, of each fold")
    parser.add_argument("--hangs-after", type=int, default=86400, help="seconds after which an arm is given up")
    parser.add_argument("--keep", type=Path, help="folder for an archive of each arm and fold")
    parser.add_argument("--only-prepare", action="store_true", help="scans may be prepared where no GPU is")
    parser.add_argument("--report", action="store_true", help="train nothing")
    parser.add_argument("--output", type=Path, default=BENCHMARKS / "results" / "segmentation_hippocampus.json")
    return parser.parse_args()


class Study:
    """The study in its folder."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.work = arguments, arguments.work
        self.deadline = time.monotonic() + arguments.seconds
        self.raw, self.prepared = (self.work / name / DATASET for name in ("raw", "preprocessed"))
        self.notes = self.work / "notes"

    def arms(self) -> Iterator[Arm]:
        """In order of importance."""
        for n_train in self.arguments.n_train:
            for number, network in enumerate(self.arguments.networks):
                yield Arm("pretrained", network, n_train)
                yield Arm("scratch", network, n_train)
                if number == 0:
                    yield Arm("stock", STOCK, n_train)

    # ------------------------------------------------------------------ data

    def prepare(self) -> None:
        """Have nnU-Net plan and prepare the dataset, and AMAES' scans prepared beside, unless all of it is there."""
        self.notes.mkdir(parents=True, exist_ok=True)
        if self._prepared_crops.is_file() and (self.prepared / f"{PLANS}.json").is_file():
            return
        for folder in (self.raw / "imagesTr", self.raw / "labelsTr"):
            folder.mkdir(parents=True, exist_ok=True)
        labels = {path.name: path for path in (self.arguments.data / "labels").glob("hippocampus_*.nii.gz")}
        images = sorted((self.arguments.data / "images").glob("hippocampus_*.nii.gz"))
        images = [path for path in images if path.name in labels][: self.arguments.cases]
        for path in images:
            shutil.copy(path, self.raw / "imagesTr" / path.name.replace(".nii.gz", "_0000.nii.gz"))
            shutil.copy(labels[path.name], self.raw / "labelsTr" / path.name)
        splits = self._splits([path.name.removesuffix(".nii.gz") for path in images])
        sides = beside(self.work / "crops.txt", self._prepare_crops, splits)
        self._prepare_segmentation(len(images), splits)
        wait_for(sides)

    def _splits(self, names: list[str]) -> list[dict[str, list[str]]]:
        from nnunetv2.utilities.crossval_split import generate_crossval_split

        from adnext_plugin.trainers.segmentation.cases import SEED

        splits = generate_crossval_split(sorted(names), seed=SEED, n_splits=NNUNETS_FOLDS)
        return [{part: [str(name) for name in fold[part]] for part in ("train", "val")} for fold in splits]

    def _prepare_segmentation(self, count: int, splits: list[dict[str, list[str]]]) -> None:
        if (self.prepared / f"{PLANS}.json").is_file():
            return
        content = {
            "channel_names": {"0": "MRI"},
            "labels": {"background": 0, "anterior": 1, "posterior": 2},
            "numTraining": count,
            "file_ending": ".nii.gz",
            "overwrite_image_reader_writer": "NibabelIO",
        }
        (self.raw / "dataset.json").write_text(json.dumps(content))
        processes = str(self.arguments.processes)
        run("nnUNetv2_plan_and_preprocess", "-d", "4", "-c", "3d_fullres", "-np", processes, "-npfp", processes)
        from adnext_plugin.trainers.segmentation.cases import take_cases

        count = self.arguments.held_out
        held_out = [
            take_cases(fold["val"], min(count or len(fold["val"]), len(fold["val"])), seed=0) for fold in splits
        ]
        folds = [{"train": fold["train"], "val": val} for fold, val in zip(splits, held_out, strict=True)]
        (self.prepared / SPLITS_FILE).write_text(json.dumps(folds))
        plans = json.loads((self.prepared / "nnUNetPlans.json").read_text())
        full = plans["configurations"]["3d_fullres"]
        full["batch_size"], full["patch_size"] = self.arguments.batch, self.arguments.patch
        self._write_plans(plans, PLANS)

    def _write_plans(self, plans: dict[str, Any], name: str) -> None:
        temporary = self.prepared / f".{name}.{os.getpid()}"
        temporary.write_text(json.dumps(plans | {"plans_name": name}))
        temporary.replace(self.prepared / f"{name}.json")

    def _prepare_crops(self, splits: list[dict[str, list[str]]]) -> None:
        """The scans once more, as pre-training sees them, with the same folds."""
        if self._prepared_crops.is_file():
            return
        images = sorted((self.raw / "imagesTr").glob("*.nii.gz"))
        rows = [f"{path.name.removesuffix('_0000.nii.gz')},{path}" for path in images]
        table, preset = self.work / "crops.csv", self.work / "preset.json"
        table.write_text("\n".join(["subject,path", *rows]) + "\n")
        size = {"input_size_voxels": [48, 64, 48], "spacing_mm": [1, 1, 1], "brain_extraction": "none"}
        preset.write_text(json.dumps({"preprocessing": size}))
        run("adnext_import", "5", "Crops", "--table", str(table), "--unlabelled")
        processes = str(self.arguments.processes)
        run("adnext_plan_and_preprocess", "-d", "5", "-np", processes, "--preset", str(preset))
        import pandas as pd

        cases = pd.read_csv(self._prepared_crops.with_name("subjects.csv")).set_index("subject_id")["case_id"]
        known = [{part: sorted(cases[names]) for part, names in fold.items()} for fold in splits]
        self._prepared_crops.write_text(json.dumps([{**fold, "selection": []} for fold in known]))

    @property
    def _prepared_crops(self) -> Path:
        """Written last."""
        return self.work / "preprocessed" / CROPS / SPLITS_FILE

    # ------------------------------------------------------------------ time

    def time_steps(self) -> None:
        """Write down the median time of a training step of every network, one step of each in turn."""
        path = self.notes / "seconds_a_step.json"
        if path.is_file():
            return
        arms = {STOCK: Arm("timed", STOCK, 0), **{name: Arm("timed", name, 0) for name in self.arguments.networks}}
        steps = {name: self._steps(arm) for name, arm in arms.items()}
        times: dict[str, list[float]] = {name: [] for name in arms}
        for _ in range(WARM_STEPS + self.arguments.timed_steps):
            for name in arms:
                times[name].append(next(steps[name]))
        found = {name: median(taken[WARM_STEPS:]) for name, taken in times.items()}
        print("seconds a step:", found, flush=True)
        temporary = path.with_suffix(".tmp")
        temporary.write_text(json.dumps(found))
        temporary.replace(path)

    def _steps(self, arm: Arm) -> Iterator[float]:
        import torch
        from nnunetv2.run.run_training import get_trainer_from_args

        torch.set_num_threads(1)
        device = torch.device(self.arguments.device)
        self._tell(arm, steps_per_epoch=1)
        os.environ["nnUNet_n_proc_DA"] = "0"
        trainer = get_trainer_from_args(DATASET, "3d_fullres", 0, arm.trainer, arm.name, device=device)
        trainer.initialize()
        trainer.network.train()
        torch.backends.cudnn.benchmark = True  # as nnUNetv2_train does
        loader, _ = trainer.get_dataloaders()
        batch, clock = next(loader), time.perf_counter if device.type == "cuda" else time.process_time
        while True:
            start = clock()
            trainer.train_step(dict(batch))
            if device.type == "cuda":
                torch.cuda.synchronize()
            yield clock() - start

    def seconds_a_step(self) -> dict[str, float]:
        """As they were written down; waits for them."""
        path = self.notes / "seconds_a_step.json"
        while not path.is_file():
            if time.monotonic() > self.deadline:
                raise RuntimeError("the time of a step was not found out")
            time.sleep(0.5)
        return json.loads(path.read_text())

    # ------------------------------------------------------------------ training

    def pretrain(self, network: str, fold: int) -> Path:
        """Pre-train on a fold's training part without labels; the checkpoint."""
        trainer = NETWORKS[network][1]
        folder = self.work / "results" / CROPS / run_name(trainer, "ADNeXtPlans", "3d_fullres") / f"fold_{fold}"
        notes = self.notes / f"pretrained_{network}_{fold}.json"
        if not notes.is_file():
            values = {
                "epochs": self.arguments.pretrain_epochs,
                "batch_size": self.arguments.pretrain_batch,
                "warmup_epochs": 1,
            }
            values["learning_rate"] = self.arguments.rate
            words = [f"{key}={json.dumps(value)}" for key, value in values.items()]
            words.append(f"options={json.dumps({'patch_voxels': self.arguments.patch})}")
            sets = [word for one in words for word in ("--set", one)]
            start = time.monotonic()
            run(
                "adnext_pretrain", "5", "3d_fullres", str(fold), "-tr", trainer, "-device", self.arguments.device, *sets
            )
            report = json.loads((folder / "validation" / "summary.json").read_text())
            notes.write_text(json.dumps({**values, "wall_seconds": time.monotonic() - start, "summary": report}))
        return folder / "checkpoint_final.pth"

    def train(self, arm: Arm, fold: int) -> None:
        """Train an arm on a fold, and predict what it holds out."""
        notes = self.notes / f"{arm.name}_{fold}.json"
        if notes.is_file():
            return
        weights = self.pretrain(arm.network, fold) if arm.kind == "pretrained" else None
        seconds = self.seconds_a_step()[arm.network]
        steps = max(1, round(self.arguments.arm_seconds / seconds / EPOCHS))
        self._tell(arm, steps_per_epoch=steps)
        os.environ["nnUNet_n_proc_DA"] = str(self.arguments.loaders)
        words = ["4", "3d_fullres", str(fold), "-tr", arm.trainer, "-p", arm.name, "--disable_checkpointing"]
        words += ["-device", self.arguments.device]
        words += ["-pretrained_weights", str(weights)] if weights else []
        start = time.monotonic()
        run("nnUNetv2_train", *words)
        found = {"steps": steps * EPOCHS, "seconds_a_step": seconds, "wall_seconds": time.monotonic() - start}
        found["made_by"] = provenance()
        notes.write_text(json.dumps(found))
        self._keep(arm, fold)

    def _tell(self, arm: Arm, steps_per_epoch: int) -> None:
        """Write plans of the arm's name, which tell our trainers what it is, and tell nnU-Net's by the environment."""
        n_train = arm.n_train if arm.kind != "timed" else 0
        numbers = {"epochs": EPOCHS, "steps_per_epoch": steps_per_epoch, "validation_steps": VALIDATION_STEPS}
        numbers |= {"n_train": n_train} if n_train else {}
        os.environ["ADNEXT_SEGMENTATION_STUDY"] = json.dumps(numbers)
        plans = json.loads((self.prepared / f"{PLANS}.json").read_text())
        settings = {**numbers, "batch_size": self.arguments.batch, "learning_rate": self.arguments.rate}
        if arm.network != STOCK:
            plans["configurations"]["3d_fullres"]["adnext_segmentation"] = {"settings": settings}
        self._write_plans(plans, arm.name)

    def _keep(self, arm: Arm, fold: int) -> None:
        if self.arguments.keep is None:
            return
        self.arguments.keep.mkdir(parents=True, exist_ok=True)
        folder, notes = self.run_folder(arm), self.notes / f"{arm.name}_{fold}.json"
        paths = [folder.dataset_file, folder.plans_file, folder.fold(fold).path, notes]
        paths += [self.notes / "seconds_a_step.json", self.prepared / SPLITS_FILE]
        paths += self.notes.glob(f"pretrained_*_{fold}.json")
        with tarfile.open(self.arguments.keep / f"{arm.name}_{fold}.tar.gz", "w:gz") as archive:
            for path in paths:
                archive.add(path, path.relative_to(self.work))

    def run_folder(self, arm: Arm) -> RunFolder:
        """Of all folds of an arm."""
        return RunFolder(self.work / "results" / DATASET / run_name(arm.trainer, arm.name, "3d_fullres"))

    def lane(self, fold: int) -> None:
        """Train the arms of a fold one after the other, for as long as the time lasts; none may hang for ever."""
        longest = 0.0
        signal.signal(signal.SIGALRM, _give_up)
        for arm in self.arms():
            start = time.monotonic()
            if start + longest > self.deadline:
                print(f"no time is left for {arm.name}", flush=True)
                return
            try:
                signal.alarm(self.arguments.hangs_after)
                self.train(arm, fold)
            except (Exception, SystemExit):
                traceback.print_exc()
                (self.notes / f"failed_{arm.name}_{fold}.txt").write_text(traceback.format_exc())
            signal.alarm(0)
            if arm.kind != "pretrained":
                longest = max(longest, time.monotonic() - start)

    # ------------------------------------------------------------------ report

    def report(self) -> dict[str, Any]:
        """What there is: Dice of each arm and paired differences, over the folds that all arms of a size have."""
        cost = {path.stem: json.loads(path.read_text()) for path in sorted(self.notes.glob("*_[0-9].json"))}
        done = {arm: [fold for fold in range(NNUNETS_FOLDS) if f"{arm.name}_{fold}" in cost] for arm in self.arms()}
        sizes = {
            str(n_train or "all"): scores(
                {a.network + " " + a.kind: self.run_folder(a) for a, f in done.items() if f and a.n_train == n_train}
            )
            for n_train in self.arguments.n_train
            if any(folds and arm.n_train == n_train for arm, folds in done.items())
        }
        values = {name: getattr(self.arguments, name) for name in (*NUMBERS, "pretrain_epochs", "pretrain_batch")}
        return {
            "made_by": next(one["made_by"] for one in cost.values() if "made_by" in one),
            "what": "Dice of two structures of the hippocampus on held-out scans, and its mean over both",
            "patch_voxels_zyx": self.arguments.patch,
            **values,
            "seconds_a_step": self.seconds_a_step(),
            "folds": {arm.name: folds for arm, folds in done.items()},
            "labelled_scans": sizes,
            "runs": {name: {key: one[key] for key in one if key != "made_by"} for name, one in cost.items()},
        }


def _give_up(*_: object) -> None:
    raise TimeoutError("the arm hangs, or takes longer than --hangs-after")


def scores(runs: dict[str, RunFolder]) -> dict[str, Any]:
    """Dice of each arm on the cases that all have, and paired differences; each case is a person of its own."""
    cases = {name: read_segmented_cases(run) for name, run in runs.items()}
    common = set.intersection(*({*one.folds} for one in cases.values()))
    cases = {name: _of_folds(one, common) for name, one in cases.items()}
    require_same_cases(cases)
    people = next(iter(cases.values())).case_ids
    return {
        "folds": sorted(common),
        "cases": len(people),
        "dice": {
            name: [asdict(one) for one in dice_of_classes(found, people, RESAMPLES)] for name, found in cases.items()
        },
        "pairs": [asdict(pair) for pair in compare_segmentations(cases, people, RESAMPLES)],
    }


def _of_folds(cases: SegmentedCases, folds: set[int]) -> SegmentedCases:
    """The cases of some folds."""
    chosen = [place for place, fold in enumerate(cases.folds) if fold in folds]
    listed = {name: tuple(getattr(cases, name)[place] for place in chosen) for name in ("case_ids", "folds", "files")}
    arrays = {name: getattr(cases, name)[chosen] for name in ("dice", "voxels", "size")}
    return SegmentedCases(classes=cases.classes, **listed, **arrays)


def main() -> None:
    """Do what is not done yet, and write down what there is."""
    arguments = _arguments()
    use_folders(arguments.work, arguments.processes)
    study = Study(arguments)
    if not arguments.report:
        import nnunetv2.run.run_training  # noqa: F401  before processes begin, which then have it

        study.prepare()
        if arguments.only_prepare:
            return
        start = time.monotonic()
        timing = beside(study.work / "timing.txt", study.time_steps)
        lanes = [beside(study.work / f"fold_{fold}.txt", study.lane, fold) for fold in arguments.folds]
        wait_for(timing, *lanes)
        print(f"trained for {time.monotonic() - start:.0f} s", flush=True)
        if failed := sorted(study.notes.glob("failed_*.txt")):
            sys.exit(f"failed: {', '.join(path.stem for path in failed)}\n{failed[0].read_text()}")
    report = study.report()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    for size, found in report["labelled_scans"].items():
        print(f"{size} labelled scans, folds {found['folds']}, {found['cases']} cases")
        for name, classes in found["dice"].items():
            print(f"  {name:24} {classes[-1]['mean']['value']:.4f}")


if __name__ == "__main__":
    main()
