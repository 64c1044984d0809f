"""What 16 bits make of networks and of their response norms: near float32, and finite where squares are not."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.kernels.response_norm import gelu_response_norm, gelu_response_norm_backward
from adnext_plugin.networks.layers.mednext_blocks import MedNeXtBlocks
from adnext_plugin.networks.layers.norms import GlobalResponseNorm
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.registry import NETWORKS, module_of, registered_names

HALVES = [torch.bfloat16, torch.float16]
SIZE = 32
SMALLEST = ["adnext_t", "linear", "vit_small_mim"]
# a CPU that has no convolutions of 16 bits takes minutes; MedNeXt's block is looked at by itself
TOO_SLOW = {"densenet", "liu", "mednext", "minit", "resnet", "swin3d", "swin_unetr", "unet"}
LARGE = 300.0  # whose square no float16 holds


def test_every_family_of_networks_is_looked_at() -> None:
    ours = {name: module_of(NETWORKS, name) for name in registered_names(NETWORKS)}
    families = {name: module.rpartition(".")[2] for name, module in ours.items() if module.startswith("adnext_plugin.")}
    assert {families[name] for name in SMALLEST} | TOO_SLOW == set(families.values())


def _layers(network: nn.Module) -> int:
    return sum(1 for layer in network.modules() if not list(layer.children()))


@pytest.mark.parametrize("name", SMALLEST)
def test_a_network_in_16_bits_answers_as_in_float32_and_its_gradients_are_finite(name: str) -> None:
    torch.manual_seed(0)
    network = build_network(NetworkSettings(name=name), 1, 2, (SIZE, SIZE, SIZE)).eval()
    scans, targets = torch.randn(2, 1, SIZE, SIZE, SIZE), torch.tensor([0, 1])
    with torch.no_grad():
        exact = network(scans)
    for half in HALVES:
        network.zero_grad()
        with torch.autocast("cpu", dtype=half):
            logits = network(scans)
        assert logits.dtype == torch.float32
        # each layer rounds once or twice, independently of the others, so that errors grow with their root
        largest = 2 * torch.finfo(half).eps * _layers(network) ** 0.5 * float(exact.abs().max())
        assert float((logits.detach() - exact).abs().max()) < largest, half
        # float16 is trained with a factor, without which small gradients are 0
        (F.cross_entropy(logits, targets) * 1024).backward()
        gradients = {key: weight.grad for key, weight in network.named_parameters()}
        assert [key for key, gradient in gradients.items() if not gradient.isfinite().all()] == []
        assert sum(float(gradient.abs().sum()) for gradient in gradients.values()) > 0


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
