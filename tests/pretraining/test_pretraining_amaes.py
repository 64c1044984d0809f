"""AMAES: sizes of its networks, what is masked and what is seen, and what the loss is of."""

from types import SimpleNamespace

import pytest
import torch

from adnext_plugin.batch import Batch
from adnext_plugin.data.augmentation import Augmentation
from adnext_plugin.errors import SettingsError, UnknownNameError
from adnext_plugin.networks.costs import count_parameters
from adnext_plugin.networks.layers.unet_decoder import UNetDecoder
from adnext_plugin.plan import NetworkSettings, Plan, PreprocessingSettings
from adnext_plugin.pretraining.amaes.network import build_restorer
from adnext_plugin.pretraining.amaes.objective import AMAESObjective
from adnext_plugin.pretraining.amaes.options import AMAESOptions
from adnext_plugin.pretraining.amaes.views import (
    RestorationViews,
    UnchangedViews,
    central_cut,
    pre_augmentation_size,
    random_cut,
)
from adnext_plugin.pretraining.masks import draw_visible, token_grid
from adnext_plugin.registry import TRAINERS, load

SIZE = (32, 32, 32)


@pytest.mark.parametrize(
    ("name", "decoder", "skips", "parameters"),
    [
        ("unet_b", "light", False, 17_879_617),
        ("unet_xl", "light", False, 71_500_929),
        ("mednext_m_k3", "light", False, 16_236_385),
        ("mednext_l_k3", "light", False, 50_496_993),
        ("unet_b", "standard", False, 20_231_137),
        ("unet_xl", "standard", False, 80_904_129),
        ("mednext_m_k3", "standard", False, 18_587_905),
        ("mednext_l_k3", "standard", False, 52_848_513),
        ("unet_b", "standard", True, 22_581_217),
        ("unet_xl", "standard", True, 90_304_449),
        ("mednext_m_k3", "standard", True, 20_937_985),
        ("mednext_l_k3", "standard", True, 55_198_593),
    ],
)
def test_networks_are_as_large_as_in_the_paper(name: str, decoder: str, skips: bool, parameters: int) -> None:
    with torch.device("meta"):
        network = build_restorer(NetworkSettings(name=name), 1, (128, 128, 128), decoder, skips)
        assert count_parameters(network) == parameters
        visible = torch.ones(1, 32, 32, 64, dtype=torch.bool)
        assert network(torch.empty(1, 1, 32, 32, 64), visible).shape == (1, 1, 32, 32, 64)


def test_the_light_decoders_and_the_fine_tuned_networks_have_the_papers_sizes() -> None:
    with torch.device("meta"):
        widths = [[width * 2**level for level in range(5)] for width in (32, 64)]
        light = [count_parameters(UNetDecoder(each, (1, 2, 4, 8, 16), 1, 1, skips=False)) for each in widths]
        tuned = [count_parameters(UNetDecoder(each, (1, 2, 4, 8, 16), 2, 2, skips=True)) for each in widths]
    assert light == [3_744_673, 14_974_785]
    assert [one + 14_134_944 if index == 0 else one + 56_526_144 for index, one in enumerate(tuned)] == [
        22_581_250,
        90_304_514,
    ]


@pytest.mark.parametrize("name", ["adnext_t", "resenc_l", "mednext_b_k3"])
def test_other_encoders_are_led_back_to_the_scans_resolution(name: str) -> None:
    size = (64, 96, 64)
    with torch.device("meta"):
        network = build_restorer(NetworkSettings(name=name), 2, size, "standard", True)
        visible = torch.ones(1, *size, dtype=torch.bool)
        assert network(torch.empty(1, 2, *size), visible).shape == (1, 2, *size)


def test_of_a_patch_of_128_cubed_13107_blocks_are_seen() -> None:
    grid = token_grid((128, 128, 128), 4)
    assert grid == (32, 32, 32)
    visible = draw_visible(grid, 0.6, [(42, 1, 0), (42, 1, 1)])
    assert visible.flatten(1).sum(1).tolist() == [13_107, 13_107] and (~visible[0]).sum() == 19_661
    assert not torch.equal(visible[0], visible[1])


