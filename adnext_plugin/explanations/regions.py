"""Regions of the brain in MNI152 space: of an atlas that the user has, or of masks."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from adnext_plugin.atlas import masks_of_atlas
from adnext_plugin.errors import SettingsError
from adnext_plugin.images import looked_up
from adnext_plugin.mni152 import mni152

Side = Literal["left", "right"]
LEAST_VOXELS = 20  # of the template, 0.16 ml; what is smaller is hit by chance
BOTH_SIDES = 0.2  # share of a label on its smaller side, from which it is taken for a region of both
# of names such as "Left Amygdala", "Hippocampus_L", "ctx-lh-entorhinal"
SIDE_WORDS = re.compile(r"(?:^|(?<=[\s_.\-(]))(left|right|lh|rh|L|R)(?=$|[\s_.\-),])", re.IGNORECASE)
SIDES: Mapping[str, Side] = {"left": "left", "lh": "left", "l": "left", "right": "right", "rh": "right", "r": "right"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Region:
    """Of one side of the brain; two of one name are each other's counterpart. `voxels` are flat indices, template's."""

    name: str
    side: Side
    voxels: np.ndarray


def of_masks(masks: Mapping[str, np.ndarray], affine: np.ndarray) -> tuple[Region, ...]:
    """Regions of masks by name, (Z, Y, X) each, on any grid in MNI152 space; sides as `read_atlas` tells them.

    Args:
        masks: a side in a name ("hippocampus left") is taken for what it says.
        affine: of all masks, from voxels (x, y, z) to millimetres.
    """
    template = mni152()
    to_masks = np.linalg.inv(affine) @ template.affine
    return _regions(
        (name, looked_up(mask_zyx.astype(np.uint8), to_masks, template.brain_zyx.shape, order=0) > 0)
        for name, mask_zyx in masks.items()
    )


def read_atlas(atlas: Path, labels: Path) -> tuple[Region, ...]:
    """The regions of an atlas, cut to the template's brain; those of both sides of the brain are halved at x = 0.

    Args:
        atlas, labels: as `masks_of_atlas` takes them. A side in a name ("Left Amygdala", "Hippocampus_L") is taken for
            what it says.

    Raises:
        ImageError: the atlas cannot be read.
        SettingsError: it is no atlas, or lies elsewhere; or no region of it is in the table.
        PathsError, TableError: the table is missing, or is none.
    """
    template = mni152()
    found = _regions(masks_of_atlas(atlas, labels, template.affine, template.brain_zyx.shape))
    if not found:
        raise SettingsError(
            f"{atlas} has no region of {labels} within the brain of MNI152; is it in that space, and is the table its?"
        )
    return found


def _regions(masks: Iterable[tuple[str, np.ndarray]]) -> tuple[Region, ...]:
    """Of masks over the template, by name, what lies in its brain and is no speck."""
    found: list[Region] = []
    for name, mask_zyx in masks:
        voxels = np.flatnonzero(mask_zyx & mni152().brain_zyx)
        if len(voxels) >= LEAST_VOXELS:
            found += _sides(name, voxels)
    return tuple(found)


def _sides(name: str, voxels: np.ndarray) -> list[Region]:
    """A label as one region or, where it is on both sides, as two."""
    is_left = _x_mm(voxels) < 0
    if min(is_left.mean(), 1 - is_left.mean()) >= BOTH_SIDES:
        return _halves(name, voxels)
    said = SIDE_WORDS.search(name)
    side: Side = SIDES[said[1].lower()] if said else "left" if is_left.mean() > 0.5 else "right"
    plain = re.sub(r"^[\s_.\-,()]+|[\s_.\-,()]+$", "", SIDE_WORDS.sub("", name, count=1)) if said else name
    plain = re.sub(r"[\s_.\-]{2,}", "-", plain)
    return [Region(name=plain or name, side=side, voxels=voxels)]


def _halves(name: str, voxels: np.ndarray) -> list[Region]:
    is_left = _x_mm(voxels) < 0
    sides: tuple[tuple[Side, np.ndarray], ...] = (("left", voxels[is_left]), ("right", voxels[~is_left]))
    return [Region(name=name, side=side, voxels=some) for side, some in sides if len(some) >= LEAST_VOXELS]


def _x_mm(voxels: np.ndarray) -> np.ndarray:
    template = mni152()
    z, y, x = np.unravel_index(voxels, template.brain_zyx.shape)
    return np.column_stack([x, y, z]) @ template.affine[0, :3] + template.affine[0, 3]
