"""Kernels for GPUs give what PyTorch gives; without a GPU, as Triton's interpreter carries them out."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.library import opcheck
from torch.utils._python_dispatch import TorchDispatchMode

from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.families.adnext import ADNeXtEncoder, build
from adnext_plugin.networks.families.mednext import MedNeXtEncoder
from adnext_plugin.networks.kernels import choice, triton_here
from adnext_plugin.networks.kernels.choice import (
    PYTORCHS,
    Shape,
    fastest,
    fastest_plan,
    fastest_plans,
    layers_by_shape,
    plans_from_json,
    use_plans,
)
from adnext_plugin.networks.kernels.depthwise import (
    CHANNELS_LAST,
    CONTIGUOUS,
    ConvolutionTile,
    DepthwisePlan,
    convolution_tiles,
    convolved,
    default_plan,
    depthwise3d,
    numbers_of,
    summed_weight_gradient,
    weight_tiles,
)
from adnext_plugin.networks.kernels.layer_norm import layer_norm
from adnext_plugin.networks.kernels.response_norm import gelu_response_norm
from adnext_plugin.networks.kernels.triton_here import raising
from adnext_plugin.networks.layers.activation import GeluResponseNorm
from adnext_plugin.networks.layers.depthwise import DepthwiseConv3d, depthwise_as_planned
from adnext_plugin.networks.layers.mednext_blocks import MedNeXtBlocks
from adnext_plugin.networks.layers.norms import ChannelNorm
from adnext_plugin.networks.layers.patch_counts import PatchCounts
from adnext_plugin.networks.layers.stems import PatchStem, patches_through
from adnext_plugin.networks.layers.tokens import mean_of_pairs, to_tokens, to_volume
from adnext_plugin.records import to_json


@pytest.fixture(scope="module")
def errors() -> dict[str, list[float]]:
    """Largest relative errors of an output and of its gradients, by case."""
    if find_spec("triton") is None:
        pytest.skip("Triton comes with PyTorch on Linux only")
    script = Path(__file__).parent / "kernels_interpreted.py"
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=500)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture
def without_triton(monkeypatch) -> None:
    """Operators that answer by PyTorch's own, as after a failure."""
    monkeypatch.setattr("adnext_plugin.networks.kernels.triton_here._failed", ["no Triton"])


@pytest.mark.parametrize(
    "case",
    [
        "k3",
        "k5",
        "k7",
        "k3, small tiles",
        "k3, by planes",
        "k3 of volumes",
        "k3 of volumes, by planes",
        "k3 of volumes, channels last",
        "k3, one token",
        "k3, contiguous",
        "k3, channels last",
        "k3 among visible patches",
        "k5 among visible patches",
        "k5 among visible patches of a token",
        "k3 among visible patches of cells",
        "k3 among visible patches, by planes",
        "k3 among visible patches, by planes of cells",
    ],
)
def test_the_convolution_and_its_gradients_are_those_of_float64(errors: dict, case: str) -> None:
    assert len(errors[case]) == 4 and max(errors[case]) < 1e-6


@pytest.mark.parametrize("case", ["response norm", "response norm of patches", "layer norm"])
def test_norms_and_their_gradients_are_those_of_float64(errors: dict, case: str) -> None:
    assert len(errors[case]) == 4 and max(errors[case]) < 2e-6


@pytest.mark.parametrize("case", ["k3, bfloat16", "response norm, bfloat16", "layer norm, bfloat16"])
def test_in_bfloat16_only_what_is_written_is_rounded(errors: dict, case: str) -> None:
    out, grad_x, grad_weight, grad_bias = errors[case]
    assert 1e-5 < out < 2**-7 and 1e-5 < grad_x < 2**-7  # one step: the interpreter cuts off
    assert max(grad_weight, grad_bias) < 2e-6  # these stay float32


def test_the_weights_gradient_repeats_to_the_bit(errors: dict) -> None:
    assert errors["repeats"] == [0.0]


def test_a_patch_stem_is_one_product_of_matrices() -> None:
    torch.manual_seed(0)
    stem = PatchStem(2, 5).double()
    x = torch.randn(2, 2, 8, 12, 4, dtype=torch.float64)
    torch.testing.assert_close(patches_through(stem.conv, x), to_tokens(stem.conv(x)), rtol=1e-12, atol=1e-12)


