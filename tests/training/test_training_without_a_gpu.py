"""What a GPU would refuse or run out of, found on tensors without data: no GPU is needed."""

import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from conftest import CountedOperations
from nnunetv2.run.run_training import get_trainer_from_args
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call

from adnext_plugin.environment import environment_with
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.kernels.choice import layers_by_shape, use_plans
from adnext_plugin.networks.kernels.depthwise import default_plan
from adnext_plugin.networks.recomputation import parts_computed_again, recompute_in
from adnext_plugin.paths import hook_dir
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.registry import NETWORKS, registered_names
from adnext_plugin.trainers import run_memory
from adnext_plugin.training.memory import GIB, kept_bytes, memory_line, needed_of_parts

SIZES = {"liu_cnn": 71, "polimi_cnn": 87, "resenc_l": 64}
SMALL = {"stem": "convolutional", "head_norm": "batch", "init": "fan_in", "drop_path_rate": 0.0, "mirror": True}


def _without_data(name: str, size: int, options: dict | None = None) -> nn.Module:
    """A network whose weights take no memory."""
    settings = NetworkSettings(name=name, options=options or {})
    with torch.device("meta"):
        return build_network(settings, 1, 2, (size, size, size)).train()


@pytest.mark.parametrize("name", registered_names(NETWORKS))
def test_every_network_goes_forward_on_a_gpu_and_back_without_a_tensor_left_elsewhere(fake_gpu, name: str) -> None:
    size = SIZES.get(name, 32)
    network = _without_data(name, size)
    # back, with a step of AdamW: the engine of gradients needs a driver for a GPU, and none for tensors without device
    optimizer = torch.optim.AdamW(network.parameters())
    images, targets = torch.empty(2, 1, size, size, size, device="meta"), torch.empty(2, dtype=int, device="meta")
    F.cross_entropy(network(images), targets).backward()
    assert [key for key, parameter in network.named_parameters() if parameter.grad is None] == []
    optimizer.step()
    # forward, as on a GPU, in 16 bits
    with FakeTensorMode(allow_non_fake_inputs=False), environment_with(ADNEXT_KERNELS="stock"):
        state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
        state = {
            key: torch.empty_strided(t.shape, t.stride(), dtype=t.dtype, device="cuda") for key, t in state.items()
        }
        for half in (torch.bfloat16, torch.float16):
            with torch.autocast("cuda", dtype=half):
                logits = functional_call(network, state, (torch.empty(2, 1, size, size, size, device="cuda"),))
            assert (logits.device.type, logits.dtype, tuple(logits.shape)) == ("cuda", torch.float32, (2, 2))


@pytest.mark.parametrize("name", ["mednext_b_k3", "mednext_v2"])
def test_a_mednext_whose_kernels_were_chosen_keeps_no_tensor_elsewhere_and_its_precision(fake_gpu, name) -> None:
    network, size, given = _without_data(name, 32), (32, 32, 32), []
    plans = {str(shape): default_plan(shape.size_zyx, shape.channels, 2) for shape in layers_by_shape(network, size)}
    use_plans(network, size, plans)
    for block in (layer for layers in layers_by_shape(network, size).values() for layer in layers):
        block.norm.register_forward_pre_hook(lambda _, inputs: given.append((inputs[0].device.type, inputs[0].dtype)))
    weights = network.state_dict()
    with FakeTensorMode(allow_non_fake_inputs=False), CountedOperations() as operations:
        state = {key: torch.empty(tensor.shape, device="cuda") for key, tensor in weights.items()}
        with torch.autocast("cuda", dtype=torch.bfloat16):
            logits = functional_call(network, state, (torch.empty(2, 1, *size, device="cuda"),))
    assert (logits.device.type, tuple(logits.shape)) == ("cuda", (2, 2))
    assert set(given) == {("cuda", torch.bfloat16)} and operations.counts["depthwise3d"] == len(given)


@pytest.mark.parametrize(
    ("name", "options", "precision", "mib"),
    [
        ("adnext_t", SMALL, "bfloat16", 247),
        ("mednext_b_k3", {}, "bfloat16", 3307),
    ],
)
def test_what_a_step_keeps_for_its_gradient_is_known_before(fake_gpu, name, options, precision, mib) -> None:
    network = _without_data(name, 128, options)
    kept = kept_bytes(network, [(1, 128, 128, 128)], precision)
    assert kept / 2**20 == pytest.approx(mib, rel=0.1)
    assert kept_bytes(network, [(1, 128, 128, 128)], "float32") > 1.2 * kept


@pytest.mark.parametrize(("name", "least"), [("adnext_l", 2.5), ("mednext_b_k3", 2)])
def test_blocks_that_are_computed_again_keep_their_input_alone_and_the_inside_of_one(fake_gpu, name, least) -> None:
    network = _without_data(name, 64)
    whole = kept_bytes(network, [(1, 64, 64, 64)], "bfloat16")
    assert recompute_in(network)
    largest_inputs = 2 * 16**3 * 128 if name == "adnext_l" else 2 * 64**3 * 32
    assert largest_inputs < kept_bytes(network, [(1, 64, 64, 64)], "bfloat16") < whole / least


