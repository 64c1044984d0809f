"""What 16 bits make of networks and of their response norms: near float32, and finite where squares are not."""

from contextlib import nullcontext

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torchvision.ops import StochasticDepth

from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.kernels.response_norm import gelu_response_norm, gelu_response_norm_backward
from adnext_plugin.networks.layers.mednext_blocks import MedNeXtBlocks
from adnext_plugin.networks.layers.norms import GlobalResponseNorm
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.registry import NETWORKS, module_of, registered_names

HALVES = [torch.bfloat16, torch.float16]
LARGE = 300.0  # whose square no float16 holds
OURS = [name for name in registered_names(NETWORKS) if module_of(NETWORKS, name).startswith("adnext_plugin.")]
SMALLEST = {"liu_cnn": 71, "polimi_cnn": 87, "resenc_l": 64, "mednext": 17, "resnet": 16}  # others take 32
SCALE = 32  # of the loss, so that small gradients are not 0; training halves its own until none overflows
ATEN = torch.ops.aten


class ProductsOfHalves(TorchDispatchMode):
    """Products of 16 bits as a GPU has them: of rounded numbers, summed up in float32, and the sum is rounded.

    A CPU without convolutions of 16 bits takes minutes for what is a second in float32.
    """

    PRODUCTS = frozenset(
        {
            ATEN.convolution,
            ATEN.convolution_backward,
            ATEN.mm,
            ATEN.addmm,
            ATEN.bmm,
            ATEN.baddbmm,
        }  # what autocast rounds
    )

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        halves = [value.dtype for value in args if isinstance(value, torch.Tensor) and value.dtype in HALVES]
        if not halves or func.overloadpacket not in self.PRODUCTS:
            return func(*args, **(kwargs or {}))
        found = func(*tree_map_only(torch.Tensor, torch.Tensor.float, args), **(kwargs or {}))
        return tree_map_only(torch.Tensor, lambda value: value.to(halves[0]), found)


@pytest.mark.parametrize("half", HALVES)
def test_products_of_halves_are_those_of_pytorch_and_overflow_as_they_do(half: torch.dtype) -> None:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv3d(2, 4, 3), nn.Flatten(), nn.Linear(32, 3))
    scans = torch.randn(2, 2, 4, 4, 4)
    found = []
    for mode in (nullcontext(), ProductsOfHalves()):
        layers.zero_grad()
        with mode:
            with torch.autocast("cpu", dtype=half):
                out = layers(scans)
            out.sum().backward()
        found.append([out.detach(), *(weight.grad for weight in layers.parameters())])
    assert found[0][0].dtype == half
    torch.testing.assert_close(found[1], found[0], rtol=8 * torch.finfo(half).eps, atol=4 * torch.finfo(half).eps)
    with ProductsOfHalves():
        square = torch.full((1, 1), LARGE).half() @ torch.full((1, 1), LARGE).half()
    assert square.isinf()


def _without_chance(network: nn.Module) -> nn.Module:
    """In training, but every pass computes the same: nothing is dropped, and batch norm is of what was seen."""
    for module in network.train().modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
        elif isinstance(module, nn.Dropout | StochasticDepth):
            module.p = 0.0
    return network


