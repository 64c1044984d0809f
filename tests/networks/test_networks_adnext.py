"""AD-NeXt against the paper's counts, a plain implementation from PyTorch's modules, and its own promises."""

import sys
from pathlib import Path

import pytest
import torch
from ptflops import get_model_complexity_info
from torch import nn

from adnext_plugin.errors import SettingsError, UnknownNameError
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.families.adnext import ClassificationHead, adnext_b, adnext_l, adnext_s, adnext_t, build
from adnext_plugin.networks.layers import activation, pieces
from adnext_plugin.networks.layers.depthwise import DepthwiseConv3d
from adnext_plugin.networks.layers.norms import GlobalResponseNorm
from adnext_plugin.networks.layers.patch_counts import PatchCounts
from adnext_plugin.plan import NetworkSettings

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from stock_adnext import StockADNeXt

DEPTHS, WIDTHS = (1, 2, 1, 1), (4, 8, 12, 16)


def _parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("builder", "two_classes", "three_classes", "macs"),
    [
        (adnext_t, 756_242, 756_371, 902_029_698),
        (adnext_s, 3_715_138, 3_715_395, 3_630_433_026),
        (adnext_b, 24_358_530, 24_359_043, 16_789_538_306),
        (adnext_l, 71_248_130, 71_248_643, 57_401_148_930),
    ],
)
def test_parameters_and_multiply_adds_are_the_papers(builder, two_classes: int, three_classes: int, macs: int) -> None:
    network = builder(1, 2)
    assert _parameters(network) == two_classes
    assert _parameters(builder(1, 3)) == three_classes
    counted, _ = get_model_complexity_info(
        network, (1, 128, 128, 128), as_strings=False, print_per_layer_stat=False, backend="pytorch"
    )
    assert counted == macs


@pytest.mark.parametrize(
    ("options", "millions"),
    [
        ({"downsampling": "strided"}, (0.83, 4.02, 25.56)),
        ({"kernel_size": 3}, (0.52, 3.02, 21.51)),
        ({"downsampling": "max"}, (0.76, 3.72, 24.36)),
    ],
)
def test_variants_have_the_sizes_known_for_them(options: dict, millions: tuple[float, ...]) -> None:
    found = [round(_parameters(builder(1, 2, **options)) / 1e6, 2) for builder in (adnext_t, adnext_s, adnext_b)]
    assert tuple(found) == millions


@pytest.mark.parametrize("downsampling", ["avg", "max", "strided"])
@pytest.mark.parametrize("kernel_size", [3, 7])
def test_outputs_and_gradients_equal_those_of_pytorchs_own_modules(downsampling: str, kernel_size: int) -> None:
    torch.manual_seed(0)
    ours = build(
        DEPTHS,
        WIDTHS,
        1,
        2,
        (64, 32, 32),
        kernel_size=kernel_size,
        downsampling=downsampling,
        drop_path_rate=0.0,
        init="fan_in",
    ).double()
    for name, parameter in ours.named_parameters():
        if "gamma" in name or "beta" in name:  # zero at the start, which would hide what they multiply
            nn.init.normal_(parameter)
    stock = StockADNeXt(DEPTHS, WIDTHS, kernel_size=kernel_size, downsampling=downsampling).double()
    stock.load_state_dict(ours.state_dict())
    x = torch.randn(2, 1, 64, 32, 32, dtype=torch.float64)
    for training in (True, False):
        for network in (ours, stock):
            network.train(training).zero_grad()
            (network(x) * torch.tensor([1.0, -2.0])).sum().backward()
        torch.testing.assert_close(ours(x), stock(x), rtol=1e-10, atol=1e-10)
        expected = dict(stock.named_parameters())
        for name, parameter in ours.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[name].grad, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kernel_size", [3, 5, 7])
def test_the_depthwise_gradient_is_the_gradient(kernel_size: int) -> None:
    torch.manual_seed(0)
    layer = DepthwiseConv3d(3, kernel_size).double().train()
    x = torch.randn(2, 3, 5, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda *_: layer(x), (x, *layer.parameters()), fast_mode=True)


