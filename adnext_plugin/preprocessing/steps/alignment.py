"""Finding where a brain lies in MNI152 space; `fit` then takes it there."""

from dataclasses import replace
from typing import ClassVar

from adnext_plugin.choices import AlignmentKind
from adnext_plugin.preprocessing.grid.warp import Warp
from adnext_plugin.preprocessing.step import Placement, Scan, Step
from adnext_plugin.records import record


@record
class AlignmentSettings:
    """Six parameters, twelve, or (`quick`) twelve in steps of 4 mm, only where the header does not say them.

    `nonlinear` is `quick` and then a warp.
    """

    kind: AlignmentKind = "rigid"


class Alignment(Step):
    """Registration of the first channel (`preprocessing/alignment.py`, `preprocessing/anatomy/placing.py`)."""

    name: ClassVar[str] = "alignment"
    version: ClassVar[int] = 1
    settings_type: ClassVar[type] = AlignmentSettings

    def apply(self, scan: Scan, settings: AlignmentSettings) -> Scan:
        """The scan with its placement; voxels are left alone.

        Raises:
            ImageError: the registration failed, or, of `quick`, what it found does not look like the template; or, of
                `nonlinear`, it is no T1-weighted brain.
        """
        from adnext_plugin.preprocessing.alignment import align_to_mni152, template_centre_mm
        from adnext_plugin.preprocessing.anatomy.placing import place_in_mni152

        warp: Warp | None = None
        if settings.kind in ("quick", "nonlinear"):
            placed = place_in_mni152(scan.volume)
            scan = scan.noting(overlap=float(placed.overlap), likeness=placed.likeness)
            scan_from_mni_mm = placed.scan_from_mni_mm
            if settings.kind == "nonlinear":
                from adnext_plugin.preprocessing.anatomy.warping import warp_to_mni152

                warped = warp_to_mni152(placed)
                scan, warp = scan.noting(**warped.figures), warped.warp
        else:
            scan_from_mni_mm = align_to_mni152(scan.volume, settings.kind)
        placement = Placement(scan_from_space_mm=scan_from_mni_mm, centre_mm=template_centre_mm(), warp=warp)
        return replace(scan, placement=placement).noting(scan_from_mni_mm=scan_from_mni_mm.tolist())

    def describe(self, settings: AlignmentSettings) -> str:
        """To where."""
        if settings.kind == "quick":
            return "affine alignment to MNI152 in steps of 4 mm, where the header does not say it, checked"
        if settings.kind == "nonlinear":
            return "non-linear alignment to MNI152 (demons on tissues, after an affine one), checked"
        return f"{settings.kind} alignment to MNI152"
