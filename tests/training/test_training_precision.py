"""In which precision networks compute: chosen by network and GPU, kept beside the weights, used again to predict."""

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.with_covariates import WithCovariates
from adnext_plugin.paths import hook_dir
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.prediction.eager import ensemble_of
from adnext_plugin.prediction.from_run import read_run
from adnext_plugin.prediction.model import FoldNetwork
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.settings import PrecisionSetting
from adnext_plugin.training.checkpoint_notes import notes_of
from adnext_plugin.training.precision import Arithmetic, chosen, of_earlier_version
from adnext_plugin.training.weights import read_checkpoint

CPU, GPU = torch.device("cpu"), torch.device("cuda")
LAYER_NORM, BATCH_NORM = nn.Sequential(nn.LayerNorm(4)), nn.Sequential(nn.BatchNorm1d(4))
OLD, NEW = (7, 0), (9, 0)  # compute capabilities of V100 and H100


def _on(monkeypatch, capability: tuple[int, int]) -> None:
    """Let torch say what it says on such a GPU."""
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *_: capability)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or capability >= (8, 0)
    )


@pytest.mark.parametrize(
    ("setting", "network", "device", "capability", "expected"),
    [
        ("auto", LAYER_NORM, CPU, NEW, "float32"),
        ("auto", BATCH_NORM, CPU, NEW, "float32"),
        ("auto", LAYER_NORM, GPU, NEW, "bfloat16"),
        ("auto", BATCH_NORM, GPU, NEW, "tf32"),
        ("auto", LAYER_NORM, GPU, OLD, "float16"),  # which only emulates bfloat16
        ("auto", BATCH_NORM, GPU, OLD, "float32"),
        ("bfloat16", LAYER_NORM, CPU, NEW, "bfloat16"),
        ("bfloat16", LAYER_NORM, GPU, OLD, "float32"),
        ("float16", BATCH_NORM, GPU, OLD, "float16"),
        ("float16", LAYER_NORM, CPU, NEW, "float32"),
        ("tf32", LAYER_NORM, CPU, NEW, "float32"),
        ("float32", LAYER_NORM, GPU, NEW, "float32"),
    ],
)
def test_precision_is_chosen_by_network_and_device(
    monkeypatch,
    setting: PrecisionSetting,
    network: nn.Module,
    device: torch.device,
    capability: tuple[int, int],
    expected: str,
) -> None:
    _on(monkeypatch, capability)
    assert chosen(setting, network, device) == expected


def test_runs_of_earlier_versions_computed_in_mixed_precision_on_a_gpu(monkeypatch) -> None:
    _on(monkeypatch, NEW)
    assert (of_earlier_version(GPU), of_earlier_version(CPU)) == ("bfloat16", "float32")
    _on(monkeypatch, OLD)
    assert of_earlier_version(GPU) == "float16"


def test_a_forward_pass_rounds_products_as_it_is_told_and_leaves_torch_as_it_was(monkeypatch) -> None:
    _on(monkeypatch, NEW)
    flags = torch.backends.cuda.matmul, torch.backends.cudnn
    before = [flag.allow_tf32 for flag in flags]
    for precision, rounds in (("tf32", True), ("float32", False), ("bfloat16", False)):
        with pytest.raises(KeyError), Arithmetic(precision=precision, device=GPU)():
            assert [flag.allow_tf32 for flag in flags] == [rounds, rounds]
            assert torch.is_autocast_enabled("cuda") == (precision == "bfloat16")
            raise KeyError
        assert [flag.allow_tf32 for flag in flags] == before and not torch.is_autocast_enabled("cuda")
    assert Arithmetic(precision="float16", device=GPU).scales_gradients
    assert not Arithmetic(precision="bfloat16", device=GPU).scales_gradients


# the last is looked at without numbers, which would take minutes
@pytest.mark.parametrize(
    ("name", "size", "mode"),
    [("adnext_t", 32, nullcontext()), ("nit", 32, nullcontext()), ("liu_cnn", 71, FakeTensorMode())],
)
def test_a_head_computes_in_float32_whatever_the_rest_computes_in(
    name: str, size: int, mode: AbstractContextManager
) -> None:
    heads: list[tuple[torch.dtype, torch.dtype]] = []
    with mode:
        network = build_network(NetworkSettings(name=name), 1, 2, (size, size, size)).eval()
        for layer in network.head.modules():
            layer.register_forward_hook(lambda _, inputs, output: heads.append((inputs[0].dtype, output.dtype)))
        with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
            logits = WithCovariates(network, 1, 2)(torch.randn(1, 1, size, size, size), torch.ones(1, 1))
    assert logits.dtype == torch.float32
    assert heads and set(heads) == {(torch.float32, torch.float32)}


def _trainer(monkeypatch, *, resume: bool = False, **settings):
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({"epochs": 2, "learning_rate": 1e-3, **settings}))
    arguments = ("Dataset301_Toy", "3d_fullres", 0, "ADNeXtTrainer_T", "ADNeXtPlans", resume, CPU)
    return get_trainer_from_args(*arguments)


def _precision(checkpoint: Path) -> str | None:
    return notes_of(read_checkpoint(checkpoint), checkpoint).precision


def test_a_run_keeps_its_precision_and_its_predictions_are_made_in_it(toy, monkeypatch, capsys) -> None:
    trainer = _trainer(monkeypatch, precision="bfloat16")
    trainer.run_training()
    trainer.perform_actual_validation()
    folder = Path(trainer.output_folder)
    assert _precision(folder / "checkpoint_final.pth") == _precision(folder / "checkpoint_best.pth") == "bfloat16"
    assert "Computes in bfloat16" in capsys.readouterr().out

    model = read_run(RunFolder(folder.parent), calls=False)
    assert model.description.folds[0].precision == "bfloat16"
    assert ensemble_of(model, "cpu").shortfall is None
    network = FoldNetwork(model, 0, "cpu")
    case = trainer._data.parts["val"][0]
    image = trainer._data.store([case])[0]
    found, _ = network(image, trainer._data.rows([case]))
    with torch.no_grad():
        scan = torch.from_numpy(image.astype(np.float32))[None]
        exact = trainer.network.eval()(scan)[0].numpy()
    assert not np.array_equal(found, exact) and np.allclose(found, exact, atol=0.05)
    with trainer.arithmetic(), torch.no_grad():
        assert np.array_equal(found, trainer.network(scan)[0].double().numpy())


def test_a_resumed_run_goes_on_in_its_precision_and_one_that_names_none_as_earlier_versions_did(
    toy, monkeypatch, capsys
) -> None:
    trainer = _trainer(monkeypatch, precision="tf32")
    trainer.on_train_start()
    trainer.run_epoch()
    said = capsys.readouterr().out
    assert "tf32 cannot be had on this cpu device, so networks compute in float32" in said
    latest = Path(trainer.output_folder) / "checkpoint_latest.pth"
    assert _precision(latest) == "float32"

    for written, kept in (("bfloat16", "bfloat16"), (None, "float32")):
        checkpoint = read_checkpoint(latest)
        checkpoint["adnext"].pop("precision")
        if written is not None:
            checkpoint["adnext"]["precision"] = written
        resumed = _trainer(monkeypatch, resume=True)
        resumed.load_checkpoint(checkpoint)
        assert resumed.arithmetic.precision == kept
