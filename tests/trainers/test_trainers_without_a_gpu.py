"""Losses of every kind of trainer on a GPU that is not there: nothing lies elsewhere, and nobody waits for a value."""

from contextlib import nullcontext
from importlib.metadata import entry_points
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CountedOperations, OneDevice
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from adnext_plugin.batch import Batch
from adnext_plugin.networks.segmentation.build import build_segmenter
from adnext_plugin.plan import NetworkSettings, Plan, PreprocessingSettings
from adnext_plugin.registry import NETWORKS, TRAINERS, load_all, module_of
from adnext_plugin.task import Task
from adnext_plugin.trainers.labelled import ADNeXtTrainer
from adnext_plugin.trainers.lifecycle import RunTrainer
from adnext_plugin.trainers.segmentation.trainer import ADNeXtSegmentationTrainer
from adnext_plugin.trainers.self_supervised import SelfSupervisedTrainer

BATCH, EDGE = 2, 64
SMALL = ("_T", "TinyDenseNetTrainer", "ResNet10Trainer", "UNetB")  # ends of names that are looked at first
EDGES = {"liu_cnn": 71, "polimi_cnn": 87}
TASKS = {
    "classification": Task(name="t", target="x", classes=("a", "b", "c")),
    "regression": Task(name="t", kind="regression", target="x"),
}
TARGETS = {"classification": np.array([0, 1, 2, 2]), "regression": np.array([60.0, 70.0, 80.0])}
HALVES = {"classification": torch.bfloat16, "regression": torch.float16}  # of each family both
WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero", "equal"}


def _network_of(kind: Any) -> NetworkSettings:
    return kind.network_settings or NetworkSettings(name="adnext_b")


def _kinds() -> dict[str, Any]:
    """One trainer of each kind of loss, family of networks and objective's options that ask for other networks."""
    ours = {entry.name for entry in entry_points(group=TRAINERS) if entry.module.startswith("adnext_plugin.")}
    found: dict[str, Any] = {}
    for name, kind in sorted(load_all(TRAINERS).items(), key=lambda entry: not entry[0].endswith(SMALL)):
        family = module_of(NETWORKS, _network_of(kind).name or "").rpartition(".")[2]
        if name not in ours:
            continue
        if issubclass(kind, ADNeXtSegmentationTrainer):
            found.setdefault(f"segmentation {kind.decoder} {family}", kind)
        elif issubclass(kind, SelfSupervisedTrainer):
            options = kind.settings.options
            told = [str(options[key]) for key in ("masked", "decoder", "loss_on", "sparse_backend") if key in options]
            if kind.settings.objective is not None:  # another of which does it
                found.setdefault(" ".join([kind.settings.objective, family, *told]), kind)
        else:
            assert issubclass(kind, ADNeXtTrainer)
            for task in TASKS:
                found.setdefault(f"{task} {family}", kind)
    return found


KINDS = _kinds()
LABELLED = [name for name in KINDS if name.split()[0] in TASKS]
SEGMENTING = [name for name in KINDS if name.startswith("segmentation")]
SELF_SUPERVISED = [name for name in KINDS if name not in (*LABELLED, *SEGMENTING)]
# of each objective one, and none whose masks are counted on the CPU: a tensor without data has none to count
OBJECTIVES = {
    name.split()[0]: name
    for name in reversed(SELF_SUPERVISED)
    if not (name.startswith("fcmae") or name == "hybrid adnext")
}


def _trainer(kind: type[RunTrainer], task: str = "classification") -> RunTrainer:
    """As far as its loss needs it, with a network of tensors without data."""
    network = _network_of(kind)
    edge = EDGES.get(network.name or "", EDGE)
    preprocessing = PreprocessingSettings(input_size_voxels=(edge, edge, edge))
    trainer = kind.__new__(kind)
    trainer.settings = kind.settings
    plan = Plan(preprocessing=preprocessing, network=network, task=TASKS[task])
    is_told = kind.plan_key == "training" and network.name == "adnext_t"
    trainer.plan = plan.with_settings(kind.plan_key, {"covariates": ["age"]} if is_told else {})
    trainer.task, trainer.is_ddp, trainer.current_epoch = TASKS[task], False, 0
    with torch.device("meta"):
        trainer.network = kind.build_network(trainer.plan, 1).train()
    return trainer


def _on(module: nn.Module, device: str) -> None:
    """Move weights that have no data; what is none of them stays behind, as it does on a GPU."""
    for part in module.modules():
        for key, weight in part._parameters.items():
            if weight is not None:
                empty = torch.empty_strided(weight.shape, weight.stride(), dtype=weight.dtype, device=device)
                part._parameters[key] = nn.Parameter(empty)
        for key, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[key] = torch.empty(buffer.shape, dtype=buffer.dtype, device=device)


