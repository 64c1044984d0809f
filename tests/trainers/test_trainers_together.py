"""Two processes train the network that one would train with the whole batch, and say it when they cannot go on."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from conftest import Workspace, empty_workspace, toy_brain, write_scan
from nnunetv2.run.run_training import get_trainer_from_args
from torchvision.ops import StochasticDepth

from adnext_plugin.cli import import_dataset, plan_and_preprocess, train
from adnext_plugin.data.loading import EpochSampler
from adnext_plugin.errors import SettingsError
from adnext_plugin.paths import hook_dir
from adnext_plugin.run_records import read_summary
from adnext_plugin.trainers import lifecycle
from adnext_plugin.trainers.processes import draws_at_random
from adnext_plugin.training import checkpoint_saver
from adnext_plugin.training.weights import read_checkpoint

DATASET = "Dataset305_Uneven"
PRESET = {
    "preprocessing": {"input_size_voxels": [64, 32, 32], "spacing_mm": [2.5, 2.5, 2.5]},
    "network": {"options": {"init": "fan_in", "drop_path_rate": 0.0}},
}
# plain descent: where a gradient is nothing but rounding, Adam takes as large a step as anywhere
COMMON = {"epochs": 2, "warmup_epochs": 0, "optimizer": "sgd", "learning_rate": 0.01, "batch_size": 3}
FCMAE = {"mask_ratio": 0.5, "decoder_width": 16, "sparse_convolution": ["scatter"] * 4}
RUNS = {
    "class weights, uneven shares, empty shares": ("ADNeXtTrainer_T", {}, {}),
    "parts of batches": ("ADNeXtTrainer_T", {}, {"accumulate": 2}),
    "batch norm, settled": ("ADNeXtTrainer_T_Small", {"evaluate_with": "best", "learning_rate": 1e-4}, {}),
    "batch norm, in parts": ("ADNeXtTrainer_T_Small", {"learning_rate": 1e-4, "batch_size": 4, "accumulate": 2}, {}),
    "sparse": ("ADNeXtFCMAETrainer_T", FCMAE, {}),
    "dense": ("ADNeXtFCMAETrainer_T", {**FCMAE, "sparse_backend": "masked_dense", "sparse_convolution": None}, {}),
    "contrast": ("ADNeXtContrastiveTrainer_T", {"learning_rate": 1e-4}, {}),
}


@pytest.fixture(scope="module")
def uneven_workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Eleven controls and five patients at 64×32×32, two patches of pre-training."""
    workspace = empty_workspace(tmp_path_factory.mktemp("uneven"))
    lines = ["subject,path,diagnosis,age,sex"]
    for index in range(16):
        is_patient = index % 3 == 1
        write_scan(workspace.source / f"{index}.nii.gz", toy_brain(index, has_hole=is_patient))
        lines.append(f"sub{index:02d},{index}.nii.gz,{'AD' if is_patient else 'CN'},{60 + index},{'MF'[index % 2]}")
    table, preset = workspace.source / "table.csv", workspace.source / "preset.json"
    table.write_text("\n".join(lines) + "\n")
    preset.write_text(json.dumps(PRESET))
    with pytest.MonkeyPatch.context() as monkeypatch:
        workspace.use(monkeypatch)
        arguments = ["305", "Uneven", "--table", str(table), "--target", "diagnosis", "-np", "1"]
        assert import_dataset.main([*arguments, "--label-map", "CN=CN", "AD=AD"]) == 0
        assert plan_and_preprocess.main(["-d", "305", "-np", "1", "--preset", str(preset)]) == 0
    return workspace


