"""What a step of preprocessing is, and the scan that steps hand on.

A plan names steps in an order (`chain.py`). Each is a class declared under the entry points `adnext.steps`. A `Step`
makes another scan of one scan; a `FittedStep` first learns from the training part of a fold, so that what it makes of a
scan differs between folds and is made when the scan is loaded.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from adnext_plugin.errors import ImageError
from adnext_plugin.images import Volume
from adnext_plugin.preprocessing.grid.warp import Warp
from adnext_plugin.records import record

State = Mapping[str, np.ndarray]


@record
class NoSettings:
    """Of a step that leaves no choice."""


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where a standard space lies in a scan.

    `scan_from_space_mm` is a 4×4 matrix from millimetres of the space to millimetres of the scan, both RAS+ world
    (x, y, z). `centre_mm` (x, y, z) is the middle of the network's grid in the space. `warp` comes before the matrix
    where a non-linear alignment was made.
    """

    scan_from_space_mm: np.ndarray
    centre_mm: np.ndarray
    warp: Warp | None = None


@dataclass(frozen=True, kw_only=True)
class Scan:
    """A scan on its way to the network's input.

    `image_czyx` holds intensities, (C, Z, Y, X), one channel a sequence or a tissue, background 0; `affine` is NIfTI's
    4×4 matrix from voxel indices in **x, y, z** order to millimetres. The first `images` channels were read from files,
    one each, and steps have made the others; one that is 0 everywhere is of an image that the person does not have. Up
    to the step `fit`, which interpolates, voxels are the scan's own: a step that moves a brain says where to in
    `placement`. The channels whose places are in `modulated` hold shares that keep their sum: steps have multiplied
    them by the volume change of the placement's matrix, and `fit` does by that of its warp. `mask_file` is the mask of
    the brain, on the grid of the file, where the scan has a skull. `notes` are what steps have found, plain numbers,
    texts and lists; they are stored beside the prepared case.
    """

    image_czyx: np.ndarray
    affine: np.ndarray
    mask_file: Path | None = None
    placement: Placement | None = None
    images: int = 1
    modulated: tuple[int, ...] = ()
    notes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, volume: Volume, mask_file: Path | None = None, further: Sequence[Volume] = ()) -> "Scan":
        """A scan as read from its file, or from several on one grid, of which each becomes a channel."""
        if not further:
            return cls(image_czyx=volume.volume_zyx[None], affine=volume.affine, mask_file=mask_file)
        image_czyx = np.stack([volume.volume_zyx, *(other.volume_zyx for other in further)])
        return cls(image_czyx=image_czyx, affine=volume.affine, mask_file=mask_file, images=len(image_czyx))

    @property
    def volume(self) -> Volume:
        """The first channel."""
        return self.with_voxels(self.image_czyx[0])

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel in z, y, x order."""
        return self.volume.spacing_mm

    def with_voxels(self, volume_zyx: np.ndarray) -> Volume:
        """Intensities (Z, Y, X) in the scan's place."""
        return Volume(volume_zyx=volume_zyx, affine=self.affine)

    def with_channels(self, image_czyx: np.ndarray) -> "Scan":
        """The scan with other channels, (C, Z, Y, X), on the same grid.

        The first is the one that later steps look at to crop and to align, and that baselines and contact sheets show.
        """
        return replace(self, image_czyx=image_czyx)

    def changed(self, change: Callable[[np.ndarray], np.ndarray]) -> "Scan":
        """The scan with each channel, (Z, Y, X), replaced by what `change` makes of it.

        What is after the first and 0 everywhere stays so.
        """
        first, *others = self.image_czyx
        return replace(self, image_czyx=np.stack([change(first), *(change(o) if o.any() else o for o in others)]))

    def noting(self, **notes: Any) -> "Scan":
        """The scan with further notes."""
        return replace(self, notes={**self.notes, **notes})


def refuse_emptied(before: Scan, after: Scan) -> None:
    """Refuse images of which nothing is left where the first has its brain.

    Raises:
        ImageError: there is such an image.
    """
    for place in range(1, before.images):
        if before.image_czyx[place].any() and not after.image_czyx[place].any():
            raise ImageError(
                f"image {place} of it (file ..._{place:04d}) is 0 wherever the first has its brain; are both of one "
                "person, and on one grid?"
            )


class AnyStep(ABC):
    """What both kinds of steps have.

    `name` is that of the entry point. `version` is to be raised whenever the step gives other voxels than before: cases
    prepared with another version are prepared again. `settings_type` is a record (`adnext_plugin.records.record`) with
    a default for every field; a plan gives other values.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    settings_type: ClassVar[type] = NoSettings

    @abstractmethod
    def describe(self, settings: Any) -> str:
        """What is done to a scan, in words that complete "Every scan: ...", for reports and model cards."""


class Step(AnyStep):
    """Makes another scan of a scan; a function of that scan and the settings alone.

    `after` is the step of every plan that it follows, unless a plan says otherwise.

    A step may make several channels of one, such as maps of tissues beside the scan: `apply` gives
    `scan.with_channels(...)`, and `channels` says what they are called. From there on each is clipped, brought to mean
    0 and deviation 1, and interpolated by itself. Networks get as many input channels, in this order.
    """

    after: ClassVar[str] = "crop"

    def channels(self, names: tuple[str, ...], settings: Any) -> tuple[str, ...]:
        """What the channels of its scan are called, in their order, of those of the scan that it is given."""
        return names

    @abstractmethod
    def apply(self, scan: Scan, settings: Any) -> Scan:
        """The changed scan; the given one is not modified, and its voxels are not interpolated.

        Raises:
            ImageError: the scan is unusable. The case is reported and left out.
        """


class FittedStep(AnyStep):
    """Learns from the training part of a fold and then changes every scan, prepared to the network's input size."""

    @abstractmethod
    def fit(self, training: Sequence[np.ndarray], settings: Any) -> State:
        """Learn.

        Args:
            training: prepared images (C, Z, Y, X) float32 of the fold's training part and of no others, read from the
                disk when asked for.
            settings: of `settings_type`.

        Returns:
            Arrays by name. They are kept with the fold's checkpoints and travel in bundles, so that no array may be of
            any one person. The same images must give the same arrays: `adnext_audit` fits again and compares.
        """

    @abstractmethod
    def apply(self, image_czyx: np.ndarray, settings: Any, state: State) -> np.ndarray:
        """The changed image, of the same shape; the given one is not modified.

        Args:
            image_czyx: a prepared image, float32.
            settings: of `settings_type`.
            state: what `fit` has returned for this fold.
        """
