"""OpenMind: nnssl's ResEnc-L by VoCo, Volume Fusion, Models Genesis, MAE, S3D, SimMIM, SwinUNETR's way or SimCLR.

`{"network_weights", "nnssl_adaptation_plan", ...}`; tensors are called as in nnU-Net's library, as ours are. SimpleITK
reads their volumes, which are (z, y, x), and a plan may transpose them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from adnext_plugin.errors import WeightsError
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.training.foreign.source import Converted, ForeignWeights, Tensors, renamed, state_dict_in

IN_ORDER = [0, 1, 2]


class OpenMind(ForeignWeights):
    """ResEnc-L of the OpenMind benchmark, or any of nnssl."""

    title = "OpenMind and other checkpoints of nnssl: ResEnc-L (terms: see its model card)"
    licence = "not stated in the checkpoint; read the model card that it came with"
    prepared = "3D MRI of heads, resampled to 1 mm, in the orientation of the file, z-score of the whole volume, 160³"
    cite = "Wald et al. 2025, arXiv:2412.17041, github.com/MIC-DKFZ/nnssl"

    def convert(self, checkpoint: Mapping[str, Any], where: Path) -> Converted:
        """Take the encoder out, and undo a transposition."""
        plan = checkpoint.get("nnssl_adaptation_plan")
        plan = plan if isinstance(plan, Mapping) else {}
        architecture = plan.get("architecture_plans") or {}
        name = architecture.get("arch_class_name", "ResEncL")
        if name not in ("ResEncL", "NoSkipResEncL"):
            raise WeightsError(f"{where} is of the network {name}, which there is none of here; give one of ResEncL")
        found = state_dict_in(checkpoint, where, "network_weights")
        tensors = renamed(found, [(r"encoder\..+", r"\g<0>")])
        order = list((plan.get("pretrain_plan") or {}).get("transpose_backward") or IN_ORDER)
        if sorted(order) != IN_ORDER:
            raise WeightsError(f"{where}: transpose_backward is {order}, no order of three axes")
        return Converted(
            network=NetworkSettings(name="resenc_l"),
            input_size_voxels=(160, 160, 160),
            tensors=_transposed(tensors, order),
            not_used=len(found) - len(tensors),
        )


def _transposed(tensors: Tensors, order: list[int]) -> Tensors:
    """Filters for volumes whose axes stand as in the file."""

    def turned(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.permute(0, 1, *(2 + axis for axis in order)).contiguous() if tensor.ndim == 5 else tensor

    return {name: turned(tensor) for name, tensor in tensors.items()}