def test_the_mean_of_pairs_is_average_pooling() -> None:
    x = torch.randn(2, 4, 6, 2, 3, dtype=torch.float64)
    expected = to_tokens(torch.nn.functional.avg_pool3d(to_volume(x), 2))
    torch.testing.assert_close(mean_of_pairs(x), expected, rtol=1e-12, atol=1e-12)


def test_plans_go_to_the_layers_of_their_size_and_come_back_from_a_checkpoint() -> None:
    network = build((1, 2, 1, 1), (4, 6, 8, 8), 1, 2, (36, 32, 64), kernel_size=3)
    found = layers_by_shape(network, (36, 32, 64))
    assert {str(shape): len(layers) for shape, layers in found.items()} == {
        "9x8x16 tokens, 4 channels, kernel 3": 1,
        "5x4x8 tokens, 6 channels, kernel 3": 2,
        "3x2x4 tokens, 8 channels, kernel 3": 1,
        "2x1x2 tokens, 8 channels, kernel 3": 1,
    }
    tile = ConvolutionTile(tokens=4, schedule=2)
    plan = DepthwisePlan(
        forward=tile, grad_input=CONTIGUOUS, grad_weight=weight_tiles((5, 4, 8), 6, 2, processors=1)[0]
    )
    saved = json.loads(json.dumps({"5x4x8 tokens, 6 channels, kernel 3": to_json(plan)}))
    use_plans(network, (36, 32, 64), plans_from_json(saved, "a checkpoint"))
    assert [layer.plan for layer in _depthwise(network)] == [None, plan.numbers(), plan.numbers(), None, None]
    assert plan.numbers()[:10] == [4, 1, 4, 64, 2, 0, 0, 0, 0, 0] and len(plan.numbers()) == 17
    use_plans(network, (36, 32, 64), {})
    assert all(layer.plan is None for layer in _depthwise(network))


def test_sizes_are_those_that_the_layers_are_given() -> None:
    encoder = ADNeXtEncoder(1, (1, 1, 1, 1), (2, 2, 2, 2), 3)
    given: list[tuple] = []
    for layer in _depthwise(encoder):
        layer.register_forward_hook(lambda _, inputs, __: given.append(tuple(inputs[0].shape[2:])))
    encoder(torch.randn(1, 1, 36, 32, 60))
    assert [shape.size_zyx for shape in layers_by_shape(encoder, (36, 32, 60))] == given


@pytest.mark.parametrize("response_norm", [None, "mean", "sum"])
def test_the_blocks_of_a_mednext_take_plans_and_compute_by_them_what_they_do_without(
    monkeypatch, response_norm
) -> None:
    monkeypatch.setattr(choice, "wanted", lambda: True)
    torch.manual_seed(0)
    blocks = MedNeXtBlocks(kernel_size=5, response_norm=response_norm)
    encoder = MedNeXtEncoder(1, 4, (1, 2, 0), (2, 3, 2), blocks).double().eval()
    given: list[tuple[int, ...]] = []
    for block in (planned := [block for level in encoder.convolutions() for block in level]):
        block.conv.register_forward_hook(lambda conv, inputs, _: given.append((*inputs[0].shape[2:], conv.in_channels)))
        if response_norm is not None:
            nn.init.normal_(block.global_resp_gamma)
            nn.init.normal_(block.global_resp_beta)
    encoder(torch.randn(1, 1, 9, 8, 12, dtype=torch.float64))
    found = layers_by_shape(encoder, (9, 8, 12))
    assert [(*shape.size_zyx, shape.channels) for shape, layers in found.items() for _ in layers] == given
    assert len(given) == 3 and [layer for layers in found.values() for layer in layers] == planned
    stock = DepthwisePlan(forward=CONTIGUOUS, grad_input=CHANNELS_LAST, grad_weight=CONTIGUOUS)
    use_plans(encoder, (9, 8, 12), {str(shape): stock for shape in found})
    block = planned[0].train()
    assert block.plan == stock.numbers()
    x = torch.randn(2, 4, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    results = []
    for out in (block._after_convolution(x, depthwise_as_planned(x, block.conv1, block.plan)), block(x)):
        wanted = (x, *block.parameters())
        results.append((out, torch.autograd.grad(out.square().sum(), wanted)))
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-5)  # filters are float32