@pytest.fixture
def uneven(uneven_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """The dataset in use, with a results folder of its own."""
    workspace = uneven_workspace.with_results(tmp_path / "results")
    workspace.use(monkeypatch)
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return workspace


def _run_all(count: int, results: Path) -> None:
    """Train everything of `RUNS`, each into a folder of its own."""
    for place, (name, settings, of_several) in enumerate(RUNS.values()):
        os.environ["nnUNet_results"] = str(results / str(place))
        os.environ["ADNEXT_SETTINGS"] = json.dumps({**COMMON, **settings, **(of_several if count > 1 else {})})
        arguments = (DATASET, "3d_fullres", 0, name, "ADNeXtPlans", False, torch.device("cpu"))
        trainer = get_trainer_from_args(*arguments)
        trainer.run_training()
        trainer.perform_actual_validation()
    if count > 1:
        dist.barrier()


def _slow(write: Callable[..., None], *arguments: Any) -> None:
    time.sleep(0.5)
    write(*arguments)


def _one_of_two(rank: int, results: str) -> None:
    torch.set_num_threads(1)
    # the one process that writes is the last to be done: another that did not wait would read what was there before
    checkpoint_saver._write = partial(_slow, checkpoint_saver._write)
    dist.init_process_group("gloo", init_method=f"file://{results}/meeting", rank=rank, world_size=2)
    _run_all(2, Path(results))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def trained(uneven_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Results of one process, and those of two together."""
    alone, together = (tmp_path_factory.mktemp(name) for name in ("alone", "together"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        uneven_workspace.use(monkeypatch)
        monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
        monkeypatch.setenv("ADNEXT_SETTINGS", "{}")
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        _run_all(1, alone)
        multiprocessing.spawn(_one_of_two, args=(str(together),), nprocs=2)
    return alone, together


def _require_same_weights(alone: dict, together: dict, name: str, slack: int) -> None:
    for key, tensor in alone["network_weights"].items():
        scale = float(tensor.abs().max()) if tensor.is_floating_point() else 1.0
        found = together["network_weights"][key]
        torch.testing.assert_close(
            found, tensor, rtol=1e-3 * slack, atol=1e-4 * slack * max(scale, 0.1), msg=f"{name} {key}"
        )


def _report(fold: Path) -> dict[str, float]:
    summary = read_summary(fold / "validation" / "summary.json")
    return getattr(summary, "report", {}).get("mean_squared_error_of_masked_voxels", {})


def _predicted(fold: Path) -> list[float]:
    return pd.read_csv(fold / "validation" / "predictions.csv")["prob_AD"].tolist()


@pytest.mark.parametrize("what", RUNS)
def test_two_processes_train_the_network_that_one_would(trained: tuple[Path, Path], what: str) -> None:
    place = list(RUNS).index(what)
    slack = 5 if "batch norm" in what else 1  # statistics of three scans enlarge what is rounded
    folders = [next((results / str(place)).glob("*/*/fold_0")) for results in trained]
    names = [
        "checkpoint_final.pth",
        *(["checkpoint_best.pth"] if (folders[0] / "checkpoint_best.pth").is_file() else []),
    ]
    for name in names:
        alone, together = (read_checkpoint(folder / name) for folder in folders)
        assert alone["adnext"]["best_epoch"] == together["adnext"]["best_epoch"]
        assert (alone["adnext"]["processes"], together["adnext"]["processes"]) == (1, 2)
        np.testing.assert_allclose(
            alone["logging"]["train_losses"], together["logging"]["train_losses"], rtol=5e-4, err_msg=name
        )
        _require_same_weights(alone, together, name, slack)
    if (folders[0] / "validation" / "predictions.csv").is_file():
        alone, together = (pd.read_csv(folder / "validation" / "predictions.csv") for folder in folders)
        assert alone["case_id"].tolist() == together["case_id"].tolist()
        np.testing.assert_allclose(alone["prob_AD"], together["prob_AD"], atol=2e-3)
    # of pre-training: what the network's error stands beside, as that of the mean training scan, is of all scans, too
    alone, together = (_report(folder) for folder in folders)
    assert bool(alone) == what.endswith(("sparse", "dense"))
    assert together == pytest.approx(alone, rel=2e-3)


def test_a_process_without_a_case_of_the_last_batch_has_a_batch_less() -> None:
    for cases, batch, processes in ((9, 4, 2), (5, 4, 3), (8, 4, 2), (3, 4, 4)):
        seen = []
        for rank in range(processes):
            sampler = EpochSampler(cases, batch, shuffle=False, rank=rank, processes=processes)
            batches = list(sampler)
            assert len(batches) == len(sampler) and all(batches)
            seen += [index for one in batches for _, index in one]
        assert sorted(seen) == list(range(cases))


@pytest.mark.parametrize(("rate", "refused"), [(0.0, False), (0.1, True)])
def test_a_run_goes_on_with_another_number_of_processes_only_if_nothing_is_dropped_at_random(
    uneven: Workspace, monkeypatch, rate: float, refused: bool
) -> None:
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps(COMMON))
    arguments = (DATASET, "3d_fullres", 0, "ADNeXtTrainer_T", "ADNeXtPlans")
    begun = get_trainer_from_args(*arguments, False, torch.device("cpu"))
    begun.on_train_start()
    for block in begun.network.modules():
        if isinstance(block, StochasticDepth):
            block.p = rate
    assert draws_at_random(begun.network) == refused
    begun.run_epoch()
    checkpoint = read_checkpoint(Path(begun.output_folder) / "checkpoint_latest.pth")
    checkpoint["adnext"]["processes"] = 2
    resumed = get_trainer_from_args(*arguments, True, torch.device("cpu"))
    resumed.initialize()
    for block in resumed.network.modules():
        if isinstance(block, StochasticDepth):
            block.p = rate
    with pytest.raises(SettingsError, match="was trained by 2 processes") if refused else nullcontext():
        resumed.load_checkpoint(checkpoint)


def _command(*further: str) -> list[str]:
    settings = [f"--set={name}={value}" for name, value in COMMON.items() if name != "optimizer"]
    return ["305", "3d_fullres", "0", "-tr", "ADNeXtTrainer_T", "-device", "cpu", *settings, *further]


def test_numbers_of_processes_that_cannot_be_are_refused_in_one_line(uneven: Workspace, monkeypatch, capsys) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for options, said in (
        (["--num-gpus", "8", "-device", "cuda"], "--num-gpus 8: torch sees 2 GPU(s) here; give that number or fewer"),
        (["--num-gpus", "0"], "--num-gpus must be at least 1, got 0"),
    ):
        assert train.main(_command(*options)) == 2
        assert capsys.readouterr().err == f"error: {said}\n"


def test_a_batch_smaller_than_the_processes_is_refused_in_one_line(uneven: Workspace, capfd) -> None:
    final = uneven.results / DATASET / "ADNeXtTrainer_T__ADNeXtPlans__3d_fullres" / "fold_0" / "checkpoint_final.pth"
    final.parent.mkdir(parents=True)
    final.write_text("of a finished run")
    assert train.main(_command("-num_gpus", "2", "--set=batch_size=1", "--restart")) == 2
    said = capfd.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("error: ")] == [
        "error: batch_size 1 is less than the 2 processes that share a batch; make it larger, or use fewer GPUs "
        "(--num-gpus)"
    ]
    assert not any("Traceback" in line for line in said)
    assert final.read_text() == "of a finished run"


def test_parts_that_processes_have_unequally_many_of_are_refused_where_they_share_batch_norms(
    uneven: Workspace, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(lifecycle, "number_of_processes", lambda: 2)
    command = _command("--set=accumulate=2")
    command[command.index("ADNeXtTrainer_T")] = "ADNeXtTrainer_T_Small"
    assert train.main(command) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == (
        "error: accumulate=2: of a batch of 3 a process of 2 has as few as 1, and those of a network with batch norm "
        "need equally many parts; make accumulate at most 1, batch_size at least 4, or use fewer GPUs (--num-gpus)"
    )


KILLED = '''
import os, signal
from adnext_plugin.trainers.variants.adnext import ADNeXtTrainer_T


class KilledTrainer(ADNeXtTrainer_T):
    """Loses the second of two processes in the second epoch."""

    def batch_loss(self, batch):
        if self.local_rank == 1 and self.current_epoch == 1 and os.environ["KILLS"] == "yes":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().batch_loss(batch)
'''


def test_a_run_of_two_processes_is_killed_and_torchruns_three_make_of_it_that_of_one(
    uneven: Workspace, monkeypatch, capfd
) -> None:
    folder = uneven.results.parent / "trainers"
    folder.mkdir()
    (folder / "killed.py").write_text(KILLED)
    monkeypatch.setenv("nnUNet_extTrainer", f"{hook_dir()}{os.pathsep}{folder}")
    command = _command("--set=optimizer=sgd")
    command[command.index("ADNeXtTrainer_T")] = "KilledTrainer"

    monkeypatch.setenv("KILLS", "no")
    assert train.main(command) == 0
    fold = next(uneven.results.glob("*/*/fold_0"))
    alone, predicted = read_checkpoint(fold / "checkpoint_final.pth"), _predicted(fold)

    monkeypatch.setenv("KILLS", "yes")
    capfd.readouterr()
    assert train.main([*command, "-num_gpus", "2", "--restart"]) == 2
    said = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert said == [
        "error: process 2 of 2 was killed by SIGKILL, most likely for want of memory; the same command goes on with "
        "the run"
    ]
    assert read_checkpoint(fold / "checkpoint_latest.pth")["adnext"]["processes"] == 2

    programs = Path(sys.executable).parent
    launcher = [programs / "torchrun", "--nproc-per-node", "3", "--standalone"]
    environment = {**os.environ, "KILLS": "no"}
    done = subprocess.run(
        [*launcher, programs / "adnext_train", *command], capture_output=True, text=True, timeout=240, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert done.stdout.count("fold 0 goes on after 1 of 2 epochs") == done.stdout.count("Held-out fold 0") == 1
    together = read_checkpoint(fold / "checkpoint_final.pth")
    assert (alone["adnext"]["processes"], together["adnext"]["processes"]) == (1, 3)
    _require_same_weights(alone, together, "checkpoint_final.pth", slack=1)
    np.testing.assert_allclose(_predicted(fold), predicted, atol=2e-3)