def test_the_window_before_a_turn_is_the_diagonal() -> None:
    assert pre_augmentation_size((128, 128, 128)) == (181, 181, 181)
    assert pre_augmentation_size((96, 96, 96)) == (135, 135, 135)
    assert pre_augmentation_size((30, 40, 40)) == (50, 56, 56)


def test_parts_are_cut_from_anywhere_or_the_middle_and_padded_evenly() -> None:
    image = torch.arange(10.0 * 12 * 14).reshape(1, 10, 12, 14) + 1
    assert torch.equal(central_cut(image, (6, 6, 6)), image[:, 2:8, 3:9, 4:10])
    padded = central_cut(image, (13, 12, 14))
    assert torch.equal(padded[:, 1:11], image) and (padded[:, :1] == 1).all() and (padded[:, 11:] == 1).all()
    image[0, 0, 0, 0] = 0  # has a background
    assert (central_cut(image, (13, 12, 14))[:, :1] == 0).all()
    corners = {int(random_cut(image, (6, 6, 6), seed)[0, 0, 0, 0]) for seed in range(100)}
    assert len(corners) > 60 and corners <= set(image[0, :5, :7, :9].int().flatten().tolist())
    assert torch.equal(random_cut(image, (6, 6, 6), 3), random_cut(image, (6, 6, 6), 3))


