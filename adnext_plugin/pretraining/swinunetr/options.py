"""What SwinUNETR's pre-training is allowed to vary."""

from typing import Literal

from adnext_plugin.errors import SettingsError
from adnext_plugin.records import record


@record
class SwinUNETROptions:
    """Defaults: Tang et al. 2022 and its code."""

    largest_cut: float = 0.3  # share of a scan that is cut out at most, and again as much for voxels of another scan
    temperature: float = 0.5  # of the contrast
    plane: Literal["zy", "zx", "yx"] = "zy"  # of the quarter turns; its two edges must be equal
    rotation_weight: float = 1.0
    contrast_weight: float = 1.0
    reconstruction_weight: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.largest_cut < 1:
            raise SettingsError(f"largest_cut must lie between 0 and 1, got {self.largest_cut}")
        if self.temperature <= 0:
            raise SettingsError(f"temperature must be above 0, got {self.temperature}")
        if min(self.rotation_weight, self.contrast_weight, self.reconstruction_weight) < 0:
            raise SettingsError("rotation_weight, contrast_weight and reconstruction_weight must be at least 0")
