"""Setting to 0 what is not brain, by a mask that was made before (`preprocessing/brains`)."""

from dataclasses import replace
from typing import ClassVar, Literal

from adnext_plugin.preprocessing.brains.brain_masks import within_mask
from adnext_plugin.preprocessing.step import Scan, Step
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
        """The scan within its mask.

        Raises:
            ImageError: the mask is unusable, or lies on another grid.
        """
        if scan.mask_file is None:
            return scan
        mask_file = scan.mask_file
        # the mask's grid is that of the file, which later steps leave
        return replace(
            scan.changed(lambda volume_zyx: within_mask(scan.with_voxels(volume_zyx), mask_file).volume_zyx),
            mask_file=None,
        )

    def describe(self, settings: BrainExtractionSettings) -> str:
        """Method, and of whom."""
        return f"brain extraction by {NAMES[settings.method]} where there is a skull"
