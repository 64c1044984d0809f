"""The whole brain of MNI152 in parcels that a reader knows by name, each voxel in one; made of the built-in regions."""

from collections.abc import Mapping

import numpy as np

from adnext_plugin.preprocessing.anatomy.regions import built_in_regions
from adnext_plugin.preprocessing.anatomy.template import GRID, SHAPE_ZYX, SPACING_MM, mni152

POLE_FROM_Y_MM = 6  # the temporal lobe in front of it is its pole: centroids of AAL's parts of it lie at y = 15
OTHERS = "cerebellum, brain stem and rest"


def parcels() -> Mapping[str, np.ndarray]:
    """Masks on the template's grid of 2 mm, (Z, Y, X), by names such as "hippocampus left".

    Small regions come first: a voxel is in the first region that has at least half of it. What is in none, cerebellum
    and brain stem for the most part, is a parcel, too.
    """
    y_mm = (np.arange(SHAPE_ZYX[1]) * SPACING_MM + GRID[1, 3])[None, :, None]
    free = mni152().mask.copy()
    found = {}
    for name, share in built_in_regions().items():
        region, side = name.rsplit("_", 1)
        inside = (share >= 0.5) & free
        free &= ~inside
        if region == "temporal_lobe":
            found[f"temporal pole {side}"] = inside & (y_mm > POLE_FROM_Y_MM)
            inside = inside & (y_mm <= POLE_FROM_Y_MM)
        found[f"{region.replace('_', ' ')} {side}"] = inside
    return found | {OTHERS: free}