def test_a_mednext_does_without_a_plan_where_all_is_pytorchs_own_and_where_kernels_are_not_wanted(monkeypatch) -> None:
    encoder = MedNeXtEncoder(1, 4, (1, 0), (2, 2), MedNeXtBlocks(kernel_size=3))
    (block,) = (block for level in encoder.convolutions() for block in level)
    (shape,) = layers_by_shape(encoder, (8, 8, 8))
    kernels = default_plan((8, 8, 8), 4, 1)
    monkeypatch.setattr(choice, "wanted", lambda: True)
    use_plans(encoder, (8, 8, 8), {str(shape): kernels})
    assert block.plan == kernels.numbers()
    use_plans(encoder, (8, 8, 8), {str(shape): PYTORCHS})
    assert block.plan is None
    monkeypatch.setattr(choice, "wanted", lambda: False)
    use_plans(encoder, (8, 8, 8), {str(shape): kernels})
    assert block.plan is None
    # without a plan, AD-NeXt's are computed by kernels
    network = build((1, 1, 1, 1), (4, 4, 4, 4), 1, 2, (32, 32, 32))
    use_plans(network, (32, 32, 32), {str(shape): PYTORCHS for shape in layers_by_shape(network, (32, 32, 32))})
    assert [layer.plan for layer in _depthwise(network)] == [PYTORCHS.numbers()] * 4


def test_convolutions_of_tokens_and_of_volumes_share_no_plan() -> None:
    tokens = ADNeXtEncoder(1, (1, 1, 1, 1), (8, 8, 8, 8), 3)
    volumes = MedNeXtEncoder(1, 2, (1, 1, 1), (2, 2, 2), MedNeXtBlocks(kernel_size=3))
    found = layers_by_shape(nn.ModuleList([tokens, volumes]), (32, 32, 32))
    alike = [str(shape) for shape in found if shape.size_zyx == (8, 8, 8) and shape.channels == 8]
    assert alike == ["8x8x8 tokens, 8 channels, kernel 3", "8x8x8 voxels, 8 channels, kernel 3"]
    assert sum(map(len, found.values())) == 4 + 3 and len({str(shape) for shape in found}) == len(found)


class _Copies(TorchDispatchMode):
    """Counts copies of tensors of so many values."""

    def __init__(self, values: int) -> None:
        super().__init__()
        self.values, self.count = values, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        is_copy = function in (torch.ops.aten.clone.default, torch.ops.aten.copy_.default)
        self.count += is_copy and found.numel() == self.values
        return found


def test_where_volumes_are_contiguous_pytorchs_own_for_those_copies_nothing() -> None:
    x, filters, tile = to_tokens(torch.randn(2, 4, 3, 5, 6)), torch.randn(3, 3, 3, 4), numbers_of(CONTIGUOUS, 7)
    with _Copies(x.numel()) as copies:
        for flip in (False, True):
            out = convolved(x, filters, None, tile[:5], flip=flip, of_volumes=True)
            assert to_volume(out).is_contiguous()
        summed_weight_gradient(x, x, 3, tile)
    assert copies.count == 0


@pytest.mark.parametrize("of_volumes", [True, False])
def test_ways_to_convolve_are_timed_from_what_a_layer_is_given_to_what_it_gives(timed, monkeypatch, of_volumes) -> None:
    given: list[tuple[torch.Tensor, ...]] = []

    def convolve(x: torch.Tensor, *others, flip: bool, of_volumes: bool) -> torch.Tensor:
        given.append((x,))
        return convolved(x, *others, flip=flip, of_volumes=of_volumes)

    def sum_up(x: torch.Tensor, grad: torch.Tensor, *others) -> torch.Tensor:
        given.append((x, grad))
        return summed_weight_gradient(x, grad, *others)

    monkeypatch.setattr(choice, "convolved", convolve)
    monkeypatch.setattr(choice, "summed_weight_gradient", sum_up)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(multi_processor_count=1))
    shape = Shape(kernel_size=3, channels=4, size_zyx=(3, 5, 6), of_volumes=of_volumes)
    with pytest.warns(UserWarning, match="no kernel in Triton can be used here"):
        assert fastest_plan(shape, 2, torch.bfloat16, torch.device("cpu")) == PYTORCHS
    assert {len(tensors) for tensors in given} == {1, 2}
    for x in (x for tensors in given for x in tensors):
        assert x.shape == (2, 3, 5, 6, 4) and x.dtype == torch.bfloat16
        assert (to_volume(x) if of_volumes else x).is_contiguous()


