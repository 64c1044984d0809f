"""Segmentation networks: published counts, and what they share with the networks that they were taken from."""

import re

import pytest
import torch
from monai.networks.nets import SwinUNETR
from monai.networks.nets.mednext import MedNeXt
from torch import nn

from adnext_plugin.errors import SettingsError, UnknownNameError
from adnext_plugin.networks.costs import count_parameters
from adnext_plugin.networks.families.mednext import MedNeXtEncoder
from adnext_plugin.networks.families.unet import UNetEncoder
from adnext_plugin.networks.layers.mednext_blocks import MedNeXtBlocks
from adnext_plugin.networks.recomputation import recompute_in
from adnext_plugin.networks.segmentation.build import build_segmenter, coarsest_stride
from adnext_plugin.networks.segmentation.mednext import MedNeXtSegmentationDecoder
from adnext_plugin.networks.segmentation.segmenter import Segmenter
from adnext_plugin.networks.segmentation.unet import UNetSegmentationDecoder
from adnext_plugin.plan import NetworkSettings

PATCH = (64, 64, 64)
# network, decoder, outputs, deep supervision, parameters: AMAES' and MedNeXt-v2's papers, MONAI, and our own of AD-NeXt
PUBLISHED = [
    ("unet_b", "unet", 2, False, 22_581_250),
    ("unet_xl", "unet", 2, False, 90_304_514),
    ("mednext_m_k3", "unet", 2, False, 20_938_018),
    ("mednext_l_k3", "unet", 2, False, 55_198_626),
    ("mednext_v2", "mednext", 3, False, 61_969_507),
    ("mednext_v2", "mednext", 3, True, 61_972_399),
    ("mednext_v2_wide", "mednext", 3, False, 246_536_387),
    ("mednext_v2_wide", "mednext", 3, True, 246_542_159),
    ("swin_unetr_48", "swin_unetr", 2, False, 62_186_708),
    ("adnext_t", "unet", 2, False, 1_295_514),
    ("adnext_s", "unet", 2, False, 5_845_250),
    ("adnext_b", "unet", 2, False, 32_876_802),
]


def _built(name: str, decoder: str, outputs: int = 2, **options) -> Segmenter:
    return build_segmenter(NetworkSettings(name=name), decoder, 1, outputs, options.pop("patch", PATCH), **options)


@pytest.mark.parametrize(("name", "decoder", "outputs", "deep_supervision", "parameters"), PUBLISHED)
def test_every_segmentation_network_has_its_published_count_of_parameters(
    name: str, decoder: str, outputs: int, deep_supervision: bool, parameters: int
) -> None:
    with torch.device("meta"):
        network = _built(name, decoder, outputs, deep_supervision=deep_supervision)
    assert count_parameters(network) == parameters


def _tiny_mednext(response_norm=None, *, all_levels: bool = False) -> Segmenter:
    torch.manual_seed(0)
    blocks = MedNeXtBlocks(kernel_size=3, response_norm=response_norm)
    encoder = MedNeXtEncoder(1, 4, (1, 2, 1, 1, 2), (2, 2, 2, 2, 2), blocks)
    return Segmenter(encoder, MedNeXtSegmentationDecoder(encoder, 3, all_levels=all_levels)).eval()


def _scan(batch: int = 1, size: tuple[int, int, int] = (32, 32, 32)) -> torch.Tensor:
    return torch.randn(batch, 1, *size, generator=torch.Generator().manual_seed(0))


def _same_weights(theirs: nn.Module, ours: nn.Module, order: list[str]) -> None:
    """Give `ours` the weights of `theirs`, whose parts named in `order` follow each other as those of ours do."""
    found = [tensor for part in order for tensor in theirs.get_submodule(part).state_dict().values()]
    own = ours.state_dict()
    # MONAI's ready-made MedNeXt leads down without a response norm; one of zeros changes nothing
    lead_down = {name.split(".res_conv")[0] for name in own if re.match(r"encoder\.\d+\.res_conv", name)}
    only_here = [name for name in own if ".global_resp_" in name and name.rpartition(".")[0] in lead_down]
    shared = (name for name in own if name not in only_here)
    ours.load_state_dict(
        {**{name: torch.zeros_like(own[name]) for name in only_here}, **dict(zip(shared, found, strict=True))}
    )


def test_a_mednext_with_one_expansion_is_monais_with_the_same_weights() -> None:
    # of another expansion at each level, MONAI's ready-made network is another network
    depth = [1, 2, 1, 1]
    theirs = MedNeXt(
        3, 4, 1, 3, 2, 2, 2, 3, True, True, blocks_down=depth, blocks_bottleneck=2, blocks_up=depth[::-1],
        global_resp_norm=True,
    ).eval()  # fmt: skip
    for parameter in theirs.parameters():  # response norms begin at 0
        nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(parameter.numel()))
    ours = _tiny_mednext("mean", all_levels=True)
    down = [part for level in range(4) for part in (f"enc_stages.{level}", f"down_blocks.{level}")]
    up = [f"up_blocks.{level}" for level in (3, 2, 1, 0)] + [f"dec_stages.{level}" for level in (3, 2, 1, 0)]
    outputs = ["out_0", *(f"out_blocks.{level}" for level in (3, 2, 1, 0))]
    _same_weights(theirs, ours, ["stem", *down, "bottleneck", *up, *outputs])
    torch.testing.assert_close(ours(_scan()), theirs(_scan()))
    ours.decoder.deep_supervision = True
    for own, other in zip(ours(_scan()), theirs.train()(_scan()), strict=True):
        torch.testing.assert_close(own, other)


