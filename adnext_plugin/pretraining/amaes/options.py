"""What AMAES is allowed to vary."""

from typing import Literal

from adnext_plugin.errors import SettingsError
from adnext_plugin.records import record


@record
class AMAESOptions:
    """Defaults: Munk et al. 2024 (AMAES), but that whole scans are taken unless `patch_voxels` says how much of them.

    What is done to a scan in space is the run's `augmentation`; the network is asked for what comes of that.
    """

    mask_ratio: float = 0.6
    token_voxels: int = 4  # edge of what is masked or visible as one
    reversed: str = "amaes_intensity"  # the augmentation that is to be undone; none: nothing is
    decoder: Literal["light", "standard"] = "light"  # one convolution a level, or two
    skips: bool = False  # whether the decoder sees the encoder's levels besides the deepest
    loss_on: Literal["all", "masked"] = "all"  # voxels
    # (Z, Y, X) that are cut from a random place to train on and from the centre to judge by; None: the whole scan
    patch_voxels: tuple[int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.token_voxels < 1:
            raise SettingsError(f"token_voxels must be at least 1, got {self.token_voxels}")
        if self.patch_voxels is not None and min(self.patch_voxels) < 1:
            raise SettingsError(f"patch_voxels must be at least 1, got {list(self.patch_voxels)}")