def test_candidates_fit_what_they_are_for() -> None:
    for size, channels in (
        ((32, 32, 32), 64),
        ((16, 16, 16), 128),
        ((8, 8, 8), 256),
        ((4, 4, 4), 512),
        ((3, 5, 48), 16),
    ):
        tiles = convolution_tiles(size, channels)
        assert len(set(tiles)) == len(tiles) and default_plan(size, channels, 4).forward == tiles[0]
        for tile in (*tiles, *weight_tiles(size, channels, 4, processors=132)):
            assert tile.tokens <= size[2] and tile.channels <= max(64, channels)
            assert tile.channels & (tile.channels - 1) == 0
    by_planes = [tile for tile in weight_tiles((8, 8, 8), 256, 4, processors=132) if tile.by_planes]
    assert [tile.chunks for tile in by_planes] == [32]  # there are no more cells, however many programs a GPU takes
    assert not any(tile.by_planes for tile in weight_tiles((8, 6, 8), 256, 4, processors=132))
    # a small filter has fewer slices, each of which is given to programs: more of them share its work
    chunks = [weight_tiles((64, 64, 64), 64, 4, 132, kernel_size)[0].chunks for kernel_size in (7, 5, 3)]
    assert chunks == [76, 106, 176]


def test_a_kernel_that_cannot_be_started_gives_way_to_pytorch_with_one_warning(monkeypatch) -> None:
    monkeypatch.setattr("adnext_plugin.networks.kernels.triton_here._failed", [])
    x, filters = torch.randn(1, 2, 3, 4, 5), torch.randn(3, 3, 3, 5)
    tile = numbers_of(ConvolutionTile(tokens=4), 5)
    with raising(), pytest.raises(Exception, match=r"."):
        convolved(x, filters, None, tile, flip=False)  # there is no GPU that could run it
    with pytest.warns(UserWarning, match="ADNEXT_KERNELS=stock") as caught:
        found = [convolved(x, filters, None, tile, flip=False) for _ in range(2)]
    assert len(caught) == 1
    expected = convolved(x, filters, None, numbers_of(CONTIGUOUS, 5), flip=False)
    assert torch.equal(found[0], expected) and torch.equal(found[1], expected)


