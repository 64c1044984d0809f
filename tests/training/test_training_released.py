"""Checkpoints of the authors' code, written here in their format, tap by tap, from a known encoder."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from adnext_plugin.networks.families.adnext import ADNeXt, build
from adnext_plugin.training.weights import load_encoder

DEPTHS, WIDTHS = (1, 2, 1, 1), (4, 6, 8, 10)


def _network(seed: int, **options) -> ADNeXt:
    torch.manual_seed(seed)
    network = build(DEPTHS, WIDTHS, 1, 2, drop_path_rate=0.0, **options).eval()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return network


def _taps(weight: torch.Tensor) -> list[torch.Tensor]:
    """Filters (out, in, z, y, x) as MinkowskiEngine lists them when coordinates are (x, y, z): x fastest."""
    side = weight.shape[-1]
    return [weight[:, :, z, y, x] for z in range(side) for y in range(side) for x in range(side)]


def _released(network: ADNeXt, *, sparse: bool) -> dict[str, torch.Tensor]:
    encoder, norm, linear = network.encoder, ("ln." if sparse else ""), ("linear." if sparse else "")
    stem = encoder.stem
    state = {
        "downsample_layers.0.0.weight": stem.conv.weight.permute(0, 1, 4, 3, 2),  # dense in both: filters (x, y, z)
        "downsample_layers.0.0.bias": stem.conv.bias,
        "downsample_layers.0.1.weight": stem.norm.weight,
        "downsample_layers.0.1.bias": stem.norm.bias,
    }
    for number, transition in enumerate(encoder.transitions, start=1):
        name = f"downsample_layers.{number}"
        state |= {f"{name}.0.{norm}weight": transition.norm.weight, f"{name}.0.{norm}bias": transition.norm.bias}
        if isinstance(transition.pool, torch.nn.Conv3d):
            weight, bias = transition.pool.weight, transition.pool.bias
            kernel = torch.stack([tap.T for tap in _taps(weight)])
            state |= (
                {f"{name}.1.kernel": kernel, f"{name}.1.bias": bias[None]}
                if sparse
                else {f"{name}.1.weight": weight.permute(0, 1, 4, 3, 2), f"{name}.1.bias": bias}
            )
            continue
        weight, bias = transition.project.weight, transition.project.bias
        state |= (
            {f"{name}.2.kernel": weight.T, f"{name}.2.bias": bias[None]}
            if sparse
            else {f"{name}.2.weight": weight[..., None, None, None], f"{name}.2.bias": bias}
        )
    for stage, blocks in enumerate(encoder.stages):
        for number, block in enumerate(blocks):
            name, conv, grn = f"stages.{stage}.{number}", block.depthwise.conv, block.activation.norm
            shape = (1, -1) if sparse else (1, 1, 1, -1)
            state |= (
                {
                    f"{name}.dwconv.kernel": torch.stack([tap[:, 0] for tap in _taps(conv.weight)]),
                    f"{name}.dwconv.bias": conv.bias[None],
                }
                if sparse
                else {
                    f"{name}.dwconv.weight": conv.weight.permute(0, 1, 4, 3, 2),
                    f"{name}.dwconv.bias": conv.bias,
                }
            )
            state |= {
                f"{name}.norm.{norm}weight": block.norm.weight,
                f"{name}.norm.{norm}bias": block.norm.bias,
                f"{name}.pwconv1.{linear}weight": block.expand.weight,
                f"{name}.pwconv1.{linear}bias": block.expand.bias,
                f"{name}.grn.gamma": grn.gamma.view(shape),
                f"{name}.grn.beta": grn.beta.view(shape),
                f"{name}.pwconv2.{linear}weight": block.project.weight,
                f"{name}.pwconv2.{linear}bias": block.project.bias,
            }
    others = {"mask_token": torch.zeros(1, 8, 1, 1, 1), "proj.weight": torch.zeros(8, 10, 1, 1, 1)}
    return {f"encoder.{name}": tensor.detach().clone() for name, tensor in state.items()} | others


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("downsampling", ["avg", "strided"])
def test_their_encoder_arrives_whole(sparse: bool, downsampling: str, tmp_path: Path) -> None:
    theirs, ours = _network(0, downsampling=downsampling), _network(1, downsampling=downsampling)
    torch.save({"net": _released(theirs, sparse=sparse)}, tmp_path / "released.pth.tar")
    report = load_encoder(ours, tmp_path / "released.pth.tar")
    assert set(report.dropped) == {"mask_token", "proj.weight"}
    assert all(name.startswith("head.") for name in report.new)
    image = torch.randn(1, 1, 32, 64, 32)
    torch.testing.assert_close(ours.encoder(image), theirs.encoder(image), rtol=0, atol=0)


def test_their_filters_see_the_same_voxels_in_their_order_of_axes(tmp_path: Path) -> None:
    """A dense filter over (x, y, z) and ours over (z, y, x) give one answer for one scan."""
    theirs, ours = _network(0), _network(1)
    state = _released(theirs, sparse=False)
    torch.save({"net": state}, tmp_path / "released.pth.tar")
    load_encoder(ours, tmp_path / "released.pth.tar")
    scan_xyz = torch.randn(1, 1, 32, 36, 40)
    weight, bias = state["encoder.downsample_layers.0.0.weight"], state["encoder.downsample_layers.0.0.bias"]
    expected_xyz = F.conv3d(scan_xyz, weight, bias, stride=4)
    found_zyx = ours.encoder.stem.conv(scan_xyz.permute(0, 1, 4, 3, 2))
    torch.testing.assert_close(found_zyx.permute(0, 1, 4, 3, 2), expected_xyz)
