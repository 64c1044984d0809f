"""All ways of encoding visible patches give one result, which is that of a sparse network."""

import itertools
import math
import sys
from collections.abc import Callable
from functools import partial

import pytest
import torch
from coordinate_list import encode as encode_coordinates

from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.families.adnext import ADNeXtEncoder, adnext_b, adnext_s, adnext_t
from adnext_plugin.networks.kernels import depthwise_visible, triton_here
from adnext_plugin.networks.kernels.depthwise import filters_of
from adnext_plugin.networks.kernels.depthwise_visible import depthwise3d_visible_backward
from adnext_plugin.pretraining.masked_autoencoder.sparse import backends
from adnext_plugin.pretraining.masked_autoencoder.sparse.backends import encode_with, fastest_ways
from adnext_plugin.pretraining.masked_autoencoder.sparse.gathered import encode_gathered
from adnext_plugin.pretraining.masked_autoencoder.sparse.masked_dense import encode_masked_dense
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_depthwise import (
    VisibleDepthwise,
    Way,
    tables_of_cells,
    visible_depthwise,
)
from adnext_plugin.pretraining.masked_autoencoder.sparse.visible_patches import VisiblePatches, whole_volume
from adnext_plugin.pretraining.masks import draw_visible

DEPTHS, WIDTHS = (1, 2, 1, 1), (4, 6, 8, 10)
HALO, SCATTER = ("halo",) * 4, ("scatter",) * 4
MIXED = ("halo", "halo", "scatter", "scatter")


def _encoder(dtype: torch.dtype = torch.float64, **options) -> ADNeXtEncoder:
    torch.manual_seed(0)
    encoder = ADNeXtEncoder(1, DEPTHS, WIDTHS, **options).to(dtype)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder.train()