@pytest.mark.parametrize("sizes", [None, (1, 2)])
def test_norms_that_cannot_be_started_give_way_to_pytorch(sizes: tuple | None, without_triton: None) -> None:
    torch.manual_seed(0)
    x, grad = torch.randn(2, 3, 2, 2, 4, 6).unbind()
    x[0, ..., 2] = 0
    x.requires_grad_()
    layer = GeluResponseNorm(6)
    torch.nn.init.normal_(layer.norm.gamma)
    torch.nn.init.normal_(layer.norm.beta)
    weights = (layer.norm.gamma, layer.norm.beta)
    counts = None if sizes is None else PatchCounts.of(sizes, x.device)
    offsets, samples = (None, 3) if counts is None else (counts.offsets, 2)
    ours = gelu_response_norm(x, *weights, offsets, samples, layer.norm.eps)[0], layer.eval()(x, counts)
    for one, other in zip(*[(out, *torch.autograd.grad(out, (x, *weights), grad)) for out in ours], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)
    norm = ChannelNorm(6)
    both = layer_norm(x, norm.weight, norm.bias, norm.eps, torch.float32)[0], norm(x)
    inputs = (x, *norm.parameters())
    for one, other in zip(*[(out, *torch.autograd.grad(out, inputs, grad)) for out in both], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_operators_say_of_what_shape_and_kind_their_results_are(without_triton: None) -> None:
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    x = torch.randn(2, 2, 3, 4, 6, requires_grad=True)
    weights = [torch.randn(6, requires_grad=True) for _ in range(2)]
    filters = torch.randn(3, 3, 3, 6, requires_grad=True)
    plan = default_plan((2, 3, 4), 6, 2).numbers()
    opcheck(depthwise3d, (x, filters, weights[0], plan), test_utils=checks)
    opcheck(depthwise3d, (x, filters, None, plan), test_utils=checks)
    volume = torch.randn(2, 6, 2, 3, 4, requires_grad=True)
    opcheck(depthwise3d, (to_tokens(volume), filters, weights[0], plan, True), test_utils=checks)
    opcheck(gelu_response_norm, (x, *weights, None, 2, 1e-6), test_utils=checks)
    opcheck(layer_norm, (x, *weights, 1e-6, torch.bfloat16), test_utils=checks)


def test_a_compiled_block_stays_one_graph_under_autocast(errors: dict) -> None:
    assert errors["compiled"] == [0.0, 0.0]


@pytest.fixture
def timed(monkeypatch) -> None:
    """Kernels take no time, PyTorch's own any."""
    monkeypatch.setattr(choice, "_milliseconds", lambda run, tile, to_beat: float(isinstance(tile, str)))


def test_where_nothing_can_be_measured_it_is_pytorchs_own() -> None:
    def refuse(tile: object) -> torch.Tensor:
        raise RuntimeError("no such kernel")

    with pytest.warns(UserWarning, match="no such kernel"):
        assert fastest(refuse, [ConvolutionTile(tokens=4)]) == CONTIGUOUS


@pytest.mark.parametrize("wrong", [1.5, float("nan")])
def test_a_kernel_that_computes_otherwise_is_not_used_however_fast(timed: None, wrong: float) -> None:
    tiles = [ConvolutionTile(tokens=4), ConvolutionTile(tokens=8)]

    def run(tile: object) -> torch.Tensor:
        return torch.tensor([1.0, -2.0]) * (wrong if tile == tiles[0] else 1.01)

    with pytest.warns(UserWarning, match=r"1 of 2 kernels in Triton compute otherwise .*tokens=4.* off by"):
        assert fastest(run, tiles) == tiles[1]
    with pytest.warns(UserWarning, match=r"1 of 1 kernels"):
        assert fastest(run, tiles[:1]) == CONTIGUOUS


def test_a_cpu_has_nothing_to_choose() -> None:
    network = build((1, 1, 1, 1), (4, 4, 4, 4), 1, 2, (32, 32, 32))
    assert fastest_plans(network, (32, 32, 32), 2, torch.float32, torch.device("cpu")) == {}


@pytest.fixture
def one_gpu(monkeypatch) -> list[str]:
    """As if there were a GPU on which kernels may be measured; says when memory was given back."""
    freed: list[str] = []
    monkeypatch.delenv("ADNEXT_KERNELS", raising=False)
    monkeypatch.setattr(choice, "wanted", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append("all"))
    return freed


@pytest.mark.parametrize("family", ["adnext", "mednext"])
def test_what_there_is_too_little_memory_to_measure_is_computed_as_without_a_choice(
    monkeypatch, one_gpu, family: str
) -> None:
    if family == "adnext":
        network, instead = build((1, 1, 1, 1), (4, 4, 4, 4), 1, 2, (32, 32, 32)), "kernels with the usual tiles"
        first = "8x8x8 tokens, 4 channels, kernel 7"
    else:
        network, instead = MedNeXtEncoder(1, 4, (1, 1), (2, 2), MedNeXtBlocks(kernel_size=3)), "PyTorch"
        first = "32x32x32 voxels, 4 channels, kernel 3"

    def measure(shape: Shape, *_) -> DepthwisePlan:
        if str(shape) == first:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return default_plan(shape.size_zyx, shape.channels, 2)

    monkeypatch.setattr(choice, "fastest_plan", measure)
    shapes = layers_by_shape(network, (32, 32, 32))
    with pytest.warns(UserWarning, match=f"cuda:1 has too little memory .* {first}, 2 at a time; .* by {instead}$"):
        found = fastest_plans(network, (32, 32, 32), 2, torch.float32, torch.device("cuda", 1))
    assert list(found) == [str(shape) for shape in shapes][1:] and len(one_gpu) == len(shapes)
    use_plans(network, (32, 32, 32), found)
    assert [layer.plan is None for layers in shapes.values() for layer in layers] == [True, *[False] * len(found)]


def test_kernels_are_not_measured_where_they_cannot_count_the_values(monkeypatch, one_gpu) -> None:
    network = build((1, 1, 1, 1), (4, 4, 4, 4), 1, 2, (32, 32, 32))
    asked: list[tuple[int, ...]] = []

    def measure(shape: Shape, *_) -> DepthwisePlan:
        asked.append(shape.size_zyx)
        return default_plan(shape.size_zyx, shape.channels, 1)

    monkeypatch.setattr(choice, "fastest_plan", measure)
    fastest_plans(network, (32, 32, 32), 2**31 // (8**3 * 4), torch.float32, torch.device("cuda"))
    assert asked == [(4, 4, 4), (2, 2, 2), (1, 1, 1)]


def test_nothing_is_measured_in_more_than_the_runs_precision(timed, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(multi_processor_count=1))
    shape = Shape(kernel_size=3, channels=4, size_zyx=(3, 5, 6), of_volumes=True)
    with _Made() as made, pytest.warns(UserWarning, match="no kernel in Triton can be used here"):
        fastest_plan(shape, 2, torch.bfloat16, torch.device("cpu"))
    assert made.largest[torch.bfloat16] == 2 * 4 * 3 * 5 * 6  # x and its gradient each by itself
    assert made.largest[torch.float32] < 2 * 4 * 3 * 5 * 6


class _Made(TorchDispatchMode):
    """The most values of a tensor, by precision."""

    def __init__(self) -> None:
        super().__init__()
        self.largest: dict[torch.dtype, int] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        found = function(*args, **(kwargs or {}))
        if isinstance(found, torch.Tensor):
            self.largest[found.dtype] = max(found.numel(), self.largest.get(found.dtype, 0))
        return found


def test_the_switch_knows_its_values(monkeypatch) -> None:
    monkeypatch.setenv("ADNEXT_KERNELS", "fast")
    with pytest.raises(SettingsError, match="auto, triton, stock"):
        DepthwiseConv3d(4, 3)


@pytest.fixture
def anew() -> Iterator[None]:
    """What is found out about Triton once, is found out again."""
    triton_here._can_compile.cache_clear()
    yield
    triton_here._can_compile.cache_clear()


@pytest.mark.parametrize("found", ["3.1.0", "3.3.1+git12345"])
def test_a_triton_that_is_too_old_is_not_asked_for_kernels_and_one_line_says_so(monkeypatch, anew, found: str) -> None:
    monkeypatch.delenv("ADNEXT_KERNELS", raising=False)
    monkeypatch.setattr(triton_here, "find_spec", lambda name: object())
    monkeypatch.setattr(triton_here, "version", lambda name: found)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.warns(UserWarning, match=r"Triton 3\.[13]\..* too old .* 2\.8 comes with Triton 3\.4") as caught:
        assert not any(DepthwiseConv3d(4, 3)._kernels_wanted for _ in range(3))
    assert len(caught) == 1


@pytest.mark.parametrize("found", ["3.4.0", "3.10.1", "4.0"])
def test_a_triton_that_compiles_the_kernels_is_asked_for_them(monkeypatch, anew, found: str) -> None:
    monkeypatch.delenv("ADNEXT_KERNELS", raising=False)
    monkeypatch.setattr(triton_here, "find_spec", lambda name: object())
    monkeypatch.setattr(triton_here, "version", lambda name: found)
    assert triton_here.wanted()


def test_kernels_by_cells_are_read_by_a_triton_that_has_functions_of_constants_in_its_language(monkeypatch) -> None:
    triton = pytest.importorskip("triton")
    monkeypatch.setattr("triton.language.constexpr_function", triton.constexpr_function, raising=False)
    monkeypatch.delattr("triton.constexpr_function")
    spec = importlib.util.find_spec("adnext_plugin.networks.kernels.depthwise_cells_triton")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module._is_in(2, 3) and module._larger(1, 2) == 2


def _depthwise(network: torch.nn.Module) -> list[DepthwiseConv3d]:
    return [module for module in network.modules() if isinstance(module, DepthwiseConv3d)]
