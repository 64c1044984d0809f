"""SimMIM and MAE: sizes, how many tokens are seen, and that what is masked has no influence."""

import pytest
import torch
from monai.networks.nets import ViT
from torch import nn

from adnext_plugin.batch import Batch
from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.costs import count_parameters
from adnext_plugin.plan import NetworkSettings, Plan, PreprocessingSettings
from adnext_plugin.pretraining.masked_tokens.networks import build_mae, build_simmim
from adnext_plugin.pretraining.masked_tokens.objective import MAEObjective, SimMIMObjective
from adnext_plugin.pretraining.masked_tokens.options import MAEOptions, SimMIMOptions
from adnext_plugin.pretraining.masks import draw_visible, join_patches, mask_voxels, split_into_patches, token_grid

SIZE = (32, 32, 48)
SEEDS = [(42, 1, 0), (42, 1, 1)]
TINY = {"width": 24, "mlp_width": 32, "depth": 2, "num_heads": 2}
VIT = NetworkSettings(name="vit_small_mim", options=TINY)


def test_at_90_percent_21_of_216_tokens_are_seen() -> None:
    grid = token_grid((96, 96, 96), 16)
    seen = {ratio: draw_visible(grid, ratio, SEEDS).flatten(1).sum(1).tolist() for ratio in (0.6, 0.75, 0.9)}
    assert grid == (6, 6, 6) and seen == {0.6: [86, 86], 0.75: [54, 54], 0.9: [21, 21]}


def test_simmim_with_the_light_decoder_has_the_papers_size_and_a_mask_token() -> None:
    with torch.device("meta"):
        light = build_simmim(NetworkSettings(name="vit_small_mim"), SimMIMOptions(decoder="vitautoenc"), 1, (96,) * 3)
        linear = build_simmim(NetworkSettings(name="vit_small_mim"), SimMIMOptions(), 1, (96,) * 3)
    assert count_parameters(light) == 8_106_141 + 300
    assert count_parameters(linear) == 7_797_900 + 300 + 301 * 16**3


@pytest.mark.parametrize("name", ["vit_small_mim", "vit_b16"])
def test_an_encoder_taken_apart_and_put_together_is_the_encoder(name: str) -> None:
    torch.manual_seed(0)
    encoder = build_network(NetworkSettings(name=name), 1, 2, (32, 32, 32)).eval().encoder
    scan = torch.randn(2, 1, 32, 32, 32)
    with torch.no_grad():
        whole, _ = ViT.forward(encoder, scan)
        parts = encoder.encode_grid(encoder.patches(scan)).flatten(1, 3)
    assert torch.equal(whole[:, 1:] if encoder.classification else whole, parts)


def test_swin_taken_apart_and_put_together_is_swin() -> None:
    torch.manual_seed(0)
    encoder = build_network(NetworkSettings(name="swin3d_t"), 1, 2, (32, 32, 32)).eval().encoder
    scan = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(encoder.encode_grid(encoder.patches(scan)).mean(dim=(1, 2, 3)), encoder(scan))


def _networks() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    mae = MAEOptions(decoder_width=24, decoder_mlp_width=32, decoder_depth=1, decoder_heads=2)
    return {
        "simmim": build_simmim(VIT, SimMIMOptions(), 1, SIZE).eval(),
        "vitautoenc": build_simmim(VIT, SimMIMOptions(decoder="vitautoenc"), 1, SIZE).eval(),
        "mae": build_mae(VIT, mae, 1, SIZE).eval(),
    }


@pytest.mark.parametrize("name", ["simmim", "vitautoenc", "mae"])
def test_what_is_masked_has_no_influence_and_what_is_seen_has(name: str) -> None:
    network = _networks()[name]
    visible = draw_visible((2, 2, 3), 0.5, SEEDS)
    scan, other = torch.randn(2, 2, 1, *SIZE)
    seen = mask_voxels(visible, SIZE).unsqueeze(1)
    with torch.no_grad():
        predicted = network(scan, visible)
        assert predicted.shape == scan.shape
        assert torch.equal(network(torch.where(seen, scan, other), visible), predicted)
        assert not torch.allclose(network(torch.where(seen, other, scan), visible), predicted)