def _views(trainer: SelfSupervisedTrainer) -> int:
    """How many images stand for one, 0 where it is an image itself."""
    image = torch.zeros(1, EDGE, EDGE, EDGE)
    view = trainer.objective.unchanged_views(lambda image_czyx, seed: image_czyx)
    shown = image if view is None else view(image, 1)
    return len(shown) if shown.dim() > image.dim() else 0


def _prepared(trainer: SelfSupervisedTrainer) -> tuple[tuple[int, ...], int]:
    """Let the objective know people; the shape of a batch of images, and how many columns there are of labels."""
    words = getattr(trainer.objective.options, "categories", {})
    rows = pd.DataFrame(
        {"subject_id": list("abc"), **{name: [60.0, 70.0, 80.0] for name in trainer.objective.columns()}}
    )
    for column in words:
        rows[column] = ["F", "M", "F"]
    trainer.__dict__["_fitted"] = trainer.objective.fitted(rows)
    labels, views = trainer._fitted.labels(rows), _views(trainer)
    shape = (BATCH, *([views] if views else []), 1, EDGE, EDGE, EDGE)
    return shape, 0 if labels is None else labels.shape[1]


def _batch(shape: tuple[int, ...], columns: int, targets: torch.dtype, device: str, indices: torch.Tensor) -> Batch:
    return Batch(
        torch.empty(shape, device=device),
        torch.empty(BATCH, dtype=targets, device=device),
        torch.empty(BATCH, columns, device=device),
        indices,
    )


