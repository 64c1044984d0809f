"""The plan: how scans become inputs, which network takes them, and what a trainer is told."""

from dataclasses import field
from pathlib import Path
from typing import Any, Literal

from adnext_plugin.errors import SettingsError
from adnext_plugin.records import record
from adnext_plugin.task import Task


@record
class PreprocessingSettings:
    """How a scan becomes the network's input. Axis order z, y, x."""

    spacing_mm: tuple[float, float, float] = (1.75, 1.75, 1.75)
    input_size_voxels: tuple[int, int, int] = (128, 128, 128)
    fit: Literal["resize", "pad_crop"] = "pad_crop"  # stretch the foreground box to the cube, or keep true size
    interpolation: Literal["linear", "cubic"] = "linear"  # cubic is more faithful to the scan, linear never overshoots
    clip_percentiles: tuple[float, float] | None = (0.5, 99.5)  # of the foreground; None leaves intensities alone
    # of scans with a skull; those without are left alone
    brain_extraction: Literal["none", "deepbet", "hdbet", "mask_files"] = "deepbet"
    brain_mask_files: str | None = None  # folder, or pattern with {case_id}, {subject_id}, {session_id}
    hdbet_folds: int = 5  # how many of HD-BET's five networks are averaged
    hdbet_mirroring: bool = True  # average each over the eight mirrorings of the scan
    bias_correction: Literal["none", "n4"] = "none"
    n4_shrink_factor: int = 4
    n4_iterations: tuple[int, ...] = (50, 50, 50, 50)  # at most, per level of the field's control points
    alignment: Literal["none", "rigid", "affine"] = "none"  # to MNI152

    def __post_init__(self) -> None:
        if min(self.spacing_mm) <= 0:
            raise SettingsError(f"spacing_mm must be positive, got {list(self.spacing_mm)}")
        if min(self.input_size_voxels) < 1:
            raise SettingsError(f"input_size_voxels must be at least 1, got {list(self.input_size_voxels)}")
        if self.clip_percentiles is not None:
            low, high = self.clip_percentiles
            if not 0 <= low < high <= 100:
                raise SettingsError(f"clip_percentiles must rise within 0 to 100, got {[low, high]}")
        if (self.brain_extraction == "mask_files") != (self.brain_mask_files is not None):
            raise SettingsError("brain_extraction mask_files and brain_mask_files (--brain-masks) need each other")
        if not 1 <= self.hdbet_folds <= 5:
            raise SettingsError(f"hdbet_folds must be 1 to 5, got {self.hdbet_folds}")
        if self.n4_shrink_factor < 1 or not self.n4_iterations or min(self.n4_iterations) < 1:
            raise SettingsError(
                "n4_shrink_factor and all n4_iterations must be at least 1, "
                f"got {self.n4_shrink_factor} and {list(self.n4_iterations)}"
            )


@record
class NetworkSettings:
    """Which network to build; a missing name leaves the choice to the trainer."""

    name: str | None = None
    options: dict[str, Any] = field(default_factory=dict)


@record
class Plan:
    """The `adnext` block of a configuration in the plans file."""

    preprocessing: PreprocessingSettings = PreprocessingSettings()
    network: NetworkSettings = NetworkSettings()
    # overrides of a trainer's settings, checked by the trainer: of a labelled task, and of pre-training
    training: dict[str, Any] = field(default_factory=dict)
    pretraining: dict[str, Any] = field(default_factory=dict)
    prepared_by: Literal["adnext", "nnunet"] = "adnext"  # nnunet: volumes of any size, fitted when loaded
    task: Task | None = None  # filled in by the trainer, so that a saved model knows its outputs

    @property
    def network_input_voxels(self) -> tuple[int, int, int]:
        """(Z, Y, X) of what the network is fed: the stored volumes, or what training cuts from them."""
        return tuple(self.training.get("crop_voxels") or self.preprocessing.input_size_voxels)


def require_same_preparation(theirs: Plan, own: Plan, where: Path) -> None:
    """Make sure that a dataset was prepared as the one that a network was trained on.

    Raises:
        SettingsError: it was not; names the plans file `where`.
    """
    if (theirs.preprocessing, theirs.prepared_by) != (own.preprocessing, own.prepared_by):
        raise SettingsError(
            f"{where}: the dataset was prepared differently from the one trained on; give both the same --preset"
        )
