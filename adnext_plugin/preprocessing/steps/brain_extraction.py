"""Setting to 0 what is not brain, by a mask that was made before (`preprocessing/brains`)."""

from dataclasses import replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from scipy.ndimage import binary_fill_holes

from adnext_plugin.images import foreground
from adnext_plugin.preprocessing.brains.brain_masks import within_mask
from adnext_plugin.preprocessing.step import Scan, Step, refuse_emptied
from adnext_plugin.records import record

NAMES = {"deepbet": "deepbet", "hdbet": "HD-BET", "mask_files": "masks given by the user"}


@record
class BrainExtractionSettings:
    """Where masks come from. Their bytes are in a case's key, so that it is no matter where the files lie."""

    method: Literal["deepbet", "hdbet", "mask_files"] = "deepbet"
    hdbet_folds: int | None = None
    hdbet_mirroring: bool | None = None


class BrainExtraction(Step):
    """Leaves scans alone that have no mask because they have no skull."""

    name: ClassVar[str] = "brain_extraction"
    version: ClassVar[int] = 1
    settings_type: ClassVar[type] = BrainExtractionSettings

    def apply(self, scan: Scan, settings: BrainExtractionSettings) -> Scan:
        """The scan within its mask. Where the first image has no skull, others are cut to its brain.

        Raises:
            ImageError: the mask is unusable, or lies on another grid; or an image shows nothing of the brain.
        """
        brain = scan if scan.mask_file is None and scan.images == 1 else _brain_of(scan, scan.mask_file)
        refuse_emptied(scan, brain)
        return brain

    def describe(self, settings: BrainExtractionSettings) -> str:
        """Method, and of whom."""
        return f"brain extraction by {NAMES[settings.method]} where there is a skull"


def _brain_of(scan: Scan, mask_file: Path | None) -> Scan:
    if mask_file is not None:
        # the mask's grid is that of the file, which later steps leave
        return replace(
            scan.changed(lambda volume_zyx: within_mask(scan.with_voxels(volume_zyx), mask_file).volume_zyx),
            mask_file=None,
        )
    first, *others = scan.image_czyx
    brain = binary_fill_holes(foreground(first))  # dark voxels within it are brain, too
    return scan.with_channels(np.stack([first, *(np.where(brain, other, 0) for other in others)]))
