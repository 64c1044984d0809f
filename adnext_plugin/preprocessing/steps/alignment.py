"""Finding where a brain lies in MNI152 space; `fit` then takes it there."""

from dataclasses import replace
from typing import ClassVar, Literal

from adnext_plugin.preprocessing.step import Placement, Scan, Step
from adnext_plugin.records import record


@record
class AlignmentSettings:
    """Six parameters or twelve."""

    kind: Literal["rigid", "affine"] = "rigid"


class Alignment(Step):
    """Registration of the first channel (`preprocessing/alignment.py`)."""

    name: ClassVar[str] = "alignment"
    version: ClassVar[int] = 1
    settings_type: ClassVar[type] = AlignmentSettings

    def apply(self, scan: Scan, settings: AlignmentSettings) -> Scan:
        """The scan with its placement; voxels are left alone.

        Raises:
            ImageError: the registration failed.
        """
        from adnext_plugin.preprocessing.alignment import align_to_mni152, template_centre_mm

        scan_from_mni_mm = align_to_mni152(scan.volume, settings.kind)
        placement = Placement(scan_from_space_mm=scan_from_mni_mm, centre_mm=template_centre_mm())
        return replace(scan, placement=placement).noting(scan_from_mni_mm=scan_from_mni_mm.tolist())

    def describe(self, settings: AlignmentSettings) -> str:
        """To where."""
        return f"{settings.kind} alignment to MNI152"