def _head(size=(24, 24, 24)) -> torch.Tensor:
    image = torch.zeros(1, *size)
    image[:, 4:20, 4:20, 4:20] = torch.randn(1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    return image


def test_the_target_is_moved_as_the_input_is_and_only_the_input_is_made_worse() -> None:
    image = _head()
    spatial = Augmentation("amaes_spatial", (24, 24, 24))
    views = RestorationViews(spatial, "amaes_intensity", None)
    pairs = [views(image, seed) for seed in range(25)]
    assert all(torch.equal(pair[1], spatial(image, seed)) for seed, pair in enumerate(pairs))
    assert sum(not torch.equal(pair[0], pair[1]) for pair in pairs) > 12
    assert all(torch.equal((pair[0] == 0), (pair[1] == 0)) for pair in pairs)  # nothing was moved between the two
    kept = RestorationViews(spatial, "none", None)
    assert all(torch.equal(kept(image, seed)[0], pairs[seed][1]) for seed in range(25))
    patch = RestorationViews(Augmentation("none", (24, 24, 24)), "none", (8, 8, 8))(image, 5)
    assert patch.shape == (2, 1, 8, 8, 8)
    assert torch.equal(UnchangedViews((8, 8, 8))(image, 5)[0], image[:, 8:16, 8:16, 8:16])


def _plan(name: str, size=SIZE) -> Plan:
    return Plan(network=NetworkSettings(name=name), preprocessing=PreprocessingSettings(input_size_voxels=size))


class _Zeros(torch.nn.Module):
    """Answers 0, and remembers what it saw."""

    def forward(self, images, visible):
        self.seen = images, visible
        return torch.zeros_like(images)


def _batch(target: torch.Tensor) -> Batch:
    nothing = torch.zeros(len(target))
    return Batch(torch.stack([target + 1, target], dim=1), nothing, nothing[:, None], nothing.long())


def test_the_loss_is_of_all_voxels_or_of_those_masked_and_of_the_target() -> None:
    target, seeds = torch.randn(2, 1, *SIZE, generator=torch.Generator().manual_seed(0)), [(1, 2, 3), (1, 2, 4)]
    network = _Zeros()
    everything = AMAESObjective(AMAESOptions()).losses(network, _batch(target), seeds)
    torch.testing.assert_close(everything, target.square().mean(dim=(1, 2, 3, 4)))
    images, visible = network.seen
    assert torch.equal(images, target + 1)
    masked = AMAESObjective(AMAESOptions(loss_on="masked")).losses(network, _batch(target), seeds)
    expected = torch.stack([scan[0][~seen].square().mean() for scan, seen in zip(target, visible, strict=True)])
    torch.testing.assert_close(masked, expected)
    outputs = AMAESObjective(AMAESOptions(loss_on="masked")).outputs(network, _batch(target), seeds)
    scores = AMAESObjective(AMAESOptions(loss_on="masked")).scores([outputs])
    assert scores["loss"] == scores["masked_error"] == pytest.approx(float(expected.mean()))
    assert scores["error"] == pytest.approx(float(everything.mean()))


def test_what_is_masked_has_no_influence() -> None:
    torch.manual_seed(0)
    network = build_restorer(NetworkSettings(name="adnext_t"), 1, SIZE, "light", False).eval()
    visible = torch.rand(1, *SIZE) < 0.4
    image = torch.randn(1, 1, *SIZE)
    other = torch.where(visible, image, torch.randn(1, 1, *SIZE))
    with torch.no_grad():
        assert torch.equal(network(image, visible), network(other, visible))


@pytest.mark.parametrize(
    ("network", "size", "options", "error", "message"),
    [
        ("vit_small_mim", SIZE, {}, SettingsError, "does not give its levels, so that no decoder"),
        ("unet_b", (40, 32, 32), {}, SettingsError, r"down to 1/16, of which \[40, 32, 32\] voxels"),
        ("unet_b", (34, 32, 32), {}, SettingsError, "cannot be cut into patches of 4"),
        ("unet_b", SIZE, {"mask_ratio": 1.0}, SettingsError, "mask_ratio must lie between 0 and 1"),
        ("unet_b", SIZE, {"reversed": "amaes_intensit"}, UnknownNameError, "did you mean 'amaes_intensity'"),
        ("unet_b", SIZE, {"token_voxels": 0}, SettingsError, "token_voxels must be at least 1"),
        ("unet_b", SIZE, {"patch_voxels": (0, 8, 8)}, SettingsError, "patch_voxels must be at least 1"),
    ],
)
def test_what_does_not_go_together_is_one_line(network, size, options, error, message) -> None:
    with pytest.raises(error, match=message) as refusal:
        objective, plan = AMAESObjective(AMAESOptions(**options)), _plan(network, size)
        objective.settled(plan, 1, objective.settings, torch.device("cpu"))
        with torch.device("meta"):
            objective.build(plan, 1)
    assert "\n" not in str(refusal.value)


def test_the_arms_are_those_of_the_tables_and_the_released_recipe_is_that_of_the_code() -> None:
    def settled(name: str) -> SimpleNamespace:
        settings = load(TRAINERS, f"ADNeXtAMAESTrainer_{name}").settings_with()
        return SimpleNamespace(**vars(settings), **{f"option_{key}": value for key, value in settings.options.items()})

    arms = {name: settled(f"UNetXL{name}") for name in ("", "_none", "_spatial", "_standard", "_skips", "_released")}
    assert [arm.augmentation for arm in arms.values()] == [
        "amaes_spatial",
        "none",
        "amaes_spatial",
        "none",
        "none",
        "amaes_spatial",
    ]
    assert [arm.option_reversed for arm in arms.values()] == ["amaes_intensity", *["none"] * 4, "amaes_intensity"]
    assert [arm.option_decoder for arm in arms.values()] == [*["light"] * 3, "standard", "standard", "light"]
    assert [arm.option_skips for arm in arms.values()] == [False] * 4 + [True, False]
    paper, released = arms[""], arms["_released"]
    assert (paper.epochs, paper.batch_size, paper.weight_decay, paper.amsgrad) == (100, 16, 3e-5, True)
    assert (released.batch_size, released.weight_decay, released.amsgrad) == (8, 0.01, False)
    assert (paper.schedule_unit, released.schedule_unit) == ("epoch", "step")
    assert settled("MedNeXtL").batch_size == 8
