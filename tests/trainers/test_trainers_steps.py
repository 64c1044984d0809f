"""What a training step costs beside its arithmetic: what it reads, what becomes of losses, how an optimizer goes on."""

import copy
import json
from pathlib import Path

import pytest
import torch
from conftest import CountedOperations
from nnunetv2.run.run_training import get_trainer_from_args
from torch import nn

from adnext_plugin.batch import Batch
from adnext_plugin.data import loading_processes
from adnext_plugin.errors import AdnextError, SettingsError
from adnext_plugin.paths import hook_dir
from adnext_plugin.settings import TrainerSettings
from adnext_plugin.trainers.lifecycle import RunTrainer
from adnext_plugin.training.checkpoint_saver import CheckpointSaver
from adnext_plugin.training.plan_resolution import settings_for_resume
from adnext_plugin.training.step_results import load_optimizer, numbers, on_cpu
from adnext_plugin.training.weights import read_checkpoint
from adnext_plugin.workflows.continuing import _asked_values

# what a GPU is waited for: a value as a number, a size that depends on values
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero"}


def _trainer(monkeypatch: pytest.MonkeyPatch, name: str, **settings) -> RunTrainer:
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({"epochs": 2, "warmup_epochs": 0, **settings}))
    dataset = "Dataset301_Toy"
    return get_trainer_from_args(dataset, "3d_fullres", 0, name, "ADNeXtPlans", False, torch.device("cpu"))


@pytest.mark.parametrize("name", ["ADNeXtTrainer_T", "ADNeXtTrainer_T_Small"])
def test_a_training_step_waits_for_no_value_and_an_epoch_reads_its_losses_at_its_end(toy, monkeypatch, name) -> None:
    trainer = _trainer(monkeypatch, name, batch_size=4)
    # as on a GPU, which is not to be waited for
    monkeypatch.setattr(RunTrainer, "_knows_losses_at_once", lambda _: False)
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    outputs = []
    for _ in range(2):
        batch = next(trainer.dataloader_train)
        with CountedOperations() as reads:
            outputs.append(trainer.train_step(batch))
        found = {name: count for name, count in reads.counts.items() if name in WAITS}
        # AdamW without `fused` reads its count of steps from the CPU, where it lies
        steps = len([parameter for parameter in trainer.network.parameters() if parameter.grad is not None])
        assert found.pop("_local_scalar_dense", 0) <= steps and not found
        assert reads.counts["convolution"] and isinstance(outputs[-1]["loss"], torch.Tensor)
    with CountedOperations() as reads:
        trainer.on_train_epoch_end(outputs)
    # the cases to score are launched first; the one value is the seed of a loader's epoch, which lies on the CPU
    assert WAITS & set(reads.counts) <= {"_local_scalar_dense"}
    assert reads.counts["_local_scalar_dense"] == reads.counts["random_"] == int(name.endswith("Small"))
    with torch.no_grad():
        trainer.on_validation_epoch_start()
        steps = range(trainer.num_val_iterations_per_epoch)
        trainer.on_validation_epoch_end([trainer.validation_step(next(trainer.dataloader_val)) for _ in steps])
    logged = trainer.logger.local_logger.my_fantastic_logging["train_losses"]
    assert logged == [pytest.approx(sum(float(output["loss"]) for output in outputs) / 2, rel=1e-12)]


@pytest.mark.parametrize("is_told_at_once", [True, False])
def test_a_loss_that_is_not_finite_ends_the_run_in_its_epoch_and_nothing_of_it_is_saved(
    toy, monkeypatch, is_told_at_once: bool
) -> None:
    trainer = _trainer(monkeypatch, "ADNeXtTrainer_T", learning_rate=1e-3)
    trainer.on_train_start()
    trainer.run_epoch()
    saved = {path: path.read_bytes() for path in Path(trainer.output_folder).glob("*.pth")}
    assert saved
    monkeypatch.setattr(RunTrainer, "_knows_losses_at_once", lambda _: is_told_at_once)
    loss_of, steps = trainer.batch_loss, []

    def batch_loss(batch: Batch) -> torch.Tensor:
        steps.append(batch)
        return loss_of(batch) * (float("inf") if len(steps) == 1 else 1)

    monkeypatch.setattr(trainer, "batch_loss", batch_loss)
    with pytest.raises(AdnextError, match=r"^the loss became inf in epoch 2; lower the learning rate$"):
        trainer.run_epoch()
    assert len(steps) == (1 if is_told_at_once else trainer.num_iterations_per_epoch)
    assert {path: path.read_bytes() for path in Path(trainer.output_folder).glob("*.pth")} == saved