def _results(
    encode: Callable,
    encoder: ADNeXtEncoder,
    images: torch.Tensor,
    visible: torch.Tensor,
    patches: VisiblePatches | None = None,
) -> dict:
    """Features, and gradients of a random function of those that are visible, by name."""
    encoder.zero_grad()
    images = images.clone().requires_grad_()
    features = encode(encoder, images, patches or VisiblePatches(visible, torch.device("cpu")))
    torch.manual_seed(1)
    keep = visible
    for axis in (1, 2, 3):
        keep = keep.repeat_interleave(features.shape[axis] // visible.shape[axis], dim=axis)
    features = features * keep[..., None]
    (features * torch.randn(features.shape, dtype=torch.float64).to(features.dtype)).sum().backward()
    gradients = {name: parameter.grad.clone() for name, parameter in encoder.named_parameters()}
    return {"features": features.detach(), "images": images.grad, **gradients}


def _assert_close(found: dict, expected: dict, tolerance: float) -> None:
    for name, value in expected.items():
        scale = value.abs().max().clamp(min=1e-30)
        assert ((found[name] - value).abs().max() / scale).item() <= tolerance, name


@pytest.mark.parametrize("ratio", [0.25, 0.6, 0.9])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("ways", [HALO, SCATTER, MIXED])
def test_gathered_equals_masked_dense(ratio: float, batch: int, ways: tuple) -> None:
    encoder, images = _encoder(), torch.randn(batch, 1, 96, 64, 64, dtype=torch.float64)
    visible = draw_visible((3, 2, 2), ratio, [(7, sample) for sample in range(batch)])
    if batch > 1:
        visible[1].flatten()[:3] = True  # samples need not have equally many
    expected = _results(encode_masked_dense, encoder, images, visible)
    _assert_close(_results(partial(encode_gathered, ways=ways), encoder, images, visible), expected, 1e-12)


@pytest.mark.parametrize("options", [{"downsampling": "max"}, {"downsampling": "strided"}, {"kernel_size": 3}])
def test_variants_and_larger_patches_are_exact_too(options: dict) -> None:
    encoder, images = _encoder(**options), torch.randn(2, 1, 128, 64, 64, dtype=torch.float64)
    visible = torch.tensor([True, False, False, True]).view(2, 2, 1, 1)
    expected = _results(encode_masked_dense, encoder, images, visible)
    _assert_close(_results(partial(encode_gathered, ways=MIXED), encoder, images, visible), expected, 1e-12)


def test_both_equal_a_network_over_a_list_of_coordinates() -> None:
    encoder, images = _encoder(), torch.randn(2, 1, 64, 64, 64, dtype=torch.float64)
    images[0, :, :32] = 0  # background is visible like anything else
    visible = draw_visible((2, 2, 2), 0.6, [(3, 0), (3, 1)])
    visible[1, 0, 0, 0] = visible[1, 1, 1, 1] = True

    def by_coordinates(encoder: ADNeXtEncoder, images: torch.Tensor, patches: VisiblePatches) -> torch.Tensor:
        features = torch.zeros(2, 2, 2, 2, WIDTHS[-1], dtype=torch.float64)
        for sample in range(2):
            seen = {tuple(patch) for patch in patches.visible[sample].nonzero().tolist()}
            sites, values = encode_coordinates(encoder, images[sample], seen, 32)
            positions = [torch.tensor(axis) for axis in zip(*sites, strict=True)]
            features = features.index_put((torch.tensor(sample), *positions), values)
        return features

    expected = _results(by_coordinates, encoder, images, visible)
    for encode in (encode_masked_dense, partial(encode_gathered, ways=HALO), partial(encode_gathered, ways=SCATTER)):
        _assert_close(_results(encode, encoder, images, visible), expected, 1e-12)


@pytest.mark.parametrize("backend", ["gathered", "masked_dense"])
def test_with_everything_visible_it_is_the_dense_network(backend: str) -> None:
    encoder, images = _encoder(), torch.randn(2, 1, 64, 96, 64, dtype=torch.float64)
    visible = torch.ones(2, 2, 3, 2, dtype=torch.bool)
    dense = _results(lambda encoder, images, patches: encoder(images), encoder, images, visible)
    _assert_close(_results(encode_with(backend, MIXED), encoder, images, visible), dense, 1e-12)


def test_one_visible_patch_is_as_if_the_rest_were_not_there() -> None:
    encoder, images = _encoder(), torch.randn(1, 1, 96, 96, 96, dtype=torch.float64)
    visible = torch.zeros(1, 3, 3, 3, dtype=torch.bool)
    visible[0, 1, 2, 0] = True
    alone = encoder(images[:, :, 32:64, 64:96, :32])
    for ways in (HALO, SCATTER):
        found = encode_gathered(encoder, images, VisiblePatches(visible, torch.device("cpu")), ways)
        torch.testing.assert_close(found[:, 1:2, 2:3, :1], alone, rtol=1e-12, atol=1e-12)
        assert found.count_nonzero() == alone.count_nonzero()


@pytest.mark.parametrize("builder", [adnext_t, adnext_s, adnext_b])
def test_real_sizes_agree_in_float32(builder: Callable) -> None:
    torch.manual_seed(0)
    encoder = builder(1, 2, drop_path_rate=0.0, init="fan_in").encoder.train()
    for name, parameter in encoder.named_parameters():
        if "activation" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    images, visible = torch.randn(1, 1, 64, 64, 32), draw_visible((2, 2, 1), 0.5, [(0, 0)])
    expected = _results(encode_masked_dense, encoder.double(), images.double(), visible)
    _assert_close(_results(partial(encode_gathered, ways=MIXED), encoder.float(), images, visible), expected, 1e-5)


def test_the_faster_way_is_measured_for_every_stage() -> None:
    visible = draw_visible((2, 2, 2), 0.6, [(0, 0)])
    ways = fastest_ways(_encoder(torch.float32), visible, 32, torch.device("cpu"))
    assert len(ways) == 4 and set(ways) <= {"halo", "scatter"}


def test_a_way_that_computes_otherwise_is_not_used_however_fast(monkeypatch) -> None:
    right = backends.visible_depthwise

    def wrong_by_a_place(patches: VisiblePatches, side: int, kernel_size: int, way: Way) -> VisibleDepthwise:
        depthwise = right(patches, side, kernel_size, way)
        if way == "scatter":
            depthwise._rows = patches.rows_in_volume(side).roll(1)
        return depthwise

    monkeypatch.setattr(backends, "visible_depthwise", wrong_by_a_place)
    monkeypatch.setattr(backends, "_seconds", lambda step, device: 0.0)
    visible = draw_visible((2, 2, 2), 0.6, [(0, 0)])
    with pytest.warns(UserWarning, match=r"'scatter' computes otherwise than 'halo' on this machine \(off by"):
        ways = fastest_ways(_encoder(torch.float32), visible, 32, torch.device("cpu"))
    assert ways == ("halo",) * 4


def test_a_way_whose_kernel_fails_is_left_out_and_other_kernels_are_not_given_up(monkeypatch) -> None:
    right = backends.visible_depthwise

    def fail() -> torch.Tensor:
        raise RuntimeError("no such kernel\nand more")

    def failing(patches: VisiblePatches, side: int, kernel_size: int, way: Way) -> Callable:
        depthwise = right(patches, side, kernel_size, "scatter")
        return depthwise if way == "scatter" else lambda *given: triton_here.or_stock(fail, lambda: depthwise(*given))

    monkeypatch.setattr(triton_here, "_failed", [])
    monkeypatch.setattr(backends, "visible_depthwise", failing)
    monkeypatch.setattr(backends, "ways_on", lambda device: ("scatter", "skip"))
    visible = draw_visible((2, 2, 2), 0.6, [(0, 0)])
    with pytest.warns(UserWarning, match=r"'skip' cannot be used on this machine \(RuntimeError: no such kernel\)"):
        assert fastest_ways(_encoder(torch.float32), visible, 32, torch.device("cpu")) == SCATTER
    assert triton_here.failure() is None


def test_kernels_are_not_asked_for_volumes_whose_values_they_cannot_count(monkeypatch) -> None:
    layer = _encoder(torch.float32).blocks()[0][0].depthwise
    monkeypatch.setattr(layer, "uses_kernels", lambda x: True)  # what is visible is few enough
    patches = VisiblePatches(draw_visible((2, 2, 2), 0.5, [(0, 0)]), torch.device("cpu"))
    scatter = visible_depthwise(patches, 8, 7, "scatter")
    x = torch.empty(patches.count, 8, 8, 8, DEPTHS[0], device="meta")
    for largest, can in ((16**3 * DEPTHS[0], False), (16**3 * DEPTHS[0] + 1, True)):
        monkeypatch.setattr("adnext_plugin.pretraining.masked_autoencoder.sparse.visible_depthwise.LARGEST", largest)
        assert scatter.uses_kernels(layer, x) == can


@pytest.mark.parametrize(
    ("side", "kernel_size", "edge"), [(4, 3, 4), (4, 7, 4), (8, 5, 4), (4, 5, 2), (2, 7, 2), (1, 5, 1), (3, 3, 1)]
)
def test_where_only_the_backward_kernel_fails_pytorch_finds_the_gradients(
    monkeypatch, side: int, kernel_size: int, edge: int
) -> None:
    monkeypatch.setattr(triton_here, "_failed", [])
    monkeypatch.setattr(depthwise_visible, "VALUES_AT_A_TIME", 1 << 12)  # in several pieces
    torch.manual_seed(0)
    visible = draw_visible((2, 3, 2), 0.5, [(0, 0), (0, 1)])
    patches = VisiblePatches(visible, torch.device("cpu"))
    x, grad = torch.randn(2, patches.count, side, side, side, 3).unbind()
    conv = torch.nn.Conv3d(3, 3, kernel_size, padding=kernel_size // 2, groups=3)
    tables = tables_of_cells(patches, side, kernel_size, edge)
    with pytest.warns(UserWarning, match="ADNEXT_KERNELS=stock"):  # there is no GPU that could run it
        grad_x, of_filters = depthwise3d_visible_backward(grad, x, filters_of(conv.weight).detach(), edge, tables)
    rows, size = patches.rows_in_volume(side), (2, *[length * side for length in (2, 3, 2)])
    x, conv = x.double().requires_grad_(), conv.double()
    volume = conv(whole_volume(x.reshape(-1, 3), rows, size).permute(0, 4, 1, 2, 3))
    out = volume.permute(0, 2, 3, 4, 1).reshape(-1, 3)[rows].view(x.shape)
    expected = torch.autograd.grad(out, (x, conv.weight, conv.bias), grad.double())
    found = grad_x, of_filters[:-1].t().reshape(conv.weight.shape), of_filters[-1]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"downsampling": "max"}, {"downsampling": "strided"}])