def test_swin_unetr_is_monais_with_the_same_weights() -> None:
    torch.manual_seed(0)
    theirs, ours = SwinUNETR(1, 2, feature_size=48).eval(), _built("swin_unetr_48", "swin_unetr").eval()
    order = ["swinViT", "encoder1", "encoder2", "encoder3", "encoder4", "encoder10"]
    order += [f"decoder{step}" for step in (1, 2, 3, 4, 5)] + ["out"]
    _same_weights(theirs, ours, order)
    with torch.no_grad():
        scan = _scan(size=(64, 32, 32))  # two voxels on the deepest level
        torch.testing.assert_close(ours(scan), theirs(scan))


def test_response_norms_by_sum_and_by_mean_differ_by_the_number_of_channels_in_gamma() -> None:
    by_mean, by_sum = _tiny_mednext("mean"), _tiny_mednext("sum")
    weights = {}
    for name, tensor in by_mean.state_dict().items():
        if name.endswith("global_resp_gamma"):
            tensor = torch.randn_like(tensor)
            by_mean.get_parameter(name).data.copy_(tensor)
            tensor = tensor * tensor.shape[1]
        weights[name] = tensor
    by_sum.load_state_dict(weights)
    with torch.no_grad():
        torch.testing.assert_close(by_sum(_scan()), by_mean(_scan()), rtol=1e-3, atol=1e-4)
        assert not torch.allclose(_tiny_mednext()(_scan()), by_mean(_scan()), atol=1e-3)


def _tiny_unet() -> Segmenter:
    torch.manual_seed(0)
    encoder = UNetEncoder(1, 4)
    return Segmenter(encoder, UNetSegmentationDecoder(encoder.level_widths, encoder.level_strides, 1, 3))


def _tiny(kind: str) -> Segmenter:
    if kind == "adnext_t":
        torch.manual_seed(0)
        network = NetworkSettings(name=kind, options={"init": "fan_in", "drop_path_rate": 0.0})
        return build_segmenter(network, "unet", 1, 3, (64, 64, 64))
    return {"unet": _tiny_unet, "mednext": lambda: _tiny_mednext("mean")}[kind]()


@pytest.mark.parametrize("kind", ["unet", "mednext", "adnext_t"])
def test_logits_have_the_scans_resolution_and_every_parameter_learns(kind: str) -> None:
    network = _tiny(kind).train()
    logits = network(_scan(2, (32, 64, 32)))
    assert logits.shape == (2, 3, 32, 64, 32)
    logits.square().mean().backward()
    assert [name for name, each in network.named_parameters() if each.grad is None] == []


@pytest.mark.parametrize("kind", ["unet", "mednext"])
def test_recomputing_changes_no_gradient(kind: str) -> None:
    def gradients(*, recompute: bool) -> list[torch.Tensor]:
        network = _tiny(kind).train()
        if recompute:
            assert recompute_in(network) >= 2
        network(_scan()).square().mean().backward()
        return [parameter.grad for parameter in network.parameters()]

    for plain, again in zip(gradients(recompute=False), gradients(recompute=True), strict=True):
        torch.testing.assert_close(plain, again)


def test_what_begins_afresh_is_named_so_that_nnunets_loader_leaves_it_alone() -> None:
    def demanded(network: Segmenter) -> set[str]:
        names = (name for name in network.state_dict() if ".seg_layers." not in name)
        return {name.partition(".")[0] for name in names}

    with torch.device("meta"):
        assert demanded(_built("unet_b", "unet")) == demanded(_built("swin_unetr_48", "swin_unetr")) == {"encoder"}
        assert demanded(_built("mednext_v2", "mednext")) == {"encoder", "decoder"}


REFUSED = [
    ("unet_b", "unet", {"patch": (48, 56, 48)}, "multiple of 16, got [48, 56, 48]"),
    ("adnext_t", "unet", {"patch": (48, 64, 64)}, "multiple of 32, got [48, 64, 64]"),
    ("unet_b", "unet", {"patch": (16, 64, 64)}, "at least 32 voxels per axis"),
    ("unet_b", "unet", {"deep_supervision": True}, "gives logits at full resolution alone"),
    ("unet_b", "mednext", {}, "the decoder 'mednext' does not go with the encoder of unet_b; take 'unet'"),
    ("resnet10", "unet", {}, "the encoder of network 'resnet10' does not give its levels"),
]


@pytest.mark.parametrize(("name", "decoder", "options", "message"), REFUSED)
def test_what_does_not_go_together_is_refused_in_one_line(name: str, decoder: str, options: dict, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        _built(name, decoder, **options)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_normaliser_and_an_unknown_network_are_refused() -> None:
    network = NetworkSettings(name="mednext_v2", options={"grn_normaliser": "max"})
    with pytest.raises(SettingsError, match="grn_normaliser must be mean or sum, got 'max'"):
        build_segmenter(network, "mednext", 1, 2, PATCH)
    with pytest.raises(UnknownNameError, match="did you mean 'unet_b'"):
        coarsest_stride(NetworkSettings(name="unet_bb"))


def test_looking_at_a_network_draws_nothing() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    assert coarsest_stride(NetworkSettings(name="resenc_l")) == 32
    assert torch.equal(torch.get_rng_state(), before)