@pytest.mark.parametrize(
    ("asked", "can_be", "free_gib", "settled"),
    [
        ("auto", True, 8, "on"),
        ("auto", True, 1e-4, "off"),
        ("auto", False, 8, "off"),
        ("on", True, 1e-4, "on"),
        ("off", True, 8, "off"),
        ("on", False, 8, None),
    ],
)
def test_a_run_decides_once_where_volumes_are_kept(toy, monkeypatch, asked, can_be, free_gib, settled) -> None:
    trainer = _trainer(monkeypatch, "ADNeXtTrainer_T", data_on_gpu=asked)
    change = trainer.build_augmentation() if can_be else (lambda image, seed: image)
    trainer._settle_where_volumes_are(change)
    assert trainer.settings.data_on_gpu == asked  # nothing is decided on a CPU
    monkeypatch.setattr(trainer, "device", torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (int(free_gib * 2**30), 80 * 2**30))
    if settled is None:
        with pytest.raises(SettingsError, match="data_on_gpu=on: augmentation 'paper' runs on processors only"):
            trainer._settle_where_volumes_are(change)
        return
    trainer._settle_where_volumes_are(change)
    assert trainer.settings.data_on_gpu == settled == trainer.plan.training["data_on_gpu"]


def test_a_run_that_has_decided_is_the_run_that_leaves_it_open(toy, monkeypatch) -> None:
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({"data_on_gpu": "auto"}))
    saved = TrainerSettings(data_on_gpu="on")
    assert settings_for_resume(saved, "checkpoint", 0).data_on_gpu == "on"
    assert "data_on_gpu" not in _asked_values(TrainerSettings()) and _asked_values(saved)["data_on_gpu"] == "on"
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({"data_on_gpu": "off"}))
    with pytest.raises(SettingsError, match="was trained with data_on_gpu='on' and cannot continue"):
        settings_for_resume(saved, "checkpoint", 0)


def test_a_run_whose_states_are_written_beside_it_leaves_what_any_run_leaves(toy, monkeypatch) -> None:
    found = []
    for in_background in (False, True):
        trainer = _trainer(monkeypatch, "ADNeXtTrainer_T", learning_rate=1e-3, epochs=3)
        trainer._saver = CheckpointSaver(in_background=in_background)
        trainer.run_training()
        folder = Path(trainer.output_folder)
        states = {path.name: read_checkpoint(path)["network_weights"] for path in folder.glob("*.pth")}
        assert set(states) == {"checkpoint_best.pth", "checkpoint_final.pth"}
        found.append(states)
        trainer.perform_actual_validation()  # reads the best
    for name, weights in found[0].items():
        assert all(torch.equal(found[1][name][key], value) for key, value in weights.items())


def test_numbers_are_those_of_tensors_and_outputs_come_to_the_cpu() -> None:
    assert numbers([torch.tensor(0.1), torch.tensor(2.0)]) == [torch.tensor(0.1).item(), 2.0]
    assert numbers([0.5, torch.tensor(2.0)]) == [0.5, 2.0] and numbers([]) == []
    outputs = on_cpu([{"scores": torch.zeros(2), "who": ["a", "b"]}])
    assert outputs[0]["scores"].device.type == "cpu" and outputs[0]["who"] == ["a", "b"]


def _optimizer(network: nn.Module, **options) -> torch.optim.Optimizer:
    return torch.optim.AdamW(network.parameters(), lr=0.1, **options)


def _step(network: nn.Module, optimizer: torch.optim.Optimizer) -> torch.Tensor:
    optimizer.zero_grad()
    network(torch.ones(2, 3)).square().sum().backward()
    optimizer.step()
    return network.weight.detach().clone()


def test_an_optimizer_goes_on_from_a_state_of_another_device_in_its_own_way() -> None:
    torch.manual_seed(0)
    network = nn.Linear(3, 2)
    fused = _optimizer(network, fused=True)  # as on a GPU
    _step(network, fused)
    state, weights = copy.deepcopy(fused.state_dict()), copy.deepcopy(network.state_dict())
    expected = _step(network, fused)
    for options in ({}, {"fused": True}):
        network.load_state_dict(weights)
        optimizer = _optimizer(network, **options)
        load_optimizer(optimizer, given := copy.deepcopy(state))
        assert given["param_groups"][0]["fused"] is True  # what was read is left as it is
        assert optimizer.param_groups[0]["fused"] is (True if options else None)
        torch.testing.assert_close(_step(network, optimizer), expected)


@pytest.mark.filterwarnings("ignore:.*pin_memory.*", "ignore:This DataLoader will create")
def test_cases_that_are_not_changed_have_processes_too_where_a_gpu_would_wait_for_them(toy, monkeypatch) -> None:
    monkeypatch.setattr(loading_processes, "usable_cpus", lambda: 16)
    trainer = _trainer(monkeypatch, "ADNeXtTrainer_T_Small", batch_size=2)
    training, selection = trainer.do_split()
    counts = {
        (on_gpu, shuffle, len(cases)): trainer._data.loader(
            cases, trainer.settings, shuffle=shuffle, on_gpu=on_gpu
        )._loader.num_workers
        for on_gpu in (True, False)
        for shuffle, cases in ((True, training), (False, training), (False, selection), (False, []))
    }
    assert (len(training), len(selection)) == (8, 4)
    assert [counts[True, *key] for key in ((True, 8), (False, 8), (False, 4), (False, 0))] == [8, 2, 1, 0]
    assert not any(count for (on_gpu, *_), count in counts.items() if not on_gpu)
    served = [
        torch.cat(
            [batch.images for batch in trainer._data.loader(training, trainer.settings, on_gpu=on_gpu).batches(0)]
        )
        for on_gpu in (True, False)
    ]
    assert torch.equal(*served)
