"""Training whose steps and judgements are launched as graphs: the run that it is without them.

Without a GPU no graph can be recorded by CUDA. What stands in for one here is as strict: it remembers every operation
with the very tensors that went in and came out, and a replay computes those again, in place, and runs nothing else of
Python. Whatever a step reads from elsewhere is then what it was when it was recorded.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from nnunetv2.run.run_training import get_trainer_from_args
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from adnext_plugin.paths import hook_dir
from adnext_plugin.trainers import lifecycle
from adnext_plugin.trainers.labelled import ADNeXtTrainer
from adnext_plugin.trainers.lifecycle import RunTrainer
from adnext_plugin.trainers.self_supervised import SelfSupervisedTrainer
from adnext_plugin.training.checkpoint_saver import CheckpointSaver


class _Graph:
    recorded = 0
    replayed = 0

    def __init__(self) -> None:
        self.operations: list = []

    def replay(self) -> None:
        type(self).replayed += 1
        with torch.no_grad(), torch.autocast("cpu", enabled=False):  # casts are among what was recorded
            for function, arguments, options, outputs in self.operations:
                again = function(*arguments, **options)
                for old, new in zip(tree_leaves(outputs), tree_leaves(again), strict=True):
                    if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


class _Recorder(TorchDispatchMode):
    def __init__(self, graph: _Graph) -> None:
        super().__init__()
        self._graph = graph

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        outputs = function(*arguments, **(options or {}))
        self._graph.operations.append((function, arguments, options or {}, outputs))
        return outputs


@contextmanager
def _record(graph: _Graph, pool: str, capture_error_mode: str) -> Iterator[None]:
    assert pool == "memory" and capture_error_mode == "thread_local"
    _Graph.recorded += 1
    with _Recorder(graph):
        yield


class _Stream:
    def wait_stream(self, other: "_Stream") -> None:
        pass


@pytest.fixture(autouse=True)
def recording(monkeypatch) -> None:
    """Graphs as on a GPU, on the CPU."""
    monkeypatch.setattr(_Graph, "recorded", 0)
    monkeypatch.setattr(_Graph, "replayed", 0)
    monkeypatch.setattr(torch.cuda, "CUDAGraph", _Graph)
    monkeypatch.setattr(torch.cuda, "graph", _record)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: "memory")
    monkeypatch.setattr(torch.cuda, "Stream", _Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", _Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda stream: nullcontext())


def _trainer(monkeypatch, name: str, **settings) -> RunTrainer:
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    content = {"epochs": 2, "warmup_epochs": 0, "batch_size": 4, "learning_rate": 1e-3, **settings}
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps(content))
    return get_trainer_from_args("Dataset301_Toy", "3d_fullres", 0, name, "ADNeXtPlans", False, torch.device("cpu"))


def _trained(monkeypatch, name: str, launch: str, change=None, **settings) -> RunTrainer:
    monkeypatch.setattr(lifecycle, "launch_of", lambda *_: launch)
    monkeypatch.setattr(RunTrainer, "_knows_losses_at_once", lambda _: False)  # as on a GPU
    trainer = _trainer(monkeypatch, name, **settings)
    if change is not None:
        monkeypatch.setattr(type(trainer), *change)
    trainer.run_training()
    trainer.perform_actual_validation()
    return trainer


def _found(trainer: RunTrainer) -> dict:
    log = trainer.logger.local_logger.my_fantastic_logging
    losses = {name: log[name] for name in ("train_losses", "val_losses")}
    predictions = (trainer._folder.path / "validation" / "predictions.csv").read_text()
    return {**losses, "predictions": predictions, "weights": trainer.network.state_dict()}


def _require_same(one: dict, other: dict) -> None:
    for name, weights in one.pop("weights").items():
        assert torch.equal(weights, other["weights"][name]), name
    assert one == {name: value for name, value in other.items() if name != "weights"}


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("ADNeXtTrainer_T", {"learning_rate": 1e-4}),
        ("ADNeXtTrainer_T_Small", {"covariates": ["age"]}),
        ("ADNeXtTrainer_T_Small", {"batch_size": 5, "precise_batch_norm": True, "layer_decay": 0.0}),
        ("ADNeXtTrainer_T", {"precision": "bfloat16"}),
    ],
)
def test_a_run_by_graphs_is_the_run_without_them_to_the_bit(toy, monkeypatch, name, settings) -> None:
    plain = _found(_trained(monkeypatch, name, "eager", **settings))
    assert _Graph.recorded == 0
    trainer = _trained(monkeypatch, name, "graphs", **settings)
    _require_same(_found(trainer), plain)
    batches = trainer.num_iterations_per_epoch + trainer.num_val_iterations_per_epoch
    if trainer.settings.precise_batch_norm:
        batches += sum(len(batch.indices) > 1 for batch in trainer._unchanged_training_cases.batches(0))
    # a step is recorded once, and what is judged or settled by once for each size of batch
    assert 2 <= _Graph.recorded <= 1 + 6 and _Graph.replayed >= 2 * batches


@pytest.mark.parametrize("method", ["batch_loss", "compute_loss", "build_loss", "_outputs"])
def test_a_loss_of_somebodys_own_is_not_taken_for_one_of_tensors(method: str) -> None:
    own = type("OwnTrainer", (ADNeXtTrainer,), {method: lambda self, *arguments: None})
    assert not own.loss_is_of_tensors(object.__new__(own))
    other = type("OtherTrainer", (ADNeXtTrainer,), {"build_augmentation": lambda self: None})
    assert other.loss_is_of_tensors(object.__new__(other))


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
def test_a_loss_of_somebodys_own_is_asked_for_in_every_step(toy, monkeypatch) -> None:
    asked, own = [], ADNeXtTrainer.compute_loss

    def counted(self, outputs, batch):
        asked.append(batch.indices)
        return own(self, outputs, batch)

    trainer = _trained(monkeypatch, "ADNeXtTrainer_T_Small", "graphs", ("compute_loss", counted))
    assert trainer._launched._step is None and len(asked) == 2 * trainer.num_iterations_per_epoch


def test_objectives_without_labels_are_not_taken_for_losses_of_tensors() -> None:
    assert SelfSupervisedTrainer.loss_is_of_tensors is RunTrainer.loss_is_of_tensors


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
def test_what_cannot_be_recorded_costs_a_line_and_nothing_else(toy, monkeypatch) -> None:
    plain = _found(_trained(monkeypatch, "ADNeXtTrainer_T_Small", "eager"))

    def refuse(graph, pool, capture_error_mode):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(torch.cuda, "graph", refuse)
    trainer = _trained(monkeypatch, "ADNeXtTrainer_T_Small", "graphs")
    _require_same(_found(trainer), plain)
    log = "".join(path.read_text() for path in trainer._folder.path.glob("training_log_*.txt"))
    for line in ("A step is not one graph", "Epochs are judged without graphs"):
        assert log.count(f"{line} (graphs failed: operation not permitted when stream is capturing)") == 1


def test_an_epoch_does_not_wait_for_the_state_of_an_earlier_one_to_be_written(toy, monkeypatch) -> None:
    saved = []
    monkeypatch.setattr(CheckpointSaver, "is_due", lambda *_: False)
    monkeypatch.setattr(CheckpointSaver, "save", lambda self, checkpoint, path, *_: saved.append(path.name))
    monkeypatch.setattr(CheckpointSaver, "save_again", lambda self, source, path, *_: saved.append(path.name))
    monkeypatch.setattr(ADNeXtTrainer, "rank_of_epoch", lambda self, scores: (-float(self.current_epoch), 0.0))
    _trainer(monkeypatch, "ADNeXtTrainer_T_Small", epochs=3).run_training()
    # the first epoch is the best, and its state that of a run to go on; the last is always kept
    assert saved == ["checkpoint_best.pth", "checkpoint_latest.pth", "checkpoint_final.pth"]
