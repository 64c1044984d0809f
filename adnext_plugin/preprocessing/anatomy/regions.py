"""Regions of MNI152 space, and the volumes of grey matter and fluid in them.

The built-in regions are made of published coordinates, so that they may be shipped. They are coarse on purpose: at 2 mm
and with an affine alignment no finer border would be true.
- Those of the medial temporal lobes, where Alzheimer's disease begins (Braak and Braak 1991, Acta Neuropathol 82:239),
  are ellipsoids around the centroids of hippocampus, amygdala and parahippocampal gyrus of Tzourio-Mazoyer et al. 2002,
  NeuroImage 15:273, along the extent of the hippocampus of Pruessner et al. 2000, Cereb Cortex 10:433, rounded.
- Ventricles are where the template has neither grey nor white matter in the middle of the brain, with a margin.
- Lobes are cut by planes along the lateral, central and parieto-occipital sulcus (Talairach and Tournoux 1988). They
  are sectors of the cerebrum rather than lobes to the voxel.

A labelled atlas of the user's own can take the place of all of them.
"""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from scipy.ndimage import binary_dilation, find_objects

from adnext_plugin.atlas import masks_of_atlas
from adnext_plugin.errors import TableError
from adnext_plugin.preprocessing.anatomy.template import GRID, SHAPE_ZYX, SPACING_MM, mni152
from adnext_plugin.preprocessing.anatomy.tissues import Tissues

SUBVOXELS = (-1 / 3, 0, 1 / 3)  # along each axis: a voxel at a border counts by its share inside
VOXEL_ML = SPACING_MM**3 / 1000
VENTRICLE_MARGIN_VOXELS = 2


@dataclass(frozen=True, kw_only=True)
class Ellipsoid:
    """Of the right side, x > 0; that of the left side is its mirror image. Both in MNI mm, x, y, z."""

    centre_mm: tuple[float, float, float]
    half_axes_mm: tuple[float, float, float]


MEDIAL_TEMPORAL: Mapping[str, tuple[Ellipsoid, ...]] = {
    "hippocampus": (
        Ellipsoid(centre_mm=(25, -12, -20), half_axes_mm=(9, 7, 7)),
        Ellipsoid(centre_mm=(29, -23, -13), half_axes_mm=(7, 9, 8)),
        Ellipsoid(centre_mm=(28, -36, -5), half_axes_mm=(8, 8, 8)),
    ),
    "amygdala": (Ellipsoid(centre_mm=(23, -3, -19), half_axes_mm=(8, 7, 8)),),
    "entorhinal": (Ellipsoid(centre_mm=(22, -9, -31), half_axes_mm=(8, 10, 6)),),
    "parahippocampal": (Ellipsoid(centre_mm=(25, -28, -19), half_axes_mm=(8, 12, 6)),),
    "temporal_horn": (Ellipsoid(centre_mm=(34, -13, -20), half_axes_mm=(5, 11, 7)),),
}
SIDES = (("left", -1), ("right", 1))


@functools.cache
def built_in_regions() -> dict[str, np.ndarray]:
    """Shares of the template's voxels, (Z, Y, X), that lie in each built-in region, by name and side."""
    found = {}
    for name, ellipsoids in MEDIAL_TEMPORAL.items():
        for side, sign in SIDES:
            found[f"{name}_{side}"] = np.max([_ellipsoid(one, sign) for one in ellipsoids], axis=0)
    x, _, _ = _millimetres()
    for name, inside in (("ventricles", _ventricles()), *_lobes()):
        for side, sign in SIDES:
            found[f"{name}_{side}"] = (inside & (sign * x > 0)).astype(np.float32)
    return found


@functools.cache
def regions_of_atlas(atlas: Path, labels: Path) -> dict[str, np.ndarray]:
    """Regions of an atlas in MNI152 space, on the template's grid by nearest neighbour.

    Args:
        atlas, labels: as `masks_of_atlas` takes them.

    Raises:
        ImageError: the atlas cannot be read.
        SettingsError: it is no atlas of labels.
        PathsError: there is no such table.
        TableError: the table lacks a column, or names a label that the atlas has not.
    """
    regions = {}
    for name, inside in masks_of_atlas(atlas, labels, GRID, SHAPE_ZYX):
        if not inside.any():
            raise TableError(f"{labels}: {atlas} has no voxel of {name!r}; take the row out, or give its own table")
        regions[name] = inside.astype(np.float32)
    return regions


