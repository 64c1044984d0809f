"""What feeds a GPU, and what makes it wait: loading, augmentation, values that are read, the ends of epochs."""

import csv
import json
import os
import shutil
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from gpu_acceptance_steps import wait
from monai.transforms import Transform

from adnext_plugin.data.augmentation import Augmentation
from adnext_plugin.data.loading import CaseDataset, EpochLoader, EpochSampler
from adnext_plugin.data.loading_processes import loading_processes
from adnext_plugin.data.resident import ResidentLoader
from adnext_plugin.data.store import CaseStore
from adnext_plugin.nnunet_lookup import find_in_files
from adnext_plugin.on_device.change import SeededChange
from adnext_plugin.registry import AUGMENTATIONS, load, registered_names
from adnext_plugin.trainers.fold_data import open_data
from adnext_plugin.trainers.lifecycle import RunTrainer

DRAWN, CASES, BATCH, EPOCHS = 8, 384, 4, 3
LOADED = 64  # of the cases, where it is measured how fast they are loaded
RECIPES = ("none", "paper", "inside", "affine")
DATASET, NUMBER, CONFIGURATION, PLANS = "Dataset777_Busy", "777", "3d_fullres", "ADNeXtPlans"


def data(device: str, tiny: bool, folder: Path) -> dict:
    """Scans a second of loaders and of volumes kept on the device, augmentation, waits, epochs; each for itself."""
    edge, cases = (32, DRAWN) if tiny else (128, CASES)
    prepared = prepared_of_drawn(folder, edge, cases)
    found: dict[str, Any] = {"edge_voxels": edge, "cases": cases, "batch": BATCH}
    checks: dict[str, Callable[[], Any]] = {
        "epochs": lambda: _epochs(device, tiny, folder),
        "seconds_of_steps_by_launch": lambda: _launches(device, tiny, folder),
        "scans_per_second": lambda: _throughput(prepared, edge, device),
        "augmentation": lambda: _augmentation(edge, device, repeats=2 if tiny else 30),
    }
    for name, check in checks.items():
        try:
            found[name] = check()
        except Exception as error:
            traceback.print_exc()
            found[name] = {"failed": f"{type(error).__name__}: {error}"}
        found["utilisation"] = found["epochs"].get("busy")
        (folder / "found.json").write_text(json.dumps(found))
    return found


def _throughput(prepared: Path, edge: int, device: str) -> dict:
    """Batches on the device, of loaders in processes and of volumes that are kept there."""
    cases = sorted(path.stem for path in prepared.glob("*.b2nd"))[:LOADED]
    store = CaseStore(prepared, cases, (edge, edge, edge))
    store.keep_in_memory()
    targets, covariates = np.arange(len(cases)) % 2, np.zeros((len(cases), 0), dtype=np.float32)
    rows = {}
    for recipe in RECIPES:
        dataset = CaseDataset(store, targets, covariates, Augmentation(recipe, (edge, edge, edge)), seed=0)
        samplers = [EpochSampler(len(cases), BATCH, shuffle=True) for _ in range(2)]
        is_cuda = device == "cuda"
        workers = loading_processes(lambda kept=dataset: BATCH * kept.bytes_of_case(), on_gpu=is_cuda).count
        loader = EpochLoader(dataset, samplers[0], workers=workers, pin_memory=is_cuda)
        resident = ResidentLoader(dataset, samplers[1], torch.device(device))
        rows[recipe] = {
            "loader_processes": workers,
            "loaders": _scans_per_second(loader, len(cases), device),
            "on_device": _scans_per_second(resident, len(cases), device),
        }
        del loader
    return rows


