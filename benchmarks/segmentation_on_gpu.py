"""Every segmentation trainer, once: an epoch, held-out scans, and in a fresh process one scan predicted.

    python benchmarks/segmentation_on_gpu.py --prepared STUDY --work FOLDER

STUDY is the folder of `segmentation_hippocampus.py`, whose prepared scans are taken. The predicted scan is one of those
held out, so that training's own prediction of it says whether the network was read as it was written. Appends a line of
JSON for each trainer, with the memory that a GPU needed at most.
"""

import argparse
import json
import os
import shutil
import time
import traceback
from pathlib import Path
from typing import Any

from segmentation_steps import run, run_apart, use_folders

from adnext_plugin.paths import SPLITS_FILE, run_name
from adnext_plugin.training.provenance import provenance

DATASET, PLANS = "Dataset004_Hippocampus", "StudyPlans"
TRAINERS = [f"ADNeXtSeg{name}Trainer" for name in ("UNetXL", "MedNeXtL", "MedNeXtV2", "MedNeXtV2Wide", "SwinUNETR")]
TRAINERS += [f"ADNeXtSegTrainer_{size}" for size in "TSB"]
TRAINERS += ["ADNeXtSegUNetBTrainer", "ADNeXtSegMedNeXtMTrainer"]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    absolute = {"type": lambda text: Path(text).absolute(), "required": True}
    parser.add_argument("--prepared", **absolute, help="folder of the study")
    parser.add_argument("--work", **absolute)
    parser.add_argument("--trainers", nargs="+", default=TRAINERS)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--patch", type=int, nargs=3, default=[64, 64, 64], metavar=("Z", "Y", "X"))
    parser.add_argument("--output", type=Path, help="of one line for each trainer; printed otherwise")
    return parser.parse_args()


def prepare(study: Path, work: Path) -> str:
    """Take the study's scans, of which two are held out; the name of the first."""
    prepared, source = work / "preprocessed" / DATASET, study / "preprocessed" / DATASET
    prepared.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir():
        if path.name != SPLITS_FILE and not (prepared / path.name).exists():
            (prepared / path.name).symlink_to(path)
    fold = json.loads((source / SPLITS_FILE).read_text())[0]
    held_out = fold["val"][:2]
    (prepared / SPLITS_FILE).write_text(json.dumps([{"train": fold["train"], "val": held_out}]))
    scans = work / "scans"
    scans.mkdir(exist_ok=True)
    shutil.copy(study / "raw" / DATASET / "imagesTr" / f"{held_out[0]}_0000.nii.gz", scans)
    return held_out[0]


def tried(trainer: str, case: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Train, validate, read again and predict; what was seen."""
    import torch

    settings = {"epochs": 1, "steps_per_epoch": arguments.steps, "validation_steps": 1, "warmup_epochs": 0}
    os.environ["ADNEXT_SETTINGS"] = json.dumps({**settings, "batch_size": 2, "patch_voxels": arguments.patch})
    device, work = arguments.device, arguments.work
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    start = time.monotonic()
    run("nnUNetv2_train", "4", "3d_fullres", "0", "-tr", trainer, "-p", PLANS, "-device", device)
    trained = time.monotonic()
    peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
    predicted = work / "predicted" / trainer
    os.environ["ADNEXT_SETTINGS"] = ""
    words = ["-i", str(work / "scans"), "-o", str(predicted), "-d", "4", "-c", "3d_fullres", "-f", "0", "-tr", trainer]
    run_apart("nnUNetv2_predict", *words, "-p", PLANS, "-device", device, "-npp", "1", "-nps", "1")
    folder = work / "results" / DATASET / run_name(trainer, PLANS, "3d_fullres") / "fold_0"
    checkpoint = torch.load(folder / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    # some layers stand in the state under two names
    sizes = {one.data_ptr(): one.numel() for one in checkpoint["network_weights"].values()}
    log = "".join(path.read_text() for path in folder.glob("training_log_*.txt"))
    (folder / "checkpoint_final.pth").unlink()
    (folder / "checkpoint_best.pth").unlink(missing_ok=True)
    return {
        "trainer": trainer,
        "parameters": sum(sizes.values()),
        "steps": arguments.steps,
        "train_loss": checkpoint["logging"]["local"]["train_losses"][-1]
        if "local" in checkpoint["logging"]
        else checkpoint["logging"]["train_losses"][-1],
        "gpu_gibibytes": peak,
        "train_and_validate_seconds": trained - start,
        "predict_seconds": time.monotonic() - trained,
        "dice": json.loads((folder / "validation" / "summary.json").read_text())["foreground_mean"]["Dice"],
        "share_of_voxels_as_in_validation": agreement(
            predicted / f"{case}.nii.gz", folder / "validation" / f"{case}.nii.gz"
        ),
        "warnings": sorted({line for line in log.splitlines() if "WARNING" in line}),
    }


def agreement(first: Path, second: Path) -> float:
    """The share of voxels that two segmentations give the same class."""
    import nibabel
    import numpy as np

    return float((np.asarray(nibabel.load(first).dataobj) == np.asarray(nibabel.load(second).dataobj)).mean())


def main() -> None:
    """Try the trainers one after the other."""
    arguments = _arguments()
    use_folders(arguments.work, 1)
    os.environ["nnUNet_n_proc_DA"] = "1"
    case = prepare(arguments.prepared, arguments.work)
    failed = False
    for trainer in arguments.trainers:
        try:
            row = {**tried(trainer, case, arguments), "made_by": provenance()}
        except (Exception, SystemExit) as error:
            traceback.print_exc()
            row, failed = {"trainer": trainer, "failed": f"{type(error).__name__}: {error}"}, True
        line = json.dumps(row)
        print(line, flush=True)
        if arguments.output is not None:
            with arguments.output.open("a") as stream:
                stream.write(line + "\n")
    raise SystemExit(int(failed))


if __name__ == "__main__":
    main()
