"""What training on a CPU computes in pieces, or of channels-last tokens, is what the modules compute."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adnext_plugin.networks.families.mednext import MedNeXtEncoder
from adnext_plugin.networks.layers import depthwise_on_cpu, mednext_blocks, pieces
from adnext_plugin.networks.layers.depthwise import forward_kernel_is_faster
from adnext_plugin.networks.layers.depthwise_on_cpu import convolve, gradient_of_filters
from adnext_plugin.networks.layers.instance_norm import instance_norm
from adnext_plugin.networks.layers.mednext_blocks import MedNeXtBlocks
from adnext_plugin.networks.layers.tokens import to_tokens, to_volume
from adnext_plugin.networks.segmentation.mednext import MedNeXtSegmentationDecoder
from adnext_plugin.networks.segmentation.segmenter import Segmenter


@pytest.fixture
def small_parts(monkeypatch) -> None:
    """Limits at which the small volumes of these tests are cut as large ones are."""
    for name, value in {"ROWS_BYTES": 1, "MULTIPLY_ADDS": 1, "TOKENS_OF_A_SUM": 60}.items():
        monkeypatch.setattr(depthwise_on_cpu, name, value)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1000)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize(("kernel_size", "padding"), [(3, 1), (5, 2), (7, 3), (3, 0)])
def test_a_convolution_in_parts_is_the_convolution(
    small_parts: None, kernel_size: int, padding: int, channels_last: bool
) -> None:
    torch.manual_seed(0)
    channels = 37  # two parts and a rest
    x = torch.randn(2, channels, 11, 9, 8, dtype=torch.float64)
    x = x.contiguous(memory_format=torch.channels_last_3d) if channels_last else x
    weight = torch.randn(channels, 1, *[kernel_size] * 3, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(channels, dtype=torch.float64)
    expected = F.conv3d(x, weight, bias, padding=padding, groups=channels)
    grad = torch.randn_like(expected)
    (of_filters,) = torch.autograd.grad(expected, weight, grad)
    torch.testing.assert_close(convolve(x, weight, bias, padding), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(convolve(x, weight, None, padding) + bias.view(-1, 1, 1, 1), expected)
    found = gradient_of_filters(x, grad, kernel_size, padding)
    torch.testing.assert_close(found, of_filters, rtol=1e-12, atol=1e-12)


@pytest.mark.skipif(not forward_kernel_is_faster(torch.device("cpu")), reason="oneDNN has no such kernel for this CPU")
def test_how_many_channels_are_convolved_at_once_changes_no_bit(monkeypatch) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 48, 16, 17, 18).contiguous(memory_format=torch.channels_last_3d)
    weight, bias = torch.randn(48, 1, 7, 7, 7), torch.randn(48)
    calls: list[int] = []
    conv3d = F.conv3d
    monkeypatch.setattr(F, "conv3d", lambda *a, **k: calls.append(k["groups"]) or conv3d(*a, **k))
    in_parts, taps = convolve(x, weight, bias, 3), gradient_of_filters(x, x, 7, 3)
    assert min(calls) == 16 < 48
    calls.clear()
    monkeypatch.setattr(depthwise_on_cpu, "MULTIPLY_ADDS", 1 << 62)
    assert torch.equal(convolve(x, weight, bias, 3), in_parts)
    assert torch.equal(gradient_of_filters(x, x, 7, 3), taps)
    assert set(calls) == {48}


@pytest.mark.parametrize("in_pieces", [True, False])
def test_instance_norm_is_group_norm_with_a_group_for_each_channel(in_pieces: bool, monkeypatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(pieces, "PIECE_BYTES", 1000 if in_pieces else 1 << 30)
    norm = nn.GroupNorm(6, 6, eps=1e-3).double()
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(3, 5, 4, 7, 6, dtype=torch.float64) * 2 + 30
    weight = torch.randn_like(x)
    results = []
    for forward in (lambda tokens: instance_norm(tokens, norm), lambda tokens: to_tokens(norm(to_volume(tokens)))):
        norm.zero_grad()
        tokens = x.clone().requires_grad_()
        out = forward(tokens)
        (out * weight).sum().backward()
        results.append((out, tokens.grad, norm.weight.grad, norm.bias.grad))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_instance_norm_of_many_voxels_is_as_exact_as_float32_can_be() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 64, 64, 64, 4) + 3
    norm = nn.GroupNorm(4, 4)
    expected = F.group_norm(to_volume(x).double().contiguous(), 4)
    assert (to_volume(instance_norm(x, norm)) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("response_norm", [None, "mean", "sum"])
@pytest.mark.parametrize("kernel_size", [3, 5])
def test_a_mednext_learns_on_a_cpu_as_its_own_modules_do(
    small_parts: None, kernel_size: int, response_norm: mednext_blocks.ResponseNormaliser | None, monkeypatch
) -> None:
    torch.manual_seed(0)
    blocks = MedNeXtBlocks(kernel_size=kernel_size, response_norm=response_norm)
    encoder = MedNeXtEncoder(1, 4, (1, 2, 1), (2, 3, 2), blocks)
    network = Segmenter(encoder, MedNeXtSegmentationDecoder(encoder, 3, all_levels=True)).double().train()
    for name, parameter in network.named_parameters():
        if "global_resp" in name:
            nn.init.normal_(parameter)
    scan = torch.randn(2, 1, 16, 16, 16, dtype=torch.float64)
    results, seen = [], []
    monkeypatch.setattr(mednext_blocks, "instance_norm", lambda *a: seen.append(1) or instance_norm(*a))
    for by_tokens in (True, False):
        seen.clear()
        monkeypatch.setattr(mednext_blocks, "forward_kernel_is_faster", lambda _, answer=by_tokens: answer)
        network.zero_grad()
        out = network(scan)
        sum(each.square().sum() for each in (out if isinstance(out, list | tuple) else [out])).backward()
        assert bool(seen) == by_tokens
        results.append([out, {name: p.grad for name, p in network.named_parameters()}])
    torch.testing.assert_close(*results, rtol=1e-9, atol=1e-9)
