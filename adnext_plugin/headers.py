"""What an image's header leaves open or says twice. One reading for training and prediction.

Nothing in the voxels shows that a header is wrong: a head of 0.8 times its size is still a head, and its mirror image,
too. So it is said when scans are imported and predicted, and the import refuses what has no safe reading.
"""

import errno
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal, cast, get_args

import nibabel
import numpy as np
from nibabel.analyze import AnalyzeHeader
from nibabel.freesurfer.mghformat import MGHHeader
from nibabel.nifti1 import Nifti1Header, Nifti1Image
from nibabel.spatialimages import SpatialImage

Kind = Literal["size", "pixdim", "orientation", "no-orientation", "tilted", "complex", "nan-background"]

KINDS: tuple[Kind, ...] = get_args(Kind)
TILT_LIMIT_DEGREES = 30.0  # beyond it, it becomes a matter of taste which axis is called left to right
SIZE_TOLERANCE = 0.01  # rounding of a header's numbers is far below, a head in other millimetres far above


@dataclass(frozen=True, kw_only=True)
class Doubt:
    """Something that a header leaves open; `text` says what it is and which reading was taken.

    Where `has_safe_reading` is False the user must have looked: `--accept KIND`.
    """

    kind: Kind
    text: str
    has_safe_reading: bool


def header_doubts(image: SpatialImage) -> tuple[Doubt, ...]:
    """What is doubtful about the header of a readable image; no voxel is read, and nothing is mended."""
    header = image.header
    found: list[Doubt] = []
    if isinstance(header, Nifti1Header):
        found += _of_nifti(cast(Nifti1Image, image))
    elif isinstance(header, AnalyzeHeader) or (isinstance(header, MGHHeader) and int(header["goodRASFlag"]) < 1):
        found += _no_orientation()
    with np.errstate(all="ignore"):  # an affine that cannot be inverted is refused by whoever reads the voxels
        tilt = float(np.degrees(nibabel.affines.obliquity(image.affine).max()))
    if tilt > TILT_LIMIT_DEGREES:
        text = f"orientation: the axes are tilted by {tilt:.0f} degrees and were taken as they lie"
        found.append(Doubt(kind="tilted", text=text, has_safe_reading=True))
    if image.get_data_dtype().kind == "c":
        text = "voxels: they are complex numbers, whose magnitude was taken"
        found.append(Doubt(kind="complex", text=text, has_safe_reading=True))
    return tuple(found)


def file_doubts(path: Path) -> tuple[Doubt, ...]:
    """The same of a file, and whether its background is NaN.

    Raises:
        Exception: whatever a reader of images raises about a damaged file.
    """
    if not path.is_file():  # a pipe would never end
        raise FileNotFoundError(errno.ENOENT, "it is not a file", str(path))
    image = cast(SpatialImage, nibabel.load(path))
    doubts = header_doubts(image)
    if image.get_data_dtype().kind != "f":
        return doubts
    ends = [image.dataobj[corner] for corner in product(*((0, size - 1) for size in image.shape))]
    return (*doubts, nan_background()) if np.isnan(ends).all() else doubts


def nan_background() -> Doubt:
    """What is said of a scan whose background is NaN."""
    return Doubt(
        kind="nan-background", text="voxels: the background is NaN, and was taken for 0", has_safe_reading=True
    )


def _of_nifti(image: Nifti1Image) -> list[Doubt]:
    header: Any = image.header
    has_qform, has_sform = int(header["qform_code"]) > 0, int(header["sform_code"]) > 0
    sizes_mm = raw_sizes_mm(image)
    affine_mm = np.linalg.norm(image.affine[:3, :3], axis=0)
    found = []
    if not (sizes_mm > 0).all():  # nibabel takes 1 mm where the file says 0
        found.append(_pixdim(sizes_mm, affine_mm, has_sform=has_sform))
    elif has_sform and (np.abs(affine_mm / sizes_mm - 1) > SIZE_TOLERANCE).any():
        text = f"size: voxels are of {_mm(affine_mm)} by the sform (used) and of {_mm(sizes_mm)} by pixdim"
        found.append(Doubt(kind="size", text=text, has_safe_reading=False))
    if not (has_qform or has_sform):
        return [*found, *_no_orientation()]
    if has_qform and has_sform:
        sform, qform = ("".join(map(str, nibabel.aff2axcodes(form))) for form in (image.get_sform(), image.get_qform()))
        if sform != qform:
            text = f"orientation: the header says both {sform} (sform, used) and {qform} (qform)"
            found.append(Doubt(kind="orientation", text=text, has_safe_reading=False))
    return found


def _pixdim(sizes_mm: np.ndarray, affine_mm: np.ndarray, *, has_sform: bool) -> Doubt:
    text = f"size: pixdim says {_mm(sizes_mm)}, so that {_mm(affine_mm)} were taken" + (
        " from the sform" if has_sform else ""
    )
    return Doubt(kind="pixdim", text=text, has_safe_reading=has_sform)


def _no_orientation() -> list[Doubt]:
    text = "orientation: the header does not say it, so left and right may be exchanged"
    return [Doubt(kind="no-orientation", text=text, has_safe_reading=True)]


def raw_sizes_mm(image: SpatialImage) -> np.ndarray:
    """The voxel's edges as the file has them, in x, y, z order; nibabel's header has 1 where this has 0."""
    holder = image.file_map.get("header") or image.file_map["image"]
    with holder.get_prepare_fileobj("rb") as stream:
        reader: Any = type(image.header)
        raw = reader.from_fileobj(stream, check=False)
    return np.abs(np.asarray(raw["pixdim"][1:4], dtype=np.float64))


def _mm(sizes: np.ndarray) -> str:
    return " × ".join(f"{size:.4g}" for size in sizes) + " mm"
