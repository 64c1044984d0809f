"""What several processes exchange while they train one network, with real processes on a CPU."""

import tempfile
import warnings
import weakref
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as multiprocessing
from nnunetv2.run import run_training
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from adnext_plugin.errors import AdnextError
from adnext_plugin.networks.build import build_network
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.trainers.processes import (
    LossOf,
    from_all_processes,
    number_of_processes,
    of_first_process,
    seed_torch,
    sharing_gradients,
    unwrapped,
)
from adnext_plugin.workflows.processes import FoldTraining

PROCESSES = 2
IMAGES = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


class _TwoParts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(3, 2)
        self.head = nn.Linear(2, 1)


def _network() -> _TwoParts:
    torch.manual_seed(0)
    return _TwoParts()


def _loss(network: nn.Module, images: torch.Tensor, seeds: list[tuple[int, int, int]]) -> torch.Tensor:
    # reaches into the network twice, as a loss of two views does, and never calls it as a whole
    first, second = network.encoder(images), network.encoder(-images)
    return (network.head(first) - second.mean()).square().mean() + len(seeds) * network.head.bias.sum()


def _train(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=PROCESSES)
    wrapped = DistributedDataParallel(LossOf(_network(), _loss))
    share = IMAGES[rank::PROCESSES]
    wrapped(share, [(0, 1, index) for index in range(len(share))]).backward()
    network = unwrapped(wrapped)
    found = {
        "gradients": {name: parameter.grad for name, parameter in network.named_parameters()},
        "all": from_all_processes([rank, rank + 10]),
        "first": of_first_process({"rank": rank}),
        "count": number_of_processes(),
    }
    torch.save(found, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def test_processes_share_gradients_of_a_loss_that_reaches_into_the_network() -> None:
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(_train, args=(folder,), nprocs=PROCESSES)
        found = [torch.load(Path(folder) / f"{rank}.pt") for rank in range(PROCESSES)]
    alone = _network()
    shares = [IMAGES[rank::PROCESSES] for rank in range(PROCESSES)]
    (sum(_loss(alone, share, [(0, 0, 0)] * len(share)) for share in shares) / PROCESSES).backward()
    for one in found:
        assert set(one["gradients"]) == {"encoder.weight", "encoder.bias", "head.weight", "head.bias"}
        for name, parameter in alone.named_parameters():
            torch.testing.assert_close(one["gradients"][name], parameter.grad)
        assert one["all"] == [0, 10, 1, 11] and one["first"] == {"rank": 0} and one["count"] == PROCESSES


def test_gradients_of_depthwise_filters_are_shared_without_a_warning_and_stay_what_they_are(tmp_path: Path) -> None:
    images = torch.randn(2, 1, 32, 32, 32, generator=torch.Generator().manual_seed(0))

    def said_and_found(wrap) -> tuple[bool, list[torch.Tensor]]:
        torch.manual_seed(0)
        network = build_network(NetworkSettings(name="adnext_t", options={"drop_path_rate": 0.0}), 1, 2, (32,) * 3)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            wrapped = wrap(network.train())  # which shares nothing once it is gone
            wrapped(images).square().sum().backward()
        return any("Grad strides" in str(one.message) for one in caught), [p.grad for p in network.parameters()]

    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    torch.set_warn_always(True)
    try:
        warned, _ = said_and_found(DistributedDataParallel)
        again, shared = said_and_found(lambda network: sharing_gradients(network, torch.device("cpu")))
    finally:
        torch.set_warn_always(False)
        dist.destroy_process_group()
    assert warned and not again
    _, alone = said_and_found(lambda network: network)
    assert all(torch.equal(*pair) for pair in zip(shared, alone, strict=True))


def test_one_process_alone_has_nobody_to_ask() -> None:
    network = _network()
    assert from_all_processes([1, 2]) == [1, 2] and of_first_process("mine") == "mine" and number_of_processes() == 1
    assert unwrapped(network) is network is unwrapped(LossOf(network, _loss))


def test_first_weights_are_those_of_every_process_and_epochs_are_each_processes_own() -> None:
    def drawn(*seeds: int) -> float:
        seed_torch(*seeds)
        return float(torch.rand(1))

    assert drawn(1, -1, 0) == drawn(1, -1, 3) != drawn(2, -1, 0)
    assert len({drawn(1, 0, 0), drawn(1, 0, 1), drawn(1, 1, 0), drawn(2, 0, 0)}) == 4


def test_what_a_fold_has_held_is_free_before_the_next(monkeypatch) -> None:
    held: list[weakref.ref] = []

    def train(fold: int, **_) -> None:
        assert all(one() is None for one in held)
        network = _network()
        network.itself = [network]  # as a run refers to itself
        held.append(weakref.ref(network))

    monkeypatch.setattr(run_training, "run_training", train)
    for fold in range(3):
        FoldTraining(arguments={"trainer_class_name": "ADNeXtTrainer_T", "fold": fold}, device="cpu").run()
    assert len(held) == 3


def test_a_fold_that_a_gpu_has_no_memory_for_says_what_helps(monkeypatch) -> None:
    def train(**_) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    monkeypatch.setattr(run_training, "run_training", train)
    training = FoldTraining(arguments={"trainer_class_name": "ADNeXtTrainer_T"}, device="cpu")
    with pytest.raises(
        AdnextError, match=r"^the GPU's memory ran out; take a smaller batch_size, network or input, or end other"
    ):
        training.run()