def test_the_estimate_of_a_step_is_what_an_h100_needed(fake_gpu) -> None:
    network = _without_data("mednext_b_k3", 128)
    needed = needed_of_parts(network, kept_bytes(network, [(1, 128, 128, 128)], "bfloat16"), 2)
    assert needed[0] / 2**20 == pytest.approx(6739, rel=0.1)  # its peak of allocated memory
    assert len(needed) == 2 and needed[1] == pytest.approx(needed[0] / 2, rel=0.1)


def test_the_line_about_memory_advises_where_a_batch_does_not_fit() -> None:
    needed = [58 * GIB, 30 * GIB, 30 * GIB, 16 * GIB]
    said = "mednext_v2, batch 4: about 58.0 GiB of the GPU's memory; 79.0 GiB are free"
    assert memory_line("mednext_v2, batch 4", needed, 79 * GIB) == said
    assert memory_line("x", needed, 24 * GIB).endswith("It will hardly fit: --set accumulate=4 needs 16.0")
    assert memory_line("x", needed, 10 * GIB).endswith("Not even one scan fits: take a smaller network or input")


def test_the_line_about_memory_advises_what_a_network_can() -> None:
    needed, again = [58 * GIB, 30 * GIB], [20 * GIB, 12 * GIB]
    both = "--set accumulate=2 needs 30.0, or --set recompute=true needs 20.0"
    assert memory_line("x", needed, 40 * GIB, recomputed_bytes=again).endswith(f"It will hardly fit: {both}")
    alone = memory_line("x", needed, 24 * GIB, recomputed_bytes=again)
    assert alone.endswith("It will hardly fit: --set recompute=true needs 20.0")
    together = memory_line("x", needed, 15 * GIB, recomputed_bytes=again)
    assert together.endswith("It will hardly fit: --set recompute=true --set accumulate=2 needs 12.0")
    of_parts = memory_line("x", needed, 40 * GIB, smallest_part=2)
    assert of_parts.endswith("so that parts are another training than the whole batch") and "batch norm" in of_parts
    none = memory_line("x", needed, 10 * GIB, smallest_part=2)
    assert none.endswith("Not even a part of 2 scans fits: take a smaller network or input")
    whole = {"smaller_batches": [(3, 44 * GIB), (2, 30 * GIB)]}
    smaller = memory_line("x", [58 * GIB], 40 * GIB, **whole)
    assert "It will hardly fit: --set batch_size=2 needs 30.0. The loss compares the scans of a batch" in smaller
    assert memory_line("x", [58 * GIB], 10 * GIB, **whole).endswith(
        "Not even a batch of 2 scans fits: take a smaller network or input"
    )


@pytest.mark.parametrize(
    ("name", "parts", "said"),
    [
        ("ADNeXtTrainer_T_Small", 2, "parts are another training"),
        ("ADNeXtTrainer_T", 4, "--set recompute=true needs"),
    ],
)
def test_a_run_is_advised_what_its_network_can(toy, fake_gpu, monkeypatch, name: str, parts: int, said: str) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({"batch_size": 4}))
    trainer = get_trainer_from_args("Dataset301_Toy", "3d_fullres", 0, name, "ADNeXtPlans", False, torch.device("cpu"))
    trainer.initialize()
    trainer.device = torch.device("cuda")
    heard: list[str] = []
    told: list[int] = []

    def line(what, needed, free, first, *, recomputed_bytes, smallest_part, smaller_batches):
        told.append(len(needed))
        assert not smaller_batches  # it can be cut
        assert len(recomputed_bytes) == len(needed) and recomputed_bytes[0] < needed[0]
        fitting = recomputed_bytes[0] if name.endswith("T") else needed[-1]
        heard.append(
            memory_line(
                what,
                needed,
                fitting,
                first,
                recomputed_bytes=recomputed_bytes,
                smallest_part=smallest_part,
            )
        )
        return heard[-1]

    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_: (0, 80 * GIB))
    monkeypatch.setattr(run_memory, "memory_line", line)
    trainer.about_run()
    assert told == [parts] and said in heard[0]
    helps = "--set accumulate=2 computes a batch in 2 parts, --set recompute=true holds less of the network; or take a"
    assert trainer.memory_advice().startswith(helps)
    trainer.settings = replace(trainer.settings, accumulate=parts)
    assert "accumulate" not in trainer.memory_advice()  # in which it cannot be cut further
    assert not parts_computed_again(trainer.network)


def test_a_run_on_a_gpu_says_first_what_memory_it_will_need(toy, fake_gpu, monkeypatch) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps({"covariates": ["age"], "batch_size": 8, "accumulate": 2}))
    arguments = ("Dataset301_Toy", "3d_fullres", 0, "ADNeXtTrainer_T", "ADNeXtPlans", False, torch.device("cpu"))
    trainer = get_trainer_from_args(*arguments)
    trainer.initialize()
    assert trainer.about_run() == []
    trainer.device = torch.device("cuda")
    for free_gib, advice in ((1.0, ""), (0.016, ". It will hardly fit: --set accumulate=")):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda *_, free=free_gib: (int(free * GIB), 80 * GIB))
        (line,) = trainer.about_run()
        assert "adnext_t, batch 8, 32×32×32 voxels, float32: about 0." in line
        assert f"GiB of the GPU's memory; {free_gib:.1f} GiB are free" in line and advice in line
        assert line.startswith("WARNING") == bool(advice)
