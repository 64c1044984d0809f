"""Checkpoints written beside the training: as the state was, one after the other, and errors are not lost."""

import threading
import time
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from torch import nn

from adnext_plugin.errors import AdnextError
from adnext_plugin.networks.families.adnext import build
from adnext_plugin.training import checkpoint_saver
from adnext_plugin.training.checkpoint_saver import CheckpointSaver
from adnext_plugin.training.checkpoints import require_undamaged
from adnext_plugin.training.step_results import load_optimizer


def _state(value: float) -> dict:
    weights = OrderedDict(a=torch.full((3,), value), b=torch.zeros(2))
    weights["turned"] = torch.arange(6.0).view(2, 3).t()  # not as it lies in memory
    weights["count"] = torch.tensor(7)  # the only one of its kind
    weights["tied"] = weights["a"]
    return {"network_weights": weights, "optimizer_state": {"state": {0: {"m": weights["a"] * 2}}}, "log": [value]}


@pytest.mark.parametrize("in_background", [True, False])
def test_a_state_is_written_as_it_was_however_it_changes_afterwards(tmp_path: Path, in_background: bool) -> None:
    saver, state, path = CheckpointSaver(in_background=in_background), _state(1.0), tmp_path / "a.pth"
    saver.save(state, path, None, epoch=0)
    for name in ("a", "turned", "count"):
        state["network_weights"][name].fill_(5)
    state["optimizer_state"]["state"][0]["m"].fill_(5)
    state["log"].append(5.0)
    saver.wait()
    found = torch.load(path, weights_only=False)
    assert found["network_weights"]["a"].tolist() == [1, 1, 1] and found["log"] == [1.0]
    assert type(found["network_weights"]) is OrderedDict
    assert found["optimizer_state"]["state"][0]["m"].tolist() == [2, 2, 2]
    assert found["network_weights"]["turned"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert found["network_weights"]["count"].shape == () and found["network_weights"]["count"] == 7
    assert found["network_weights"]["turned"].stride() == (1, 3)
    # each has memory of its own, or one could not be read without the rest
    assert found["network_weights"]["b"].untyped_storage().nbytes() == 8
    assert found["network_weights"]["tied"].data_ptr() == found["network_weights"]["a"].data_ptr()
    assert require_undamaged(path)


@pytest.mark.parametrize("in_background", [True, False])
def test_a_second_file_of_a_state_is_its_own_and_what_was_there_is_kept(tmp_path: Path, in_background: bool) -> None:
    saver, best, latest, previous = CheckpointSaver(in_background=in_background), *map(tmp_path.joinpath, "blp")
    saver.save(_state(1.0), latest, previous, epoch=0)
    saver.save(_state(2.0), best, None, epoch=1)
    saver.save_again(best, latest, previous)
    saver.wait()
    assert best.read_bytes() == latest.read_bytes() and best.stat().st_ino != latest.stat().st_ino
    assert torch.load(previous, weights_only=False)["log"] == [1.0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "l", "p"]


@pytest.mark.parametrize("was_saved_otherwise", [False, True])
@pytest.mark.parametrize("options", [{"stem": "convolutional", "head_norm": "batch"}, {"downsampling": "strided"}, {}])
def test_an_optimizer_goes_on_from_a_state_that_was_saved_in_the_background(
    tmp_path: Path, options: dict, was_saved_otherwise: bool
) -> None:
    """Fused optimizers take moments and weights as they lie in memory, and convolutions lie channels last."""
    network, optimizer = _small(options)
    _take_step(network, optimizer, 1)
    saver = CheckpointSaver(in_background=True)
    saver.save(
        {"network_weights": network.state_dict(), "optimizer_state": optimizer.state_dict()}, tmp_path / "a", None, 0
    )
    saver.wait()
    _take_step(network, optimizer, 2)
    found = torch.load(tmp_path / "a", weights_only=False)
    if was_saved_otherwise:  # as by an earlier version
        for moments in found["optimizer_state"]["state"].values():
            moments["exp_avg"], moments["exp_avg_sq"] = (
                moments[name].clone(memory_format=torch.contiguous_format) for name in ("exp_avg", "exp_avg_sq")
            )
    again, its_optimizer = _small(options)
    again.load_state_dict(found["network_weights"])
    load_optimizer(its_optimizer, found["optimizer_state"])
    _take_step(again, its_optimizer, 2)
    for (name, weights), other in zip(network.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(weights, other), name


def _small(options: dict) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = build((1, 1, 1, 1), (4, 4, 8, 8), 2, 2, (32, 32, 32), drop_path_rate=0.0, kernel_size=3, **options)
    return network.train(), torch.optim.AdamW(network.parameters(), lr=1e-2, fused=True)


def _take_step(network: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    optimizer.zero_grad()
    network(torch.randn(2, 2, 32, 32, 32, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
    optimizer.step()


def test_training_waits_for_no_state_and_the_newest_of_a_file_takes_the_place_of_those_not_begun(
    tmp_path: Path, monkeypatch
) -> None:
    may_write, begun, order = threading.Event(), threading.Event(), []

    def slowly(checkpoint: dict, path: Path, earlier: Path | None) -> None:
        begun.set()
        may_write.wait(30)
        order.append((path.name, checkpoint["log"]))

    monkeypatch.setattr(checkpoint_saver, "write_checkpoint", slowly)
    monkeypatch.setattr(checkpoint_saver, "copy_checkpoint", lambda source, path, _: order.append((path.name, source)))
    saver, best, latest = CheckpointSaver(in_background=True), tmp_path / "best", tmp_path / "latest"
    for epoch in range(4):  # each of them the best so far
        saver.save(_state(float(epoch)), best, None, epoch=epoch)
        saver.save_again(best, latest, None)
        assert begun.wait(30) and saver.is_writing() and not saver.is_due(0) and order == []
    saver.save(_state(9.0), tmp_path / "final", None, epoch=9)
    may_write.set()
    saver.wait()
    # what has been begun is ended, and the copy of it is none of the next
    assert order == [("best", [0.0]), ("latest", best), ("best", [3.0]), ("latest", best), ("final", [9.0])]


def test_a_state_beside_the_training_is_due_some_time_after_the_last_and_elsewhere_always(
    tmp_path: Path, monkeypatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(checkpoint_saver.time, "monotonic", lambda: now[0])
    saver, at_once = CheckpointSaver(in_background=True), CheckpointSaver(in_background=False)
    due = []
    for seconds in (0, 4, 4, 4):
        now[0] += seconds
        due.append(saver.is_due(10))
        if due[-1]:
            saver.save(_state(1.0), tmp_path / "a.pth", None, epoch=0)
            at_once.save(_state(1.0), tmp_path / "b.pth", None, epoch=0)
            saver.wait()
        assert at_once.is_due(10)
    assert due == [True, False, False, True]


def test_what_goes_wrong_beside_the_training_stops_it(tmp_path: Path) -> None:
    saver, path = CheckpointSaver(in_background=True), tmp_path / "a.pth"
    saver.save(_state(1.0), path, None, epoch=6)
    saver.wait()
    before = path.read_bytes()
    saver.save(_state(float("nan")), path, None, epoch=7)
    while saver.is_writing():
        time.sleep(0.01)
    with pytest.raises(AdnextError, match=r"^a is no longer finite after epoch 7; lower the learning rate$"):
        saver.save(_state(1.0), path, None, epoch=8)
    assert path.read_bytes() == before
    saver.wait()  # it has been said
