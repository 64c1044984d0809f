"""Setting to 0 what is not brain, by a mask that was made before (`preprocessing/brains`)."""

from dataclasses import replace
from typing import ClassVar

import numpy as np
from scipy.ndimage import binary_fill_holes

from adnext_plugin.choices import BrainMethod
from adnext_plugin.images import foreground
from adnext_plugin.preprocessing.brains.brain_masks import mask_of
from adnext_plugin.preprocessing.step import Scan, Step, refuse_emptied
from adnext_plugin.records import record

NAMES = {"deepbet": "deepbet", "hdbet": "HD-BET", "mask_files": "masks given by the user"}


@record
class BrainExtractionSettings:
    """Where masks come from. Their bytes are in a case's key, so that it is no matter where the files lie."""

    method: BrainMethod = "deepbet"
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
        if scan.mask_file is not None:
            inside = mask_of(scan.volume, scan.mask_file)
        elif scan.images > 1:
            inside = binary_fill_holes(foreground(scan.image_czyx[0]))  # dark voxels within it are brain, too
        else:
            return scan
        # the mask's grid is that of the file, which later steps leave
        brain = replace(scan.changed(lambda volume_zyx: np.where(inside, volume_zyx, 0)), mask_file=None)
        refuse_emptied(scan, brain)
        return brain

    def describe(self, settings: BrainExtractionSettings) -> str:
        """Method, and of whom."""
        return f"brain extraction by {NAMES[settings.method]} where there is a skull"