def test_minkowski_engine_agrees_where_it_is_installed(options: dict) -> None:
    pytest.importorskip("MinkowskiEngine")
    encoder, images = _encoder(**options), torch.randn(3, 1, 64, 64, 96, dtype=torch.float64)
    visible = draw_visible((2, 2, 3), 0.6, [(0, sample) for sample in range(3)])
    visible[1, 0, 0, 0] = True
    patches = VisiblePatches(visible, torch.device("cpu"))
    features = encode_with("minkowski", MIXED)(encoder, images, patches)
    torch.testing.assert_close(features, encode_masked_dense(encoder, images, patches), rtol=1e-12, atol=1e-12)


def test_a_way_chosen_on_a_gpu_has_the_same_result_on_a_cpu() -> None:
    encoder, images = _encoder(), torch.randn(1, 1, 64, 64, 64, dtype=torch.float64)
    visible = draw_visible((2, 2, 2), 0.5, [(1, 2)])
    expected = _results(encode_masked_dense, encoder, images, visible)
    found = _results(partial(encode_gathered, ways=("skip",) * 4), encoder, images, visible)
    _assert_close(found, expected, 1e-12)


@pytest.mark.parametrize("ways", [HALO, SCATTER])
def test_patches_of_known_number_need_no_counting(ways: tuple, monkeypatch) -> None:
    encoder, images = _encoder(), torch.randn(3, 1, 96, 64, 64, dtype=torch.float64)
    visible = draw_visible((3, 2, 2), 0.6, [(7, sample) for sample in range(3)])
    encode = partial(encode_gathered, ways=ways)
    counted = _results(encode, encoder, images, visible)

    def waits(*_: object, **__: object) -> None:
        raise AssertionError("a GPU would be waited for")

    for name in ("nonzero", "cpu", "item", "tolist", "new_tensor"):
        monkeypatch.setattr(torch.Tensor, name, waits)
    monkeypatch.setattr(torch, "tensor", waits)
    found = _results(encode, encoder, images, visible, VisiblePatches(visible, torch.device("cpu"), each=4))
    monkeypatch.undo()
    assert all(torch.equal(found[name], value) for name, value in counted.items())