@pytest.mark.parametrize("token_voxels", [16, 32])
def test_mae_knows_how_many_tokens_a_gpu_sees_without_asking_it(token_voxels: int) -> None:
    options = MAEOptions(
        decoder_width=24, decoder_mlp_width=32, decoder_depth=1, decoder_heads=2, token_voxels=token_voxels
    )
    size = (64, 64, 32)
    network = build_mae(VIT, options, 1, size)
    grid = token_grid(size, token_voxels)
    visible = draw_visible(grid, options.mask_ratio, SEEDS)
    seen = mask_voxels(visible, [edge // patch for edge, patch in zip(size, network.encoder.patch_voxels, strict=True)])
    assert int(seen.sum()) == len(SEEDS) * network._visible_each


def test_swin_sees_nothing_of_what_is_masked() -> None:
    torch.manual_seed(0)
    network = build_simmim(NetworkSettings(name="swin3d_t"), SimMIMOptions(), 1, (32, 32, 32)).eval()
    visible = draw_visible((2, 2, 2), 0.5, SEEDS[:1])
    scan, other = torch.randn(2, 1, 1, 32, 32, 32)
    with torch.no_grad():
        mixed = torch.where(mask_voxels(visible, (32, 32, 32)).unsqueeze(1), scan, other)
        assert torch.equal(network(mixed, visible), network(scan, visible))


class _Zeros(nn.Module):
    def forward(self, images, visible):
        return torch.zeros_like(images)


def _batch(images: torch.Tensor) -> Batch:
    nothing = torch.zeros(len(images))
    return Batch(images, nothing, nothing[:, None], nothing.long())


def test_losses_are_of_masked_voxels_absolute_or_squared_and_if_asked_of_the_brain() -> None:
    images = torch.randn(2, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    images[:, :, :16, :16] = 0  # background: the blocks of one corner
    hidden = ~mask_voxels(draw_visible((2, 2, 3), 0.5, SEEDS), SIZE).unsqueeze(1)
    brain = torch.ones_like(hidden)
    brain[:, :, :16, :16] = False
    for objective, options, error in (
        (SimMIMObjective, SimMIMOptions, torch.abs),
        (MAEObjective, MAEOptions, torch.square),
    ):
        for loss_on, counted in (("masked", hidden), ("masked_brain", hidden & brain)):
            found = objective(options(mask_ratio=0.5, loss_on=loss_on)).losses(_Zeros(), _batch(images), SEEDS)
            expected = [float(error(scan[mask]).mean()) for scan, mask in zip(images, counted, strict=True)]
            assert found.tolist() == pytest.approx(expected)


def test_mae_may_be_asked_for_blocks_of_mean_0_and_variance_1() -> None:
    images = 5 + 3 * torch.randn(2, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    objective = MAEObjective(MAEOptions(norm_pix_loss=True))
    answers = split_into_patches(objective._answers(_batch(images)), (2, 2, 3)).flatten(4)
    torch.testing.assert_close(answers.mean(-1), torch.zeros(2, 2, 2, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(answers.var(-1), torch.ones(2, 2, 2, 3))
    back = objective._in_units_of_scan(objective._answers(_batch(images)), _batch(images))
    torch.testing.assert_close(back, images)
    assert join_patches(split_into_patches(images, (2, 2, 3))).equal(images)


@pytest.mark.parametrize(
    ("objective", "options", "network", "size", "message"),
    [
        (SimMIMObjective, SimMIMOptions(), "adnext_t", SIZE, "does not work on tokens that could be masked"),
        (MAEObjective, MAEOptions(), "swin3d_t", SIZE, "is no ViT, whose tokens can be left out"),
        (
            SimMIMObjective,
            SimMIMOptions(token_voxels=8),
            "vit_small_mim",
            SIZE,
            "no multiple of the .* voxels of a patch",
        ),
        (SimMIMObjective, SimMIMOptions(mask_ratio=0.6), "swin3d_t", SIZE, r"ends in one token per \[2, 32, 32\]"),
        (SimMIMObjective, SimMIMOptions(decoder="vitautoenc"), "swin3d_t", (64, 64, 64), "is for tokens of 16³ voxels"),
        (MAEObjective, MAEOptions(token_voxels=32), "vit_small_mim", SIZE, "cannot be cut into patches of 32"),
        (MAEObjective, MAEOptions(mask_ratio=0.99), "vit_small_mim", SIZE, "leaves 0 of 12 patches visible"),
    ],
)
def test_what_does_not_go_together_is_one_line(objective, options, network, size, message) -> None:
    plan = Plan(network=NetworkSettings(name=network), preprocessing=PreprocessingSettings(input_size_voxels=size))
    with pytest.raises(SettingsError, match=message) as refusal:
        made = objective(options)
        made.settled(plan, 1, made.settings, torch.device("cpu"))
        with torch.device("meta"):
            made.build(plan, 1)
    assert "\n" not in str(refusal.value)


def test_a_decoder_that_cannot_be_is_refused() -> None:
    with pytest.raises(SettingsError, match="decoder_width must be a multiple of decoder_heads and of 6"):
        MAEOptions(decoder_width=100)
    with pytest.raises(SettingsError, match="token_voxels must be at least 1"):
        SimMIMOptions(token_voxels=0)