def medial_temporal_volumes() -> tuple[str, ...]:
    """Names of the built-in volumes that change first in Alzheimer's disease; of temporal horns the fluid alone."""
    return tuple(
        f"{name}_{side}_{tissue}"
        for name in MEDIAL_TEMPORAL
        for side, _ in SIDES
        for tissue in (("fluid",) if name == "temporal_horn" else ("grey", "fluid"))
    )


def volumes_of(tissues: Tissues, regions: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Millilitres of grey matter and of fluid in each region, as `{region}_grey` and `{region}_fluid`.

    They are those of a head of the template's size, which the alignment makes of every head.

    Args:
        tissues: of a brain on the template's grid.
        regions: shares of voxels, by name.
    """
    found = {}
    for name, inside in regions.items():
        box = find_objects((inside > 0).astype(np.uint8))[0]
        for tissue, share in (("grey", tissues.grey), ("fluid", tissues.fluid)):
            found[f"{name}_{tissue}"] = float((share[box] * inside[box]).sum(dtype=np.float64) * VOXEL_ML)
    return found


def _millimetres() -> np.ndarray:
    """(3, Z, Y, X): x, y, z of the template's voxels."""
    indices_xyz = np.indices(SHAPE_ZYX, np.float32)[::-1]
    return indices_xyz * np.float32(SPACING_MM) + GRID[:3, 3].astype(np.float32)[:, None, None, None]


def _ellipsoid(region: Ellipsoid, sign: int) -> np.ndarray:
    centre = np.array(region.centre_mm) * [sign, 1, 1]
    low = np.floor((centre - region.half_axes_mm - GRID[:3, 3]) / SPACING_MM).astype(int) - 1
    high = np.ceil((centre + region.half_axes_mm - GRID[:3, 3]) / SPACING_MM).astype(int) + 2
    box = tuple(slice(*ends) for ends in zip(low[::-1], high[::-1], strict=True))
    places = _millimetres()[(slice(None), *box)]
    inside = np.zeros(places.shape[1:], np.float32)
    for step in product(SUBVOXELS, repeat=3):
        away = places + (np.array(step) * SPACING_MM - centre)[:, None, None, None]
        inside += ((away / np.array(region.half_axes_mm)[:, None, None, None]) ** 2).sum(axis=0) <= 1
    whole = np.zeros(SHAPE_ZYX, np.float32)
    whole[box] = inside / len(SUBVOXELS) ** 3
    return whole


def _ventricles() -> np.ndarray:
    template, (x, y, z) = mni152(), _millimetres()
    empty = template.mask & (template.grey + template.white < 0.5)
    middle = (x / 40) ** 2 + ((y + 18) / 52) ** 2 + ((z - 12) / 30) ** 2 < 1
    return binary_dilation(empty & middle, iterations=VENTRICLE_MARGIN_VOXELS)


def _lobes() -> Iterator[tuple[str, np.ndarray]]:
    x, y, z = _millimetres()
    is_cerebrum = mni152().wide_mask & ~((y < -30) & (z < -22 - (y + 60) / 3)) & ~((np.abs(x) < 18) & (z < -20))
    is_temporal = is_cerebrum & (np.abs(x) > 18) & (y > -62) & (y < 24) & (z < np.minimum(-y / 2, 18))
    is_occipital = is_cerebrum & ~is_temporal & (y < np.minimum(-62, -56 - 0.7 * z))
    is_frontal = is_cerebrum & ~is_temporal & (y > -5 - 0.42 * (z - 10))
    yield "frontal_lobe", is_frontal
    yield "parietal_lobe", is_cerebrum & ~is_temporal & ~is_occipital & ~is_frontal & (z > 0)
    yield "temporal_lobe", is_temporal
    yield "occipital_lobe", is_occipital
