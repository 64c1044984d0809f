"""Masks, the autoencoder, its loss, and what it is compared with."""

import numpy as np
import pytest
import torch

from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.families.adnext import adnext_t
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.pretraining.fill_in import fill_in
from adnext_plugin.pretraining.masked_autoencoder.fcmae import FCMAE, build_fcmae, masked_voxels, reconstruct
from adnext_plugin.pretraining.masked_autoencoder.options import FCMAEOptions
from adnext_plugin.pretraining.masked_autoencoder.sparse.backends import encode_with
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_patches import VisiblePatches
from adnext_plugin.pretraining.masks import draw_visible, join_patches, patch_grid, split_into_patches, visible_count

CUBE = (64, 64, 64)


def _network(**changes) -> FCMAE:
    torch.manual_seed(0)
    return build_fcmae(NetworkSettings(name="adnext_t"), FCMAEOptions(**changes), 1, CUBE)


@pytest.mark.parametrize(
    ("network", "millions"), [("adnext_t", 5.18), ("adnext_s", 8.15), ("adnext_b", 28.83), ("adnext_l", 75.72)]
)
def test_parameters_are_the_papers(network: str, millions: float) -> None:
    model = build_fcmae(NetworkSettings(name=network), FCMAEOptions(), 1, (128, 128, 128))
    assert round(sum(parameter.numel() for parameter in model.parameters()) / 1e6, 2) == millions


def test_a_stem_that_looks_across_patches_cannot_be_pretrained() -> None:
    network = NetworkSettings(name="adnext_t", options={"stem": "convolutional"})
    with pytest.raises(SettingsError, match="across the edges of masked patches; pre-train with 'patch'"):
        build_fcmae(network, FCMAEOptions(), 1, CUBE)


@pytest.mark.parametrize(("width", "millions"), [(64, 2.22), (128, 4.47), (256, 9.17), (512, 19.35), (768, 30.59)])
def test_decoder_widths_have_the_sizes_known_for_them(width: int, millions: float) -> None:
    model = build_fcmae(NetworkSettings(name="adnext_b"), FCMAEOptions(decoder_width=width), 1, CUBE)
    decoder = [parameter.numel() for name, parameter in model.named_parameters() if not name.startswith("encoder.")]
    assert sum(decoder) / 1e6 == pytest.approx(millions, abs=0.02)


