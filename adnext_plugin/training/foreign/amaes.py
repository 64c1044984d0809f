"""AMAES, the baselines of FOMO25, and asparagus: U-Net B and XL, MedNeXt M and L, ResEnc.

A flat state dict, or Lightning's `{"state_dict"}`; names begin with `model.` and perhaps `_orig_mod.`. Decoder and
reconstruction head are not wanted. Yucca's volumes are (x, y, z) in RAS orientation, so filters are read reversed.

    theirs                                       ours
    encoder.in_conv.conv1.conv                   encoder.stages.0.0.convs.0.conv
    encoder.encoder_conv3.conv2.norm             encoder.stages.3.1.convs.1.norm
    encoder.stem, encoder.enc_block_1.0, ...     encoder.0, ... in a row (MedNeXt)
    encoder.stem.conv1, ....norm_op              encoder.stem.convs.0, ....norm (ResEnc)
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adnext_plugin.errors import WeightsError
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.training.foreign.source import (
    Converted,
    ForeignWeights,
    Tensors,
    renamed,
    reversed_axes,
    state_dict_in,
    twice,
)

UNETS = {32: "unet_b", 64: "unet_xl"}  # by width of the first level
MEDNEXTS = {4: ("mednext_m_k3", (3, 4, 4, 4, 4)), 8: ("mednext_l_k3", (3, 4, 8, 8, 8))}  # by blocks of the third level


class AMAES(ForeignWeights):
    """Encoders of AMAES, of FOMO25's baselines and of asparagus."""

    title = "AMAES, FOMO25 baselines, asparagus: U-Net B/XL, MedNeXt M/L, ResEnc (terms differ)"
    licence = (
        "AMAES (Zenodo 13604788): none stated. FOMO25 baselines: CC BY-NC-ND 4.0. Others: read the model card. None of "
        "them may be passed on converted without leave"
    )
    prepared = (
        "RAS, 1 mm, cropped to the non-zero box; AMAES: intensities in [0, 1], patches of 128³; FOMO25: z-score of the "
        "volume, patches of 96³; asparagus: z-score of each patch, 160³"
    )
    cite = "Munk et al. 2024, arXiv:2408.00640, github.com/asbjrnmunk/amaes"

    def convert(self, checkpoint: Mapping[str, Any], where: Path) -> Converted:
        """Find out which network it is of by its names and widths."""
        found = state_dict_in(checkpoint, where, "state_dict")
        bare = {name.removeprefix("model."): tensor for name, tensor in found.items()}
        if "encoder.in_conv.conv1.conv.weight" in bare:
            return _unet(bare, where)
        if "encoder.stem.weight" in bare:
            return _mednext(bare, where)
        if any(name.startswith("encoder.stem.conv1.") for name in bare):
            return _resenc(bare)
        raise WeightsError(f"{where} is neither of a U-Net nor of a MedNeXt or ResEnc of AMAES; is --from right?")


def _unet(tensors: Tensors, where: Path) -> Converted:
    width = tensors["encoder.in_conv.conv1.conv.weight"].shape[0]
    if width not in UNETS:
        raise WeightsError(f"{where} is of a U-Net of width {width}; there are those of 32 (B) and 64 (XL) here")
    ours = {}
    for name, tensor in tensors.items():
        if match := re.fullmatch(r"encoder\.in_conv\.conv([12])\.(.+)", name):
            ours[f"encoder.stages.0.0.convs.{int(match[1]) - 1}.{match[2]}"] = tensor
        elif match := re.fullmatch(r"encoder\.encoder_conv([1-4])\.conv([12])\.(.+)", name):
            ours[f"encoder.stages.{match[1]}.1.convs.{int(match[2]) - 1}.{match[3]}"] = tensor
    return Converted(
        network=NetworkSettings(name=UNETS[width]),
        input_size_voxels=(128, 128, 128),
        tensors=twice(reversed_axes(ours)),
        not_used=len(tensors) - len(ours),
    )


def _mednext(tensors: Tensors, where: Path) -> Converted:
    blocks = {int(match[1]) for name in tensors if (match := re.match(r"encoder\.enc_block_2\.(\d+)\.", name))}
    if len(blocks) not in MEDNEXTS:
        raise WeightsError(f"{where} is of a MedNeXt with {len(blocks)} blocks on its third level; M has 4, L has 8")
    network, depths = MEDNEXTS[len(blocks)]
    rows = ["stem"]
    for level, depth in enumerate(depths):
        rows += [f"down_{level - 1}"] * (level > 0)
        container = "bottleneck" if level == len(depths) - 1 else f"enc_block_{level}"
        rows += [f"{container}.{block}" for block in range(depth)]
    rules = [(rf"encoder\.{re.escape(row)}\.(.+)", rf"encoder.{place}.\1") for place, row in enumerate(rows)]
    named = renamed(tensors, rules)
    return Converted(
        network=NetworkSettings(name=network),
        input_size_voxels=(128, 128, 128),
        tensors=reversed_axes(named),
        not_used=len(tensors) - len(named),
    )


def _resenc(tensors: Tensors) -> Converted:
    named = {
        name.replace("encoder.stem.conv1.", "encoder.stem.convs.0.").replace(".norm_op.", ".norm."): tensor
        for name, tensor in tensors.items()
        if name.startswith("encoder.")
    }
    return Converted(
        network=NetworkSettings(name="resenc_l"),
        input_size_voxels=(160, 160, 160),
        tensors=twice(reversed_axes(named)),
        not_used=len(tensors) - len(named),
    )