@pytest.mark.parametrize("channels_last", [True, False])
def test_the_depthwise_layer_equals_conv3d_to_rounding_in_float32(channels_last: bool) -> None:
    torch.manual_seed(0)
    layer = DepthwiseConv3d(16, 7).train()
    x = torch.randn(3, 16, 12, 9, 10)
    x = x.to(memory_format=torch.channels_last_3d) if channels_last else x
    ours, stock = x.clone().requires_grad_(), x.clone().requires_grad_()
    weight = torch.randn(3, 16, 12, 9, 10)
    (layer(ours) * weight).sum().backward()
    found = [ours.grad, layer.conv.weight.grad.clone(), layer.conv.bias.grad.clone()]
    layer.zero_grad()
    (layer.conv(stock) * weight).sum().backward()
    for one, other in zip(found, [stock.grad, layer.conv.weight.grad, layer.conv.bias.grad], strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()


@pytest.mark.parametrize("axes", [(1, 2, 3), (3, 1, 2), (2, 1, 3)])
def test_response_norm_follows_its_formula_and_treats_spatial_axes_alike(axes: tuple[int, int, int]) -> None:
    torch.manual_seed(0)
    norm = GlobalResponseNorm(8).double()
    nn.init.normal_(norm.gamma)
    nn.init.normal_(norm.beta)
    x = torch.randn(2, 3, 4, 5, 8, dtype=torch.float64)
    length = (x**2).sum(dim=(1, 2, 3), keepdim=True).sqrt()
    expected = norm.gamma * (x * (length / (length.mean(dim=-1, keepdim=True) + 1e-6))) + norm.beta + x
    torch.testing.assert_close(norm(x), expected)
    torch.testing.assert_close(norm(x.permute(0, *axes, 4)), expected.permute(0, *axes, 4))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_fused_activation_equals_its_two_modules_however_it_is_cut(dtype: torch.dtype, rows: int, monkeypatch) -> None:
    torch.manual_seed(0)
    layer = activation.GeluResponseNorm(6).to(dtype)
    nn.init.normal_(layer.norm.gamma)
    nn.init.normal_(layer.norm.beta)
    monkeypatch.setattr(pieces, "PIECE_BYTES", rows * 6 * torch.finfo(dtype).bits // 8)
    x, weight = torch.randn(3, 5, 4, 3, 6, dtype=dtype), torch.randn(3, 5, 4, 3, 6, dtype=dtype)
    x[1, ..., 2] = 0  # silent in one subject
    outputs = []
    for forward in (layer, lambda tokens: layer.norm(layer.gelu(tokens))):
        layer.zero_grad()
        tokens = x.clone().requires_grad_()
        out = forward(tokens)
        (out * weight).sum().backward()
        outputs.append((out, tokens.grad, layer.norm.gamma.grad, layer.norm.beta.grad))
    close = {"rtol": 1e-12, "atol": 1e-12} if dtype is torch.float64 else {"rtol": 1e-5, "atol": 1e-5}
    for fused, plain in zip(*outputs, strict=True):
        torch.testing.assert_close(fused, plain, **close)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("rows", "width_out", "folds"), [(7, 5, True), (1000, 59, True), (1000, 60, False)])
@pytest.mark.parametrize("per_sample", [None, (1, 2)])
def test_response_and_linear_layer_as_one_step_equal_their_modules(
    dtype: torch.dtype, rows: int, width_out: int, folds: bool, per_sample: tuple[int, ...] | None, monkeypatch
) -> None:
    torch.manual_seed(0)
    layer, linear = activation.GeluResponseNorm(6).to(dtype), nn.Linear(6, width_out, dtype=dtype)
    nn.init.normal_(layer.norm.gamma)
    nn.init.normal_(layer.norm.beta)
    monkeypatch.setattr(pieces, "PIECE_BYTES", rows * 6 * torch.finfo(dtype).bits // 8)
    x = torch.randn(3, 5, 4, 3, 6, dtype=dtype)  # 60 tokens a sample, 90 where two samples share three patches
    x[1, ..., 2] = 0  # silent in one subject
    patches = None if per_sample is None else PatchCounts.of(per_sample, torch.device("cpu"))
    weight = torch.randn(3, 5, 4, 3, width_out, dtype=dtype)
    outputs = []
    for forward in (layer.then, lambda linear, x, patches: linear(layer.norm(layer.gelu(x), patches))):
        layer.zero_grad()
        linear.zero_grad()
        tokens = x.clone().requires_grad_()
        out = forward(linear, tokens, patches)
        (out * weight).sum().backward()
        outputs.append((out, tokens.grad, *[one.grad for one in (*layer.parameters(), *linear.parameters())]))
    close = {"rtol": 1e-12, "atol": 1e-11} if dtype is torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    for one_step, modules in zip(*outputs, strict=True):
        torch.testing.assert_close(one_step, modules, **close)
    is_folded = ["FoldedResponse" in out.grad_fn.name() for out, *_ in outputs]
    assert is_folded == [folds or per_sample is not None, False]


def test_response_norm_of_a_silent_channel_has_a_finite_gradient() -> None:
    norm = GlobalResponseNorm(2)
    x = torch.zeros(1, 2, 2, 2, 2, requires_grad=True)
    norm(x).sum().backward()
    assert torch.isfinite(x.grad).all() and torch.isfinite(norm.gamma.grad).all()


def test_an_odd_axis_keeps_its_last_plane() -> None:
    network = build(DEPTHS, WIDTHS, 1, 2, (36, 32, 32), init="fan_in").eval()
    x = torch.zeros(1, 1, 36, 32, 32)
    marked = x.clone()
    marked[:, :, -4:] = 5.0
    assert not torch.allclose(network(x), network(marked))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 4}, "choose from 3, 5, 7"),
        ({"downsampling": "mean"}, "choose from avg, max, strided"),
        ({"drop_path_rate": 1.0}, "drop_path_rate"),
        ({"stem": "conv"}, "choose from patch, convolutional"),
        ({"mirror": "yes"}, "choose from False, True"),
        ({"input_size_voxels": (30, 32, 32)}, "at least 32"),
        ({"input_size_voxels": (48, 32, 32), "downsampling": "strided"}, "a multiple of 32"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        adnext_t(1, 2, **options)


def test_misspelt_networks_and_options_are_met_with_the_nearest_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'adnext_t'"):
        build_network(NetworkSettings(name="adnxt_t"), 1, 2, (32, 32, 32))
    with pytest.raises(SettingsError, match="did you mean 'kernel_size'"):
        build_network(NetworkSettings(name="adnext_t", options={"kernel": 3}), 1, 2, (32, 32, 32))


def test_batch_norm_in_the_head_leaves_parameters_and_encoder_as_they_are() -> None:
    torch.manual_seed(0)
    paper, small = (adnext_t(1, 2, (32, 32, 32), head_norm=norm) for norm in ("layer", "batch"))
    shapes = [{name: tensor.shape for name, tensor in network.named_parameters()} for network in (paper, small)]
    assert shapes[0] == shapes[1] and sum(tensor.numel() for tensor in small.parameters()) == 756_242
    assert list(paper.encoder.state_dict()) == list(small.encoder.state_dict())


def test_the_convolutional_stem_gives_the_same_grid_of_tokens_and_only_the_stem_differs() -> None:
    networks = [adnext_t(1, 2, (32, 40, 36), stem=stem).eval() for stem in ("patch", "convolutional")]
    scan = torch.randn(2, 1, 32, 40, 36)
    grids = [network.encoder.stem(scan) for network in networks]
    assert grids[0].shape == grids[1].shape == (2, 8, 10, 9, 16)
    names = [{name for name in network.state_dict() if "encoder.stem" not in name} for network in networks]
    assert names[0] == names[1]
    # 27·16 + 16, 27·16·16 + 16 and two norms instead of 4³·16 + 16 and one
    sizes = [sum(tensor.numel() for tensor in network.parameters()) for network in networks]
    assert sizes == [756_242, 756_242 - 1_072 + 7_440]


def test_tokens_of_the_convolutional_stem_see_across_the_edges_of_patches() -> None:
    torch.manual_seed(0)
    scan = torch.randn(1, 1, 32, 32, 32)
    moved = scan.clone()
    moved[..., 16] += 1  # the first plane of the fifth token along x
    for stem, seen_by in (("patch", [4]), ("convolutional", [3, 4])):
        network = adnext_t(1, 2, (32, 32, 32), stem=stem).eval()
        change = (network.encoder.stem(moved) - network.encoder.stem(scan)).abs().amax(dim=(0, 1, 2, 4))
        assert change.nonzero().flatten().tolist() == seen_by


def test_a_mirroring_network_scores_a_scan_and_its_mirror_image_the_same_and_trains_on_the_scan_alone() -> None:
    torch.manual_seed(0)
    plain, mirroring = (adnext_t(1, 2, (32, 32, 32), mirror=mirror, drop_path_rate=0.0) for mirror in (False, True))
    mirroring.load_state_dict(plain.state_dict())
    scan = torch.randn(2, 1, 32, 32, 32)
    assert torch.equal(plain.train()(scan), mirroring.train()(scan))
    plain.eval(), mirroring.eval()
    torch.testing.assert_close(mirroring(scan), mirroring(scan.flip(-1)))
    torch.testing.assert_close(mirroring(scan), (plain(scan) + plain(scan.flip(-1))) / 2)
    assert not torch.allclose(plain(scan), plain(scan.flip(-1)))


def test_batch_norm_in_the_head_takes_away_what_all_scans_share() -> None:
    torch.manual_seed(0)
    head_of_layer, head_of_batch = (ClassificationHead(64, 2, norm) for norm in ("layer", "batch"))
    everybodys = torch.randn(64)
    tokens = everybodys + 0.05 * torch.randn(16, 1, 1, 1, 64)
    layer, batch = (head.seg_layers[0](tokens.mean(dim=(1, 2, 3))) for head in (head_of_layer, head_of_batch))
    own, shared = layer.var(dim=0).mean(), layer.mean(dim=0).square().mean()
    assert own < 0.01 * shared
    own, shared = batch.var(dim=0).mean(), batch.mean(dim=0).square().mean()
    assert own > 100 * shared