def test_masks_depend_on_their_seed_alone() -> None:
    visible = draw_visible((4, 4, 4), 0.6, [(42, 1, 0), (42, 1, 1), (42, 1, 0)])
    assert visible.flatten(1).sum(1).tolist() == [25, 25, 25]  # int(64 · 0.4)
    assert torch.equal(visible[0], visible[2]) and not torch.equal(visible[0], visible[1])
    often = draw_visible((4, 4, 4), 0.6, [(epoch, 0) for epoch in range(400)]).float().mean(0)
    assert often.min() > 0.25 and often.max() < 0.55  # every patch has its turn


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: visible_count(64, 0.0), "between 0 and 1"),
        (lambda: visible_count(64, 1.0), "between 0 and 1"),
        (lambda: visible_count(4, 0.9), "leaves 0 of 4"),
        (lambda: patch_grid((128, 128, 128), 48), "multiple of the encoder's stride of 32, got 48"),
        (lambda: patch_grid((96, 112, 96), 32), r"\[96, 112, 96\] voxels cannot be cut into patches of 32"),
        (lambda: _network(decoder_width=0), "decoder_width must be at least 1"),
        (lambda: build_fcmae(NetworkSettings(name="adnext_t"), FCMAEOptions(), 1, (96, 112, 96)), "patches"),
    ],
)
def test_impossible_masks_and_patches_are_refused(change, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        change()


def test_patches_are_cut_and_joined_in_place() -> None:
    images = torch.randn(2, 3, 64, 96, 32)
    patches = split_into_patches(images, (2, 3, 1))
    assert torch.equal(patches[1, 1, 2, 0], images[1, :, 32:, 64:, :])
    assert torch.equal(join_patches(patches), images)


@pytest.mark.parametrize("backend", ["gathered", "masked_dense"])
def test_predictions_know_visible_voxels_only(backend: str) -> None:
    network = _network(sparse_backend=backend).eval()
    images, visible = torch.randn(1, 1, *CUBE), draw_visible((2, 2, 2), 0.6, [(0, 0)])
    z, y, x = (~visible[0]).nonzero()[0].tolist()
    masked, seen = images.clone(), images.clone()
    masked[:, :, 32 * z : 32 * z + 32, 32 * y : 32 * y + 32, 32 * x : 32 * x + 32] += 100
    z, y, x = visible[0].nonzero()[0].tolist()
    seen[:, :, 32 * z : 32 * z + 32, 32 * y : 32 * y + 32, 32 * x : 32 * x + 32] += 1
    with torch.no_grad():
        before = network(images, visible)
        assert torch.equal(network(masked, visible), before)
        assert not torch.allclose(network(seen, visible), before)


def test_the_papers_non_sparse_arm_is_another_network() -> None:
    images, visible = torch.randn(1, 1, *CUBE), draw_visible((2, 2, 2), 0.6, [(0, 0)])
    encoder = adnext_t(1, 2, init="fan_in").encoder.eval()
    patches = VisiblePatches(visible, torch.device("cpu"))
    once = encode_with("masked_once", ())(encoder, images, patches)
    sparse = encode_with("masked_dense", ())(encoder, images, patches)
    assert (once - sparse)[visible].abs().max() > 0.1


@pytest.mark.parametrize("patch", [32, 64])
def test_answers_are_the_masked_voxels_in_the_order_of_predictions(patch: int) -> None:
    size = (128, 64, 64)
    grid = patch_grid(size, patch)
    images, visible = torch.randn(2, 1, *size), draw_visible(grid, 0.5, [(0, 0), (0, 1)])
    answers = masked_voxels(images, visible, normalise=False)

    class Oracle(FCMAE):
        def forward(self, images, visible):
            return masked_voxels(images, visible, normalise=False)

    torch.manual_seed(0)
    oracle = Oracle(adnext_t(1, 2).encoder, 1, 8, encode_with("masked_dense", ()))
    assert torch.equal(reconstruct(oracle, images, visible, normalised=False), images)
    network = FCMAE(adnext_t(1, 2).encoder, 1, 8, encode_with("gathered", ("scatter",) * 4))
    assert network(images, visible).shape == answers.shape == (2 * 4 * 2, 32**3)


def test_normalised_answers_have_mean_0_and_variance_1_and_are_given_back() -> None:
    images, visible = 5 + 3 * torch.randn(1, 1, *CUBE), draw_visible((2, 2, 2), 0.6, [(0, 0)])
    answers = masked_voxels(images, visible, normalise=True)
    torch.testing.assert_close(answers.mean(1), torch.zeros(len(answers)), atol=1e-5, rtol=0)
    torch.testing.assert_close(answers.var(1), torch.ones(len(answers)), atol=1e-4, rtol=0)

    class Oracle(FCMAE):
        def forward(self, images, visible):
            return masked_voxels(images, visible, normalise=True)

    oracle = Oracle(adnext_t(1, 2).encoder, 1, 8, encode_with("masked_dense", ()))
    torch.testing.assert_close(reconstruct(oracle, images, visible, normalised=True), images, rtol=1e-4, atol=1e-4)


def test_filling_in_continues_what_is_linear_and_finds_something_everywhere() -> None:
    z, y, x = np.meshgrid(*[np.arange(24.0)] * 3, indexing="ij")
    scan, seen = 2 * z - y + 0.5 * x, np.ones((24, 24, 24), dtype=bool)
    seen[8:16, 8:16, 8:16] = False
    np.testing.assert_allclose(fill_in(scan, seen), scan, atol=1e-9)
    seen[:] = False
    seen[3, 4, 5] = True
    np.testing.assert_array_equal(fill_in(scan, seen), np.full(scan.shape, scan[3, 4, 5]))