def _scans_per_second(loader: EpochLoader | ResidentLoader, cases: int, device: str) -> float:
    for batch in loader.batches(0):
        batch.to(torch.device(device))
    wait(device)
    started = time.perf_counter()
    for epoch in range(1, EPOCHS):
        for batch in loader.batches(epoch):
            batch.to(torch.device(device))
    wait(device)
    return round((EPOCHS - 1) * (cases // BATCH * BATCH) / (time.perf_counter() - started), 1)


def _augmentation(edge: int, device: str, repeats: int) -> dict:
    """Milliseconds a scan where volumes are, how often the device was waited for, and the largest difference."""
    cpu_image = torch.randn(1, edge, edge, edge, generator=torch.Generator().manual_seed(0))
    cpu_image[:, : edge // 6] = 0
    image, rows = cpu_image.to(device), {}
    for name in registered_names(AUGMENTATIONS):
        transforms: list[Transform] = load(AUGMENTATIONS, name)()
        change = SeededChange(transforms)
        if not change.runs_on_device:
            rows[name] = {"runs_on_device": False}
            continue
        without_noise = [seed for seed in range(4) if device == "cuda"]
        differences = [
            float((change(image, seed).cpu() - change(cpu_image, seed)).abs().max()) for seed in without_noise
        ]

        def some(change: SeededChange = change) -> None:
            for seed in range(repeats):
                change(image, seed)

        some()
        wait(device)
        started = time.perf_counter()
        some()
        wait(device)
        milliseconds = 1000 * (time.perf_counter() - started) / repeats
        rows[name] = {
            "milliseconds_a_scan": round(milliseconds, 3),
            "waits_a_scan": _waits(some, device) / repeats,
            # the least of some seeds: noise, where a seed draws it, is other noise on a GPU
            "least_difference_to_the_cpu": min(differences, default=0.0),
        }
    return rows


def _epochs(device: str, tiny: bool, folder: Path) -> dict:
    """Epochs of a trainer as users run it: how long, how long the device was busy, and what its ends cost."""
    trainer = trainer_on_drawn("ADNeXtTrainer_T" if tiny else "ADNeXtTrainer_B", device, folder)
    trainer.on_train_start()
    for _ in range(2):
        trainer.run_epoch()  # kernels are chosen, memory is taken
    wait(device)
    seconds = []
    for _ in range(2 if tiny else 4):
        started = time.perf_counter()
        trainer.run_epoch()
        wait(device)
        seconds.append(time.perf_counter() - started)
    epoch = sorted(seconds)[len(seconds) // 2]
    trainer.wait_for_checkpoints()
    found = {
        "trainer": type(trainer).__name__,
        "data_on_gpu": trainer.settings.data_on_gpu,
        "steps": trainer.num_iterations_per_epoch,
        "seconds": [round(one, 4) for one in seconds],
        "seconds_of_steps_alone": round(_steps_alone(trainer, device), 4),
        "waits_a_step": _waits_a_step(trainer, device),
        "seconds_that_saving_holds_up": round(_saving(trainer), 4),
    }
    found["ends_of_epochs"] = round(1 - found["seconds_of_steps_alone"] / epoch, 4)
    trainer.wait_for_checkpoints()
    if device == "cuda":
        try:
            found["busy"] = round(min(1.0, _busy_seconds(trainer) / epoch), 4)
        except Exception as error:  # whatever a profiler has against this machine
            found["busy_is_not_known"] = f"{type(error).__name__}: {error}"
    return found


def _launches(device: str, tiny: bool, folder: Path) -> dict:
    """The steps of an epoch with kernels that are launched one by one, and as graphs; how far losses are apart."""
    found: dict[str, Any] = {}
    losses = []
    for launch in ("eager", "graphs"):
        os.environ["ADNEXT_LAUNCH"] = launch
        trainer = trainer_on_drawn("ADNeXtTrainer_T" if tiny else "ADNeXtTrainer_B", device, folder)
        trainer.disable_checkpointing = True
        trainer.on_train_start()
        for _ in range(2):
            trainer.run_epoch()
        log = trainer.logger.local_logger.my_fantastic_logging
        losses.append([*log["train_losses"], *log["val_losses"]])
        times = [_steps_alone(trainer, device) for _ in range(3)]
        found[launch] = round(min(times), 4)
    del os.environ["ADNEXT_LAUNCH"]
    return {**found, "losses_differ_by": max(abs(one - other) for one, other in zip(*losses, strict=True))}


def _steps_alone(trainer: RunTrainer, device: str) -> float:
    trainer.on_train_epoch_start()
    wait(device)
    started = time.perf_counter()
    for _ in range(trainer.num_iterations_per_epoch):
        trainer.train_step(next(trainer.dataloader_train))
    wait(device)
    return time.perf_counter() - started


def _waits_a_step(trainer: RunTrainer, device: str) -> float:
    trainer.on_train_epoch_start()

    def steps() -> None:
        for _ in range(trainer.num_iterations_per_epoch):
            trainer.train_step(next(trainer.dataloader_train))

    return round(_waits(steps, device) / trainer.num_iterations_per_epoch, 2)


def _saving(trainer: RunTrainer) -> float:
    trainer.wait_for_checkpoints()
    started = time.perf_counter()
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_best.pth"))  # is never left out
    return time.perf_counter() - started


def _busy_seconds(trainer: RunTrainer) -> float:
    """How long kernels and copies of an epoch ran, those that ran at once counted once."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        trainer.run_epoch()
        torch.cuda.synchronize()
    spans = sorted(
        (event.time_range.start, event.time_range.end)
        for event in profiler.events()
        if event.device_type == torch.autograd.DeviceType.CUDA
    )
    busy, reached = 0.0, float("-inf")
    for begin, end in spans:
        busy += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return busy / 1e6


def _waits(work: Callable[[], None], device: str) -> int:
    """How often a piece of work waits for the GPU, as torch notices it."""
    if device != "cuda":
        work()
        return 0
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            work()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("called a synchronizing" in str(warning.message) for warning in caught)


def trainer_on_drawn(name: str, device: str, folder: Path) -> RunTrainer:
    """A trainer of the first fold of what `prepared_of_drawn` has made."""
    from nnunetv2.run.run_training import get_trainer_from_args

    from adnext_plugin.environment import trainer_search_path

    os.environ["nnUNet_extTrainer"] = trainer_search_path()
    os.environ["ADNEXT_SETTINGS"] = json.dumps({"batch_size": BATCH, "epochs": 100})
    find_in_files(name)
    return get_trainer_from_args(DATASET, CONFIGURATION, 0, name, PLANS, False, torch.device(device))


def prepared_of_drawn(folder: Path, edge: int, cases: int) -> Path:
    """A few drawn scans, imported and prepared, and copies of them under other names until there are enough."""
    from adnext_plugin.cli import import_dataset, plan_and_preprocess

    for name in ("raw", "preprocessed", "results"):
        (folder / name).mkdir(exist_ok=True)
        os.environ[f"nnUNet_{name}"] = str(folder / name)
    table = _drawn(folder / "drawn", edge)
    words = ["777", "Busy", "--table", str(table), "--target", "group", "--positive", "b", "-np", "1", "--overwrite"]
    if import_dataset.main(words):
        raise RuntimeError("the scans could not be imported")
    size = [str(edge)] * 3
    options = ["--input-size", *size, "--spacing", "1", "1", "1", "-np", "1", "--no-splits"]
    if plan_and_preprocess.main(["-d", NUMBER, *options]):
        raise RuntimeError("the scans could not be prepared")
    dataset = folder / "preprocessed" / DATASET
    prepared = next(dataset.glob("ADNeXtPlans_*"))
    with (dataset / "subjects.csv").open(newline="") as table_file:
        rows = list(csv.DictReader(table_file))
    for number in range(len(rows), cases):
        row = dict(rows[number % DRAWN])
        case = f"{row['case_id']}x{number}"
        for path in prepared.glob(f"{row['case_id']}.*"):
            shutil.copyfile(path, prepared / f"{case}{path.suffix}")
        rows.append(row | {"case_id": case, "subject_id": f"{row['subject_id']}x{number}"})
    with (dataset / "subjects.csv").open("w", newline="") as table_file:
        writer = csv.DictWriter(table_file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    _ = replace(open_data(dataset, PLANS, CONFIGURATION), fold=0).parts  # draws the folds
    return prepared


def _drawn(folder: Path, edge: int) -> Path:
    folder.mkdir(exist_ok=True)
    lines = ["subject,path,group"]
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, edge)] * 3, indexing="ij"))
    for number in range(DRAWN):
        noise = np.random.default_rng(number).normal(0, 8, grid.shape[1:])
        radius = np.sqrt((grid**2).sum(axis=0)) / (0.75 + 0.02 * number)
        volume_xyz = np.where(radius < 1, 100 + 20 * grid[1] + noise, 0).astype(np.float32)
        nibabel.save(nibabel.Nifti1Image(volume_xyz, np.eye(4)), folder / f"{number}.nii.gz")
        lines.append(f"s{number},{number}.nii.gz,{'ab'[number % 2]}")
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    return folder / "table.csv"
