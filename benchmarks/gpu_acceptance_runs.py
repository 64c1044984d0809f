"""Whole runs through the commands a user types, on the device: the demo, OASIS-1, nnU-Net's own command, brains."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from gpu_acceptance_data import CONFIGURATION, DATASET, DRAWN, NUMBER, prepared_of_drawn
from pipeline import dataset_folder, run_command, run_here, run_of, set_options

from adnext_plugin.environment import trainer_search_path
from adnext_plugin.paths import PLANS_NAME
from adnext_plugin.training.weights import read_checkpoint

TRAINER, SMALL_TRAINER = "ADNeXtTrainer_T", "ADNeXtTrainer_T_Small"
EPOCHS = 12  # of a run that is killed in its course


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
    seconds = run_command("adnext_train", "203", "3d_fullres", "cv", "-tr", SMALL_TRAINER, "--c", "-device", device)
    run = folder / "nnUNet_results" / dataset_folder(203, "OasisSex") / run_of(SMALL_TRAINER)
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


def commands(device: str, tiny: bool, folder: Path) -> dict:
    """What is another thing on a GPU than elsewhere: graphs beside the threads of loaders, a linear model of scans that
    a GPU keeps, and a run that goes on after it was killed, beside one that was not."""
    prepared_of_drawn(folder, edge=32 if tiny else 128, cases=DRAWN)
    found: dict = {"linear": _trained(folder / "linear", device, "ADNeXtLinearTrainer")}
    for name in ("off", "on"):
        found[f"data_on_gpu_{name}"] = _trained(folder / name, device, SMALL_TRAINER, f"data_on_gpu={name}")
    killed = folder / "killed"
    _kill_when_saved(killed, device)
    found["killed"] = _trained(killed, device, SMALL_TRAINER, "data_on_gpu=on")
    whole, resumed = found["data_on_gpu_on"]["losses"], found["killed"]["losses"]
    found["losses_differ_by"] = max(abs(one - other) for one, other in zip(whole, resumed, strict=True))
    return found


def _trained(results: Path, device: str, trainer: str, *settings: str) -> dict:
    seconds = run_here(*_words(results, device, trainer, *settings))
    fold = results / DATASET / run_of(trainer) / "fold_0"
    log = "".join(path.read_text() for path in fold.glob("training_log_*.txt"))
    checkpoint = read_checkpoint(fold / "checkpoint_final.pth", torch.device("cpu"))
    return {
        "seconds": seconds,
        "device": _device_of(fold),
        "losses": checkpoint["logging"]["train_losses"],
        "launched_one_by_one": "graphs failed" in log,
    }


def _kill_when_saved(results: Path, device: str) -> None:
    command = _words(results, device, SMALL_TRAINER, "data_on_gpu=on")
    words = [str(Path(sys.executable).parent / command[0]), *command[1:]]
    process = subprocess.Popen(words, start_new_session=True)
    fold = results / DATASET / run_of(SMALL_TRAINER) / "fold_0"
    while process.poll() is None and not (fold / "checkpoint_latest.pth").is_file():
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _words(results: Path, device: str, trainer: str, *settings: str) -> list[str]:
    results.mkdir(exist_ok=True)
    os.environ["nnUNet_results"] = str(results)
    own = () if trainer != SMALL_TRAINER else (f"epochs={EPOCHS}", "batch_size=4", *settings)
    return ["adnext_train", NUMBER, CONFIGURATION, "0", "-tr", trainer, "-device", device, *set_options(own)]


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
