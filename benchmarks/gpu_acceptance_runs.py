"""Whole runs through the commands a user types, on the device: the demo, OASIS-1, nnU-Net's own command, brains."""

import json
import os
import time
from pathlib import Path

import numpy as np
from gpu_acceptance_data import CONFIGURATION, DATASET, DRAWN, NUMBER, prepared_of_drawn
from pipeline import dataset_folder, run_command, run_of

from adnext_plugin.environment import trainer_search_path
from adnext_plugin.paths import PLANS_NAME

TRAINER, OASIS_TRAINER = "ADNeXtTrainer_T", "ADNeXtTrainer_T_Small"


def demo(device: str, tiny: bool, folder: Path) -> dict:
    """AUC of the demo's network, which the CPU reaches as well."""
    size = ("--subjects", "16", "--epochs", "3") if tiny else ()
    seconds = run_command("adnext_demo", "--output", str(folder / "demo"), "-device", device, *size)
    return {"seconds": seconds, **_auc(folder / "demo" / "nnUNet_results" / "Dataset999_Demo" / run_of(TRAINER))}


def oasis(device: str, tiny: bool, folder: Path) -> dict:
    """Sex from OASIS-1, 4 folds, where the prepared dataset is at hand."""
    prepared = os.environ.get("ADNEXT_ACCEPTANCE_OASIS")
    if not prepared or tiny:
        return {"not_run": "no --oasis"}
    for name in ("nnUNet_raw", "nnUNet_preprocessed"):
        os.environ[name] = str(Path(prepared).absolute() / name)
    os.environ["nnUNet_results"] = str(folder / "nnUNet_results")
    seconds = run_command("adnext_train", "203", "3d_fullres", "cv", "-tr", OASIS_TRAINER, "--c", "-device", device)
    run = folder / "nnUNet_results" / dataset_folder(203, "OasisSex") / run_of(OASIS_TRAINER)
    return {"seconds": seconds, **_auc(run)}


def stock_command(device: str, tiny: bool, folder: Path) -> dict:
    """`nnUNetv2_train … -num_gpus 1` finds the trainer, trains a fold, and its checkpoint predicts."""
    prepared_of_drawn(folder, edge=32 if tiny else 128, cases=DRAWN)
    os.environ |= {"nnUNet_extTrainer": trainer_search_path(), "ADNEXT_SETTINGS": json.dumps({"epochs": 3})}
    which = (NUMBER, CONFIGURATION, "0", "-tr", TRAINER, "-p", PLANS_NAME)
    seconds = run_command("nnUNetv2_train", *which, "-num_gpus", "1", "-device", device)
    fold = folder / "results" / DATASET / run_of(TRAINER) / "fold_0"
    summary = json.loads((fold / "validation" / "summary.json").read_text())
    return {"seconds": seconds, "held_out": summary["metrics"]["val"], "device": _device_of(fold)}


def brain_extraction(device: str, tiny: bool, folder: Path) -> dict:
    """deepbet on a raw head, on the device and on the CPU: seconds, and how alike the masks are (Dice)."""
    head = _head()
    if head is None or tiny:
        return {"not_run": "no folder ADNEXT_TEST_DATA with a raw head"}
    from adnext_plugin.images import read_volume, reorient_to_ras
    from adnext_plugin.preprocessing.brains.brain_networks import _by_deepbet

    volume = reorient_to_ras(read_volume(head))
    masks, seconds = {}, {}
    for name in (device, "cpu"):
        for _ in range(2):  # the first loads the networks
            started = time.perf_counter()
            masks[name] = _by_deepbet(volume.volume_zyx, name)
            seconds[name] = round(time.perf_counter() - started, 2)
    first, second = masks[device], masks["cpu"]
    dice = 2 * np.logical_and(first, second).sum() / (first.sum() + second.sum())
    return {"seconds": seconds, "dice": float(dice), "brain_ml": float(first.sum() * np.prod(volume.spacing_mm) / 1e3)}


def _head() -> Path | None:
    data = os.environ.get("ADNEXT_TEST_DATA")
    return next(iter(sorted(Path(data).rglob("*_T1w.nii.gz"))), None) if data else None


def _auc(run: Path) -> dict:
    metrics = json.loads((run / "crossval_results" / "metrics.json").read_text())
    score = metrics["scores"]["auc_mean_of_folds"]
    return {"auc": score["value"], "interval": [score["low"], score["high"]], "device": _device_of(run / "fold_0")}


def _device_of(fold: Path) -> str:
    return json.loads((fold / "run.json").read_text())["device"]