@pytest.mark.parametrize(("side", "edge", "reach"), [(1, 1, 1), (2, 2, 2), (4, 2, 1), (6, 2, 2), (8, 4, 1)])
def test_the_cells_around_one_are_those_next_door(side: int, edge: int, reach: int) -> None:
    visible = draw_visible((2, 2, 3), 0.5, [(3, sample) for sample in range(2)])
    patches = VisiblePatches(visible, torch.device("cpu"), each=6)
    around = patches.around_cells(side, edge, reach)
    # where each token is, by the table that the volume is filled by
    size = [2, *[cells * side for cells in visible.shape[1:]]]
    token = torch.full((math.prod(size),), -1)
    token[patches.rows_in_volume(side)] = torch.arange(12 * side**3)
    token = token.view(size)
    assert around.dtype == torch.int32 and len(around) == 12 * (side // edge) ** 3
    for one in around:
        (place,) = (token == one[reach, reach, reach]).nonzero().tolist()
        for offset in itertools.product(range(-reach, reach + 1), repeat=3):
            other = [start + edge * step for start, step in zip(place[1:], offset, strict=True)]
            is_inside = all(0 <= at < length for at, length in zip(other, size[1:], strict=True))
            expected = token[place[0], *other] if is_inside else -1
            assert one[tuple(reach + step for step in offset)] == expected


def test_without_minkowski_engine_its_backend_says_so(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "MinkowskiEngine", None)
    monkeypatch.delitem(sys.modules, "adnext_plugin.pretraining.masked_autoencoder.sparse.minkowski", raising=False)
    with pytest.raises(SettingsError, match="needs MinkowskiEngine"):
        encode_with("minkowski", MIXED)
