"""BrainIAC: a ViT-B/16 of 96³ by SimCLR, and the ResNet-50 of its first release.

Lightning's `{"state_dict"}` or safetensors; names begin with `backbone.`, perhaps with `model.` before it. MONAI reads
volumes as (x, y, z), so filters and the grid of positions are read reversed. Its queries, keys and values have no bias,
which is ours with a bias of 0. Its features are those of the first patch; ours are the mean over patches, as in the
release of nidl.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from adnext_plugin.errors import WeightsError
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.training.foreign.source import (
    Converted,
    ForeignWeights,
    Tensors,
    renamed,
    reversed_axes,
    state_dict_in,
)

WIDTH, DEPTH, SIDE, CELLS = 768, 12, 96, 6
OF_VIT, OF_RESNET = "patch_embedding.patch_embeddings.weight", "layer1.0.conv1.weight"
POSITIONS = "encoder.patch_embedding.position_embeddings"


class BrainIAC(ForeignWeights):
    """ViT-B/16 of BrainIAC, or its earlier ResNet-50."""

    title = "BrainIAC: ViT-B/16 of 96³, or ResNet-50; SimCLR on brain MRI (non-commercial)"
    licence = "non-commercial; read the terms that it came with"
    prepared = "brain extracted, registered, resized to 96³, z-score of the non-zero voxels"
    cite = "Tak et al. 2026, Nature Neuroscience, github.com/AIM-KannLab/BrainIAC"

    def convert(self, checkpoint: Mapping[str, Any], where: Path) -> Converted:
        """Tell the two releases apart by their names."""
        found = state_dict_in(checkpoint, where, "state_dict", "network_weights")
        # whatever wraps the encoder, its own names are MONAI's
        wrapped = next((name for name in found if name.endswith((OF_VIT, OF_RESNET))), None)
        if wrapped is None:
            raise WeightsError(f"{where} is neither of a ViT nor of a ResNet of BrainIAC; is --from right?")
        prefix = wrapped.removesuffix(OF_VIT).removesuffix(OF_RESNET)
        bare = {name.removeprefix(prefix): tensor for name, tensor in found.items() if name.startswith(prefix)}
        if wrapped.endswith(OF_RESNET):
            kept = renamed(bare, [(r"(?!fc\.)(.+)", r"encoder.\1")])
            named = kept
            network = NetworkSettings(name="resnet50")
        else:
            kept = renamed(bare, [(r"(?:patch_embedding|norm|blocks(?!.*norm_cross_attn))\..+", r"encoder.\g<0>")])
            named = _vit(kept, where)
            options = {"width": WIDTH, "mlp_width": 4 * WIDTH, "depth": DEPTH, "num_heads": 12}
            network = NetworkSettings(name="vit_small_mim", options=options)
        return Converted(
            network=network,
            input_size_voxels=(SIDE,) * 3,
            tensors=reversed_axes(named),
            not_used=len(found) - len(kept),
        )


def _vit(tensors: Tensors, where: Path) -> Tensors:
    positions = tensors.get(POSITIONS)
    if positions is None or positions.shape != (1, CELLS**3, WIDTH):
        shape = None if positions is None else tuple(positions.shape)
        raise WeightsError(f"{where}: its positions have the shape {shape}, not {(1, CELLS**3, WIDTH)} of 96³")
    grid = positions.reshape(CELLS, CELLS, CELLS, WIDTH).permute(2, 1, 0, 3)
    none = {f"encoder.blocks.{block}.attn.qkv.bias": torch.zeros(3 * WIDTH) for block in range(DEPTH)}
    return {**none, **tensors, POSITIONS: grid.reshape(1, CELLS**3, WIDTH).contiguous()}