@pytest.fixture
def launched_one_by_one(fake_gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without kernels of ours and graphs, which need a driver."""
    monkeypatch.setenv("ADNEXT_KERNELS", "stock")
    monkeypatch.setenv("ADNEXT_LAUNCH", "eager")


def _require_of_gpu(loss: torch.Tensor) -> None:
    assert (loss.device.type, loss.dtype, loss.dim()) == ("cuda", torch.float32, 0)


@pytest.mark.parametrize("name", LABELLED)
def test_the_loss_of_a_task_is_found_on_the_gpu_in_float32(launched_one_by_one, name: str) -> None:
    task = name.split()[0]
    trainer = _trainer(KINDS[name], task)
    trainer.loss = trainer.build_loss(TARGETS[task])
    columns = getattr(trainer.network, "columns", None) or trainer.plan.training.get("covariates", ())
    edges, indices = trainer.network_input_voxels, torch.arange(BATCH)
    targets = torch.int64 if task == "classification" else torch.float32
    with FakeTensorMode(allow_non_fake_inputs=False), CountedOperations() as operations:
        trainer.device = torch.device("cuda")
        _on(trainer.network, "cuda")
        _on(trainer.loss, "cuda")
        batch = _batch((BATCH, 1, *edges), len(columns), targets, "cuda", indices)
        with torch.autocast("cuda", dtype=HALVES[task]):
            _require_of_gpu(trainer.batch_loss(batch))
        assert trainer.loss_weight(batch).device.type == "cuda"
    assert not WAITS & set(operations.counts)


@pytest.mark.parametrize("name", SELF_SUPERVISED)
def test_the_loss_of_an_objective_reads_no_value_and_goes_back_on_one_device(name: str, monkeypatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # of which tensors without data have none
    trainer = _trainer(KINDS[name])
    shape, columns = _prepared(trainer)
    trainer.device = torch.device("meta")
    batch = _batch(shape, columns, torch.int64, "meta", torch.arange(BATCH))
    # a tensor without data has no value that could be read: where one is, this fails
    with OneDevice():
        loss = trainer.batch_loss(batch)
        loss.backward()
    assert (loss.device.type, loss.dtype, loss.dim()) == ("meta", torch.float32, 0)
    assert [key for key, weight in trainer.network.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("name", OBJECTIVES.values())
def test_the_loss_of_an_objective_is_found_on_the_gpu_in_float32(launched_one_by_one, name: str) -> None:
    trainer = _trainer(KINDS[name])
    shape, columns = _prepared(trainer)
    # masks and turns are numbers of the CPU
    with FakeTensorMode(allow_non_fake_inputs=True):
        trainer.device = torch.device("cuda")
        _on(trainer.network, "cuda")
        batch = _batch(shape, columns, torch.int64, "cuda", torch.arange(BATCH))
        seeds = [(1, 1, index) for index in range(BATCH)]
        with torch.autocast("cuda", dtype=torch.bfloat16):
            _require_of_gpu(trainer._fitted.loss(trainer.network, batch, seeds))


def _ready(name: str, precision: str, device: str) -> SelfSupervisedTrainer:
    """A pre-training that can be asked what its steps keep."""
    trainer = _trainer(KINDS[name])
    _, columns = _prepared(trainer)
    case = Batch(torch.zeros(1, 1, *[EDGE] * 3), torch.zeros(1), torch.zeros(1, columns), torch.zeros(1))
    trainer._blank_case = lambda: case
    trainer.do_split = lambda: (["case"] * 64, [])
    trainer._arithmetic = SimpleNamespace(used=precision)
    trainer.device, trainer.was_initialized = torch.device(device), True
    return trainer


@pytest.mark.parametrize("name", ["fcmae adnext", "contrastive adnext", "mae vit", "hybrid adnext", "amaes unet"])
def test_what_a_step_of_pre_training_keeps_for_its_gradient_is_known_before(fake_gpu, name: str) -> None:
    trainer = _ready(name, "float32", "cpu")
    estimated = trainer.bytes_of_case()
    network = trainer.build_network(trainer.plan, 1).train()
    shape, columns = _prepared(trainer)
    batch = Batch(torch.rand(shape), torch.zeros(BATCH), torch.rand(BATCH, columns), torch.arange(BATCH))
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trainer._fitted.loss(network, batch, [(1, 1, index) for index in range(BATCH)])
    for weight in (*network.parameters(), *network.buffers()):
        kept.pop(weight.untyped_storage()._cdata, None)
    assert estimated == pytest.approx(sum(storage.nbytes() for storage in kept.values()) / BATCH, rel=0.03)
    # as a GPU would compute it; copies of weights in 16 bits are not of a case
    on_gpu = {precision: _ready(name, precision, "cuda").bytes_of_case() for precision in ("float32", "bfloat16")}
    assert on_gpu["bfloat16"] < on_gpu["float32"] < 1.3 * estimated


@pytest.mark.parametrize(
    ("name", "free_bytes", "said"),
    [
        ("contrastive adnext", 2**40, "batch 64, 2 × 64×64×64 voxels, bfloat16: about"),
        ("contrastive adnext", 2**29, "It will hardly fit: --set batch_size="),
        ("fcmae adnext", 105_000_000, "It will hardly fit: --set accumulate="),
    ],
)
def test_pre_training_on_a_gpu_says_first_what_memory_it_will_need(fake_gpu, monkeypatch, name, free_bytes, said):
    trainer = _ready(name, "bfloat16", "cuda")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (free_bytes, 2**40))
    (line,) = trainer.about_run()
    assert said in line and f"{trainer.plan.network.name} by {name.split()[0]}" in line
    assert ("accumulate" in trainer.memory_advice()) == name.startswith("fcmae")
    assert "recompute" not in trainer.memory_advice() and "batch_size" in trainer.memory_advice()


@pytest.mark.parametrize("name", SEGMENTING)
def test_the_loss_of_a_segmentation_is_found_on_the_gpu_in_float32(launched_one_by_one, monkeypatch, name: str) -> None:
    kind = KINDS[name]
    supervised = kind.settings.deep_supervision
    with torch.device("meta"):
        network = build_segmenter(
            kind.network_settings, kind.decoder, 1, 3, (EDGE, EDGE, EDGE), deep_supervision=supervised, recompute=False
        ).train()
    trainer = kind.__new__(kind)
    trainer.network, trainer.is_ddp, trainer.enable_deep_supervision = network, False, supervised
    trainer.label_manager = SimpleNamespace(has_regions=False, ignore_label=None)
    trainer.configuration_manager = SimpleNamespace(batch_dice=False)
    monkeypatch.setattr(kind, "_do_i_compile", lambda _: False)
    network.decoder.deep_supervision = supervised
    loss = trainer._build_loss()
    with FakeTensorMode(allow_non_fake_inputs=False), CountedOperations() as operations:
        _on(network, "cuda")
        scales = trainer._get_deep_supervision_scales() or [[1.0]]
        sizes = [(BATCH, 1, *[int(EDGE * scale[0])] * 3) for scale in scales]
        targets = [torch.empty(size, device="cuda") for size in sizes]
        with torch.autocast("cuda", dtype=torch.bfloat16):
            logits = network(torch.empty(BATCH, 1, EDGE, EDGE, EDGE, device="cuda"))
            _require_of_gpu(loss(logits, targets if supervised else targets[0]))
    assert not WAITS & set(operations.counts)
