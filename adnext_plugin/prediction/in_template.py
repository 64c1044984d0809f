"""Maps of cases over the template's brain: by the alignment of preprocessing, or by one that is found now."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from adnext_plugin.case_properties import CaseProperties
from adnext_plugin.errors import SettingsError
from adnext_plugin.explanations.region_table import region_means, relative
from adnext_plugin.explanations.regions import Region
from adnext_plugin.explanations.template import over_template
from adnext_plugin.images import Volume

# by the plan's alignment; scans lie in MNI152 already; prepared scans are aligned now, with 12 parameters
Way = Literal["aligned", "scans", "register"]
WAYS: tuple[Way, ...] = ("aligned", "scans", "register")


@dataclass(frozen=True, kw_only=True, eq=False)
class InTemplate:
    """Where a case lies in MNI152, and the regions that maps are summed up over."""

    scan_from_mni_mm: np.ndarray
    affine: np.ndarray
    regions: Sequence[Region]

    def relative(self, map_zyx: np.ndarray) -> np.ndarray:
        """A map of the case over the template, in units of its mean size there."""
        return relative(over_template(map_zyx, self.affine, self.scan_from_mni_mm).volume_zyx)

    def profile(self, map_zyx: np.ndarray) -> np.ndarray:
        """Means of a map of the case in the regions, (R,)."""
        return region_means(self.relative(map_zyx), self.regions)


def place(
    way: Way,
    properties: CaseProperties,
    image_zyx: np.ndarray,
    affine: np.ndarray,
    regions: Sequence[Region],
    case: str,
) -> InTemplate:
    """Find where a case lies.

    Args:
        way: how.
        properties: of the prepared case.
        image_zyx: the network's input.
        affine: of that grid, to millimetres of the scan.
        regions: of the template.
        case: its name, for messages.

    Raises:
        SettingsError: it was prepared without alignment, and that is the way.
        ImageError: the registration failed.
    """
    if way == "register":
        from adnext_plugin.preprocessing.alignment import align_to_mni152

        scan_from_mni_mm = align_to_mni152(Volume(volume_zyx=image_zyx.astype(np.float32), affine=affine), "affine")
    elif way == "scans":
        scan_from_mni_mm = np.eye(4)
    elif properties.scan_from_mni_mm is not None:
        scan_from_mni_mm = np.array(properties.scan_from_mni_mm, dtype=float)
    else:
        raise SettingsError(
            f"case {case} was prepared without alignment to MNI152; give --mni register to align it now, or --mni "
            "scans if all scans lie in that space already"
        )
    return InTemplate(scan_from_mni_mm=scan_from_mni_mm, affine=affine, regions=regions)
