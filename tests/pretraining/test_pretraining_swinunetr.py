"""SwinUNETR's pre-training: sizes, turns, cut-outs and the three losses."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from adnext_plugin.batch import Batch
from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.costs import count_parameters
from adnext_plugin.plan import NetworkSettings, Plan, PreprocessingSettings
from adnext_plugin.pretraining.swinunetr.cuts import boxes, cut, turned
from adnext_plugin.pretraining.swinunetr.network import Answers, build_three_heads
from adnext_plugin.pretraining.swinunetr.objective import SwinUNETRObjective
from adnext_plugin.pretraining.swinunetr.options import SwinUNETROptions

SWIN = NetworkSettings(name="swin_unetr_48")
SEEDS = [(1, 1, index) for index in range(3)]


def test_the_network_is_as_large_as_monais() -> None:
    with torch.device("meta"):
        network = build_three_heads(SWIN, 1, (96, 96, 96))
        assert count_parameters(network) == 19_097_191
        assert count_parameters(network.encoder) == 8_062_002
        assert count_parameters(network.reconstruction) == 10_638_385
        answers = network(torch.empty(2, 1, 64, 32, 64))
    assert [tuple(answer.shape) for answer in answers] == [(2, 4), (2, 512), (2, 1, 64, 32, 64)]


def test_turns_are_quarters_in_one_plane() -> None:
    images = torch.randn(4, 1, 6, 6, 8)
    found = turned(images, [0, 1, 2, 3], "zy")
    assert torch.equal(found[0], images[0])
    assert torch.equal(found[2], images[2].flip(-3, -2))
    assert torch.equal(torch.rot90(found[1], 3, (-3, -2)), images[1])
    assert not torch.equal(found[3], images[3]) and found.shape == images.shape


def test_boxes_are_5_to_25_percent_of_an_edge_until_the_drawn_share_is_reached() -> None:
    size, shares = (40, 60, 80), []
    for seed in range(60):
        found = list(boxes(size, 0.3, np.random.default_rng(seed)))
        wanted = np.random.default_rng(seed).uniform(0, 0.3)
        volumes = [np.prod([side.stop - side.start for side in box]) for box in found]
        assert sum(volumes) / np.prod(size) >= wanted > sum(volumes[:-1]) / np.prod(size)
        for box in found:
            assert all(side.stop <= length for side, length in zip(box, size, strict=True))
            assert all(side.stop - side.start <= 0.25 * length for side, length in zip(box, size, strict=True))
            assert all(side.stop - side.start >= 0.05 * length for side, length in zip(box, size, strict=True))
        shares.append(wanted)
    assert np.mean(shares) == pytest.approx(0.15, abs=0.03)


def test_cut_outs_hold_noise_between_0_and_1_or_another_scan_and_nothing_else_changes() -> None:
    images = torch.full((3, 1, 20, 20, 20), 7.0) + 10 * torch.arange(3).view(3, 1, 1, 1, 1)
    for seed in range(10):
        found, is_cut = cut(images, 0.3, [np.random.default_rng((seed, one)) for one in range(3)])
        for index, (scan, mask) in enumerate(zip(found[:, 0], is_cut, strict=True)):
            assert (scan[~mask] == images[index, 0, 0, 0, 0]).all()
            others = {float(images[one, 0, 0, 0, 0]) for one in range(3) if one != index}
            assert all(0 <= value <= 1 or value in others for value in scan[mask].tolist())
    assert (images == torch.full_like(images, 7.0) + 10 * torch.arange(3).view(3, 1, 1, 1, 1)).all()


class _Told(nn.Module):
    """Answers what it is given to answer, view by view."""

    def __init__(self, answers: list[Answers]) -> None:
        super().__init__()
        self.answers = answers

    def forward(self, images):
        return self.answers.pop(0)


def test_the_loss_is_the_sum_of_turns_contrast_and_reconstruction() -> None:
    generator = torch.Generator().manual_seed(0)
    nothing = torch.zeros(3)
    batch = Batch(torch.randn(3, 1, 8, 8, 8, generator=generator), nothing, nothing[:, None], nothing.long())
    objective = SwinUNETRObjective(SwinUNETROptions())
    views = objective._views(batch, SEEDS)
    again = objective._views(batch, SEEDS)
    assert all(torch.equal(a, b) for one, two in zip(views, again, strict=True) for a, b in zip(one, two, strict=True))
    answers = [
        Answers(torch.randn(3, 4, generator=generator), torch.randn(3, 16, generator=generator), view.turned + 0.25)
        for view in views
    ]
    found = objective.loss(_Told(list(answers)), batch, SEEDS)
    turns = sum(F.cross_entropy(one.turns, view.turns) for one, view in zip(answers, views, strict=True)) / 2
    rows = F.normalize(torch.cat([one.projections for one in answers]), dim=1)
    likeness = (rows @ rows.T / 0.5).fill_diagonal_(float("-inf"))
    contrast = F.cross_entropy(likeness, torch.tensor([3, 4, 5, 0, 1, 2]))  # NT-Xent
    assert float(found) == pytest.approx(float(turns + contrast + 0.25), rel=1e-5)
    weighted = SwinUNETRObjective(SwinUNETROptions(rotation_weight=0, contrast_weight=0, reconstruction_weight=2))
    assert float(weighted.loss(_Told(list(answers)), batch, SEEDS)) == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize(
    ("network", "size", "options", "message"),
    [
        ("adnext_t", (64, 64, 64), {}, "is not the encoder of SwinUNETR"),
        ("swin_unetr_48", (32, 32, 32), {}, "leaves one token, where rotation and contrast need two"),
        ("swin_unetr_48", (64, 32, 32), {}, "need two equal edges"),
        ("swin_unetr_48", (96, 96, 100), {}, "a multiple of 32"),
        ("swin_unetr_48", (64, 64, 64), {"largest_cut": 1.0}, "largest_cut must lie between 0 and 1"),
        ("swin_unetr_48", (64, 64, 64), {"temperature": 0.0}, "temperature must be above 0"),
        ("swin_unetr_48", (64, 64, 64), {"contrast_weight": -1.0}, "must be at least 0"),
    ],
)
def test_what_does_not_go_together_is_one_line(network, size, options, message) -> None:
    plan = Plan(network=NetworkSettings(name=network), preprocessing=PreprocessingSettings(input_size_voxels=size))
    with pytest.raises(SettingsError, match=message) as refusal:
        objective = SwinUNETRObjective(SwinUNETROptions(**options))
        objective.settled(plan, 1, objective.settings, torch.device("cpu"))
        with torch.device("meta"):
            objective.build(plan, 1)
    assert "\n" not in str(refusal.value)


class _Copies(TorchDispatchMode):
    """Whether each copy from the CPU to another device was waited for."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[bool] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default and args[0].is_cpu and kwargs.get("device") == torch.device("meta"):
            self.waited.append(not kwargs.get("non_blocking"))
        return func(*args, **kwargs)


def test_no_turn_and_no_noise_is_waited_for_on_its_way_to_a_gpu() -> None:
    objective = SwinUNETRObjective(SwinUNETROptions())
    images = torch.zeros(3, 1, 16, 16, 16, device="meta")
    batch = Batch(images, torch.zeros(3), torch.zeros(3, 0), torch.arange(3))
    with _Copies() as copies:
        objective._views(batch, [(1, 1, index) for index in range(3)])
    # two views' turns, and noise in boxes
    assert len(copies.waited) > 2 and not any(copies.waited)
