"""Training with scaled gradients, as float16 has it on a GPU: a scaler of the CPU stands in its place."""

import json
from pathlib import Path

import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args

from adnext_plugin.paths import hook_dir
from adnext_plugin.training.weights import read_checkpoint


def _trainer(monkeypatch, scale: float | None, *, resume: bool = False, accumulate: int = 1):
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    settings = {"epochs": 2, "learning_rate": 1e-3, "augmentation": "none", "accumulate": accumulate}
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps(settings))
    arguments = ("Dataset301_Toy", "3d_fullres", 0, "ADNeXtTrainer_T", "ADNeXtPlans", resume, torch.device("cpu"))
    trainer = get_trainer_from_args(*arguments)
    trainer.initialize()
    if scale is not None:
        # one step without overflow makes the factor larger
        trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=scale, growth_interval=1)
    return trainer


def _weights(trainer) -> dict[str, torch.Tensor]:
    return {key: tensor.detach().clone() for key, tensor in trainer.network.named_parameters()}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_factor_on_the_loss_changes_no_step_and_is_kept_for_a_resumed_run(toy, monkeypatch, accumulate: int) -> None:
    trained = []
    for scale in (None, 2.0**10):
        trainer = _trainer(monkeypatch, scale, accumulate=accumulate)
        before = _weights(trainer)
        trainer.on_train_start()
        trainer.run_epoch()
        trained.append(_weights(trainer))
    assert any(not torch.equal(before[key], tensor) for key, tensor in trained[0].items())
    for key, tensor in trained[0].items():
        # a power of two is multiplied and divided without rounding
        torch.testing.assert_close(trained[1][key], tensor, rtol=1e-5, atol=1e-7, msg=key)
    steps, factor = trainer.num_iterations_per_epoch, trainer.grad_scaler.get_scale()
    assert factor == 2.0 ** (10 + steps)

    latest = Path(trainer.output_folder) / "checkpoint_latest.pth"
    assert read_checkpoint(latest)["grad_scaler_state"]["scale"] == factor
    resumed = _trainer(monkeypatch, 1.0, resume=True, accumulate=accumulate)
    resumed.load_checkpoint(str(latest))
    assert resumed.grad_scaler.get_scale() == factor


def test_a_step_whose_gradients_are_infinite_is_left_out(toy, monkeypatch) -> None:
    trainer = _trainer(monkeypatch, 2.0**127)
    trainer.on_train_start()
    trainer.on_epoch_start()
    trainer.on_train_epoch_start()
    before, batch = _weights(trainer), next(trainer.dataloader_train)
    assert torch.isfinite(trainer.train_step(batch)["loss"])
    assert all(torch.equal(before[key], tensor) for key, tensor in _weights(trainer).items())
    assert trainer.grad_scaler.get_scale() == 2.0**126
    trainer.grad_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    trainer.train_step(batch)
    assert any(not torch.equal(before[key], tensor) for key, tensor in _weights(trainer).items())
