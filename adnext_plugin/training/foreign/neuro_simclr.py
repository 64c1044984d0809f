"""3D-Neuro-SimCLR: a ResNet-18 pre-trained by SimCLR on T1-weighted scans of eleven cohorts.

`{"epoch", "model_state_dict", "optimizer_state_dict"}`; `encoder.` is MONAI's ResNet-18 of one channel, `projector.` is
not wanted. Its volumes are transposed to (z, y, x) when they are read, as ours are.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adnext_plugin.plan import NetworkSettings
from adnext_plugin.training.foreign.source import Converted, ForeignWeights, renamed, state_dict_in


class NeuroSimCLR(ForeignWeights):
    """ResNet-18 of 3D-Neuro-SimCLR (simclr_3d_brain_foundation.tar)."""

    title = "3D-Neuro-SimCLR: ResNet-18, SimCLR on T1w of many cohorts (MIT)"
    licence = "MIT"
    prepared = (
        "T1w, bias-corrected and rigidly registered to MNI152 at 1 mm by TurboPrep, brain extracted, 150 × 192 × 192 "
        "voxels (z, y, x), mean 0 and deviation 1 within the brain"
    )
    cite = "Kaczmarek et al. 2025, arXiv:2509.10620, github.com/emilykaczmarek/3D-Neuro-SimCLR"

    def convert(self, checkpoint: Mapping[str, Any], where: Path) -> Converted:
        """Its encoder's names are MONAI's, as ours."""
        tensors = state_dict_in(checkpoint, where, "model_state_dict")
        named = renamed(tensors, [(r"encoder\.(?!fc\.).+", r"\g<0>")])
        return Converted(
            network=NetworkSettings(name="resnet18"),
            input_size_voxels=(150, 192, 192),
            tensors=named,
            not_used=len(tensors) - len(named),
        )
