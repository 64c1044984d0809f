"""Building a segmentation network: a registered network's encoder, and a decoder by name."""

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, cast

import torch
from torch import nn

from adnext_plugin.errors import SettingsError
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.families.mednext import MedNeXtEncoder
from adnext_plugin.networks.families.swin_unetr import SwinUNETREncoder
from adnext_plugin.networks.pyramid import Pyramid
from adnext_plugin.networks.recomputation import recompute_in
from adnext_plugin.networks.segmentation.mednext import MedNeXtSegmentationDecoder
from adnext_plugin.networks.segmentation.segmenter import SegmentationDecoder, Segmenter
from adnext_plugin.networks.segmentation.swin_unetr import SwinUNETRSegmentationDecoder
from adnext_plugin.networks.segmentation.unet import UNetSegmentationDecoder
from adnext_plugin.plan import NetworkSettings

Decoder = Literal["unet", "mednext", "swin_unetr"]
FEWEST = 2  # voxels of the deepest level per axis; of one, its norms would erase what is there


def build_segmenter(
    network: NetworkSettings,
    decoder: Decoder,
    in_channels: int,
    num_outputs: int,
    patch_voxels: Sequence[int],
    *,
    deep_supervision: bool = False,
    recompute: bool = False,
) -> Segmenter:
    """Build a network with fresh weights drawn from torch's global generator.

    Args:
        network: whose encoder it has.
        decoder: `unet` goes with every encoder that gives its levels, the others with their own.
        in_channels: modalities of a scan.
        num_outputs: classes, background among them.
        patch_voxels: (Z, Y, X) it will be fed.
        deep_supervision: whether coarser levels have outputs, too.
        recompute: whether to forget what is inside blocks until the backward pass, for less memory.

    Raises:
        UnknownNameError: no network of that name.
        SettingsError: encoder and decoder do not go together, or not with the patch, or something is not on offer.
    """
    require_patch(network, patch_voxels)
    encoder = _encoder(network, in_channels, patch_voxels)
    segmenter = Segmenter(encoder, _decoder(network, decoder, encoder, in_channels, num_outputs, deep_supervision))
    if recompute:
        recompute_in(segmenter)
    return segmenter


def require_patch(network: NetworkSettings, patch_voxels: Sequence[int]) -> None:
    """Refuse a patch that a network cannot take.

    Raises:
        SettingsError: an axis is too short, or no multiple of what the network halves it down to.
    """
    multiple = coarsest_stride(network)
    if any(edge < FEWEST * multiple or edge % multiple for edge in patch_voxels):
        raise SettingsError(
            f"{network.name} segments patches of at least {FEWEST * multiple} voxels per axis and a multiple of "
            f"{multiple}, got {list(patch_voxels)}; set patch_voxels to such, or leave it out"
        )


def coarsest_stride(network: NetworkSettings) -> int:
    """Voxels of a scan along an edge of one of the deepest level.

    Raises:
        UnknownNameError: no network of that name.
        SettingsError: its encoder does not give its levels, or it has no such option.
    """
    return _coarsest_stride(str(network.name), json.dumps(network.options, sort_keys=True))


@lru_cache
def _coarsest_stride(name: str, options: str) -> int:
    settings = NetworkSettings(name=name, options=json.loads(options))
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        encoder = cast(Pyramid, _encoder(settings, 1, (128, 128, 128)))
    return encoder.level_strides[-1]


def _encoder(network: NetworkSettings, in_channels: int, patch_voxels: Sequence[int]) -> nn.Module:
    size = cast(tuple[int, int, int], tuple(patch_voxels))
    encoder = getattr(build_network(network, in_channels, 2, size), "encoder", None)
    if not isinstance(encoder, Pyramid):
        raise SettingsError(
            f"the encoder of network {network.name!r} does not give its levels, so that no decoder can be put on it; "
            "take a U-Net, a MedNeXt, ResEnc-L, SwinUNETR or an AD-NeXt"
        )
    return cast(nn.Module, encoder)


def _decoder(
    network: NetworkSettings,
    decoder: Decoder,
    encoder: nn.Module,
    in_channels: int,
    num_outputs: int,
    deep_supervision: bool,
) -> SegmentationDecoder:
    if decoder == "mednext" and isinstance(encoder, MedNeXtEncoder):
        return MedNeXtSegmentationDecoder(encoder, num_outputs, all_levels=deep_supervision)
    if deep_supervision:
        raise SettingsError(
            f"{network.name} with the decoder {decoder!r} gives logits at full resolution alone; leave out "
            "deep_supervision, which MedNeXt-v2 has"
        )
    pyramid = cast(Pyramid, encoder)
    if decoder == "swin_unetr" and isinstance(encoder, SwinUNETREncoder):
        return SwinUNETRSegmentationDecoder(pyramid.level_widths[0], in_channels, num_outputs)
    if decoder != "unet":
        raise SettingsError(f"the decoder {decoder!r} does not go with the encoder of {network.name}; take 'unet'")
    return UNetSegmentationDecoder(pyramid.level_widths, pyramid.level_strides, in_channels, num_outputs)
