"""Convolution, batch norm, pooling and ReLU done in pieces, against PyTorch's own modules."""

import copy

import pytest
import torch
from torch import nn

from adnext_plugin.networks.layers import pooled_norm as module
from adnext_plugin.networks.layers.pooled_norm import pooled_norm

SIZE = (14, 10, 8)


@pytest.fixture
def layers() -> nn.Sequential:
    """In float64, with factors of both signs and one of zero."""
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv3d(2, 6, 3, padding=1), nn.BatchNorm3d(6), nn.MaxPool3d(2), nn.ReLU()).double()
    with torch.no_grad():
        layers[1].weight.copy_(torch.tensor([1.3, -0.7, 0.0, 0.2, -1.1, 0.9]))
        layers[1].bias.uniform_(-1, 1)
    return layers.to(memory_format=torch.channels_last_3d)


def _scans(batch: int = 3) -> torch.Tensor:
    """With a background of zeros, where voxels are equally strong."""
    scans = torch.randn(batch, 2, *SIZE, dtype=torch.float64)
    scans[:, :, :5] = 0
    return scans


@pytest.mark.parametrize("planes", [2, 4, 100])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_outputs_gradients_and_running_statistics_are_those_of_the_modules(
    layers: nn.Sequential, planes: int, momentum: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PIECE_BYTES", planes * 3 * SIZE[1] * SIZE[2] * 6 * 8)
    layers[1].momentum = momentum
    ours = copy.deepcopy(layers)
    for _ in range(2):
        scans = _scans()
        expected, found = layers(scans), pooled_norm(ours, scans)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        towards = torch.randn_like(expected)
        for output in (expected, found):
            output.backward(towards)
    assert type(found.grad_fn).__name__ == "_PooledNormBackward"  # and not the fall-back
    for (name, ours_now), theirs in zip(ours.named_parameters(), layers.parameters(), strict=True):
        torch.testing.assert_close(ours_now.grad, theirs.grad, rtol=0, atol=1e-11, msg=name)
    for ours_now, theirs in zip(ours.buffers(), layers.buffers(), strict=True):
        torch.testing.assert_close(ours_now, theirs, rtol=0, atol=1e-12)


def test_what_it_is_not_made_for_goes_through_the_modules(layers: nn.Sequential) -> None:
    scans = _scans()
    wanted = scans.clone().requires_grad_()
    odd = torch.randn(2, 2, 7, 10, 8, dtype=torch.float64)
    for given in (wanted, odd):
        ours = copy.deepcopy(layers)
        assert torch.equal(pooled_norm(ours, given), layers(given))
        assert all(map(torch.equal, ours.buffers(), layers.buffers()))
    pooled_norm(layers, wanted).square().sum().backward()
    assert wanted.grad.abs().sum() > 0
    layers.eval()
    assert torch.equal(pooled_norm(layers, scans), layers(scans))


def test_float32_statistics_of_a_batch_of_scans_are_those_of_float64() -> None:
    torch.manual_seed(0)
    convolution, norm = nn.Conv3d(1, 4, 3, padding=1), nn.BatchNorm3d(4, momentum=1.0)
    layers = nn.Sequential(convolution, norm, nn.MaxPool3d(2), nn.ReLU()).to(memory_format=torch.channels_last_3d)
    scans = torch.rand(4, 1, 64, 64, 64)
    pooled_norm(layers, scans)
    y = copy.deepcopy(convolution).double()(scans.double())
    torch.testing.assert_close(norm.running_mean, y.mean(dim=(0, 2, 3, 4)).float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(norm.running_var, y.var(dim=(0, 2, 3, 4)).float(), rtol=1e-5, atol=0)
