"""What a hybrid of masked reconstruction and contrast is allowed to vary."""

import math
from dataclasses import field
from typing import Any

from adnext_plugin.errors import SettingsError
from adnext_plugin.pretraining.contrast.options import ContrastiveOptions
from adnext_plugin.pretraining.projection import ProjectorNorm
from adnext_plugin.records import record


@record
class HybridOptions(ContrastiveOptions):
    """Those of contrast, and which masked objective is added to it."""

    masked: str = "fcmae"  # a name in the group adnext.objectives whose network takes scans of the run's size
    masked_options: dict[str, Any] = field(default_factory=dict)  # of that objective, which checks them
    reconstruction_weight: float = 1.0
    contrast_weight: float = 0.1  # NT-Xent is some ten times as large as the error of a standardised scan
    projector_norm: ProjectorNorm = "batch"
    contrast_augmentation: str = "cutout"  # what makes the two views; the run's augmentation is for the masked scan

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("reconstruction_weight", "contrast_weight"):
            if not 0 < getattr(self, name) < math.inf:
                raise SettingsError(
                    f"{name} must be above 0, got {getattr(self, name)}; for one of the two alone, use its own "
                    f"objective, {self.masked} or contrastive"
                )
        if self.masked in ("hybrid", "contrastive"):
            raise SettingsError(
                f"masked must be an objective that reconstructs scans, such as fcmae, not {self.masked}"
            )