def _logits_and_terms(network: nn.Module, scans: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Logits, and the root of the squares that the last layer adds up for one: terms that are off by a share each, by
    chance, are off by so much of it in all, also where they cancel out."""
    last = [module for module in network.modules() if isinstance(getattr(module, "weight", None), nn.Parameter)][-1]
    seen: list[torch.Tensor] = []
    hook = last.register_forward_hook(lambda _, given, found: seen.append(given[0].detach().flatten(1)))
    logits = network(scans)
    hook.remove()
    squares = seen[0].square() @ last.weight.detach().flatten(1).square().T
    return logits, float(squares.max().sqrt())


def _gradient(network: nn.Module, loss: torch.Tensor) -> torch.Tensor:
    network.zero_grad()
    (loss * SCALE).backward()
    return torch.cat([weight.grad.flatten() for weight in network.parameters()])


@pytest.mark.parametrize("name", OURS)
def test_a_network_in_16_bits_answers_and_learns_as_in_float32(name: str) -> None:
    torch.manual_seed(0)
    size = next((size for family, size in SMALLEST.items() if name.startswith(family)), 32)
    network = _without_chance(build_network(NetworkSettings(name=name), 1, 2, (size, size, size)))
    for key, weight in network.named_parameters():
        if key.endswith("gamma"):  # which start at 0, and so would hide what response norms are
            nn.init.normal_(weight)
    scans, target = torch.randn(1, 1, size, size, size), torch.tensor([1])
    exact, terms = _logits_and_terms(network, scans)
    # each layer rounds a few times, independently of the others, so that errors grow with their root
    layers = sum(1 for layer in network.modules() if not list(layer.children()))
    largest = {half: 3 * torch.finfo(half).eps * layers**0.5 * terms for half in HALVES}
    wanted = _gradient(network, F.cross_entropy(exact, target))

    with ProductsOfHalves():
        with torch.autocast("cpu", dtype=torch.float16):
            in_float16 = network(scans)
        found = _gradient(network, F.cross_entropy(in_float16, target))
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            in_bfloat16 = network.eval()(scans)
    for half, logits in ((torch.float16, in_float16), (torch.bfloat16, in_bfloat16)):
        assert logits.dtype == torch.float32
        assert float((logits - exact).detach().abs().max()) < largest[half], half
    # fresh networks with norms over the few voxels that are left of the smallest scan amplify what is rounded
    assert float((found - wanted).norm()) < 0.5 * float(wanted.norm())


def _tokens(half: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return (LARGE * (1 + 0.1 * torch.randn(2, 3, 4, 5, 8, generator=generator))).to(half)


def _normalised(tokens: torch.Tensor, gamma: torch.Tensor, beta: torch.Tensor) -> torch.Tensor:
    norm = tokens.square().sum(dim=(1, 2, 3), keepdim=True).sqrt()
    return gamma * tokens * norm / (norm.mean(dim=-1, keepdim=True) + 1e-6) + beta + tokens


@pytest.mark.parametrize("half", HALVES)
def test_a_response_norm_sums_squares_that_16_bits_cannot_hold(half: torch.dtype) -> None:
    tokens, (gamma, beta) = _tokens(half), torch.randn(2, 8, generator=torch.Generator().manual_seed(1)) / 4
    norm = GlobalResponseNorm(8)
    norm.gamma.data, norm.beta.data = gamma, beta
    given = tokens.clone().requires_grad_()
    with torch.autocast("cpu", dtype=half):
        found = norm(given)
    exact = tokens.double().requires_grad_()
    expected = _normalised(exact, gamma.double(), beta.double())
    torch.testing.assert_close(found.double(), expected, rtol=4 * torch.finfo(half).eps, atol=0)
    found.float().mean().backward()
    expected.mean().backward()
    torch.testing.assert_close(given.grad.double(), exact.grad, rtol=0.05, atol=float(exact.grad.abs().max()) / 50)


@pytest.mark.parametrize("half", HALVES)
def test_the_operator_of_gelu_and_response_norm_sums_in_float32(half: torch.dtype) -> None:
    tokens, (gamma, beta) = _tokens(half), torch.randn(2, 8, generator=torch.Generator().manual_seed(1)) / 4
    found, norm = gelu_response_norm(tokens, gamma, beta, None, len(tokens), 1e-6)
    exact = tokens.double().requires_grad_()
    wide = gamma.double().requires_grad_(), beta.double().requires_grad_()
    expected = _normalised(F.gelu(exact), *wide)
    rtol = 4 * torch.finfo(half).eps
    assert (found.dtype, norm.dtype) == (half, torch.float32)
    torch.testing.assert_close(norm.double(), F.gelu(exact).square().sum(dim=(1, 2, 3)).sqrt(), rtol=1e-5, atol=0)
    torch.testing.assert_close(found.double(), expected, rtol=rtol, atol=0)
    expected.sum().backward()
    given = torch.ones_like(tokens)
    grad_tokens, grad_weights = gelu_response_norm_backward(given, tokens, gamma, norm, None, 1e-6)
    torch.testing.assert_close(grad_tokens.double(), exact.grad, rtol=rtol, atol=rtol)
    torch.testing.assert_close(grad_weights.double(), torch.stack([one.grad for one in wide]), rtol=1e-4, atol=0)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("normaliser", ["mean", "sum"])
def test_the_response_norm_of_mednext_sums_squares_that_16_bits_cannot_hold(normaliser, half: torch.dtype) -> None:
    torch.manual_seed(0)
    block = MedNeXtBlocks(kernel_size=3, response_norm=normaliser).level(4, 1, 2)[0].eval()
    with torch.no_grad():
        block.conv2.weight *= LARGE
        block.conv3.weight /= LARGE
        nn.init.normal_(block.global_resp_gamma)
    inside: list[torch.Tensor] = []
    block.act.register_forward_hook(lambda _, inputs, output: inside.append(output))
    scans = torch.randn(1, 4, 8, 8, 8)
    exact = block(scans)
    with torch.autocast("cpu", dtype=half):
        found = block(scans)
    assert inside[1].dtype == half and float(inside[0].abs().max()) > LARGE
    largest = 8 * torch.finfo(half).eps * float(exact.detach().abs().max())
    torch.testing.assert_close(found.float(), exact, rtol=0, atol=largest)
    found.float().mean().backward()
    assert all(weight.grad.isfinite().all() for weight in block.parameters())
