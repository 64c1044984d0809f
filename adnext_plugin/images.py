"""Reading scans. The one place where NIfTI's x, y, z order becomes the z, y, x order used everywhere else."""

import errno
import logging
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import cast

import nibabel
import numpy as np
from nibabel.spatialimages import SpatialImage
from scipy import ndimage

from adnext_plugin.errors import ImageError
from adnext_plugin.files import not_fetched
from adnext_plugin.headers import Doubt, header_doubts, nan_background

# it prints what it works around in a header, and once more what it raises
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
# a change of ten years ago, told at every call
warnings.filterwarnings("ignore", "The behavior of affine_transform with a 1-D array", UserWarning)

# beyond these a header is damaged, and believing it would take any amount of memory
MOST_VOXELS = 1 << 30
FWHM_OF_SIGMA = 2.3548  # full width at half maximum of a Gaussian, in standard deviations
BACKWARDS = np.eye(4)[[2, 1, 0, 3]]  # x, y, z to z, y, x and back
MOST_GAIN = {".nii": 1, ".gz": 1032, ".mgz": 1032}  # bytes of voxels per byte of a file; gzip can do no better
FEWEST_SLICES = 5  # fewer are a slice, or the three planes of a localizer
MOST_EXTENT_MM, LEAST_VOXEL_MM = 1000.0, 0.01


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A scan in memory.

    `volume_zyx` holds intensities, (Z, Y, X), float32. `affine` is NIfTI's 4×4 matrix from voxel indices in
    **x, y, z** order to millimetres (RAS+ world). `doubts` are what the file leaves open.
    """

    volume_zyx: np.ndarray
    affine: np.ndarray
    doubts: tuple[Doubt, ...] = ()

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel in z, y, x order."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(z), float(y), float(x))


def read_volume(path: Path, *, may_be_empty: bool = False) -> Volume:
    """Read one 3D scan in the file's own orientation and refuse what no later stage could use.

    Of complex voxels the magnitude is taken; where the background is NaN and the rest is finite, NaN becomes 0.

    Args:
        path: of the file.
        may_be_empty: all voxels may be 0, as of a channel that stands in for an image which a person does not have.

    Raises:
        ImageError: the file is missing, was not fetched, is cut short or not an image; it is not 3D, one slice or in
            colours; voxels are NaN or infinite, or all equal; the affine cannot be inverted; the header claims what no
            scan of a head can be.
    """
    if reason := not_fetched(path):
        raise ImageError(f"{path} {reason}")
    if not path.is_file():
        raise ImageError(f"{path} does not exist; check the path in your table")
    try:
        image = cast(SpatialImage, nibabel.load(path))
        shape = _check_shape(image, path)
        doubts = header_doubts(image)
        volume_xyz = _intensities(image).reshape(shape)
        affine = np.asarray(image.affine, dtype=np.float64)
    except ImageError:
        raise
    # readers of a dozen formats have errors of their own about damaged files: KeyError, TypeError, struct.error, ...
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImageError(
            f"{path} cannot be read ({reason}); the file is damaged or not NIfTI, fetch it again"
        ) from error
    if _has_nan_background(volume_xyz):
        volume_xyz = np.nan_to_num(volume_xyz, copy=True, nan=0.0, posinf=np.inf, neginf=-np.inf)
        doubts = (*doubts, nan_background())
    _check_intensities(volume_xyz, path, may_be_empty)
    volume = Volume(volume_zyx=np.ascontiguousarray(volume_xyz.T), affine=affine, doubts=doubts)
    _check_affine(volume, path)
    return volume


def reorient_to_ras(volume: Volume) -> Volume:
    """Flip and swap axes so that z, y, x run to superior, anterior, right; no voxel is interpolated."""
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(volume.volume_zyx.T, volume.affine))
    volume_zyx = np.ascontiguousarray(np.asarray(image.dataobj).T)
    return Volume(volume_zyx=volume_zyx, affine=image.affine, doubts=volume.doubts)


def foreground(volume_zyx: np.ndarray) -> np.ndarray:
    """Mask of what is not background: intensities above 0, or other than 0 in a scan that has negative ones."""
    return volume_zyx != 0 if volume_zyx.min() < 0 else volume_zyx > 0


def foreground_box(volume_zyx: np.ndarray) -> tuple[slice, slice, slice]:
    """The smallest box that holds the foreground.

    Raises:
        ImageError: there is none.
    """
    mask = foreground(volume_zyx)
    if not mask.any():
        raise ImageError("the scan has no foreground: no intensity is above 0")
    return ndimage.find_objects(mask.view(np.uint8))[0]


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest part whose voxels share faces; an empty mask stays empty."""
    labels, parts = ndimage.label(mask)
    if parts == 0:
        return mask
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])


def centre(have: Sequence[int], want: Sequence[int]) -> tuple[slice, ...]:
    """The middle of an image of one size in voxels, of another size, as MONAI's CenterSpatialCrop cuts it."""
    starts = [max(size // 2 - cut // 2, 0) for size, cut in zip(have, want, strict=True)]
    return tuple(slice(start, start + cut) for start, cut in zip(starts, want, strict=True))


def looked_up(
    values_zyx: np.ndarray, voxel_from_voxel_xyz: np.ndarray, shape: Sequence[int], order: int = 1
) -> np.ndarray:
    """Values on another grid, float32; 0 outside of their own.

    Args:
        values_zyx: (Z, Y, X).
        voxel_from_voxel_xyz: 4×4, from voxels (x, y, z) of the other grid to those of `values_zyx`.
        shape: (Z, Y, X) of the other grid.
        order: 0 for the nearest voxel, 1 for linear interpolation.
    """
    matrix = BACKWARDS @ voxel_from_voxel_xyz @ BACKWARDS
    found = np.zeros(tuple(shape), dtype=np.float32)
    box = _reached(values_zyx != 0, matrix, shape)
    if box is not None:
        starts = [part.start for part in box]
        turn = matrix[:3, :3]
        edges = np.diag(turn)
        ndimage.affine_transform(
            values_zyx.astype(np.float32),
            # along the axes in a third less time; the nearest voxel is chosen one way, whether or not a grid is turned
            edges.copy() if order == 1 and (turn == np.diag(edges)).all() else turn,
            turn @ starts + matrix[:3, 3],
            output=found[box],
            output_shape=found[box].shape,
            order=order,
            mode="grid-constant",
        )
    return found


def _reached(filled: np.ndarray, matrix: np.ndarray, shape: Sequence[int]) -> tuple[slice, ...] | None:
    """The box of another grid outside of which nothing filled is seen; None where nothing is.

    Args:
        filled: (Z, Y, X).
        matrix: 4×4, from voxels of the other grid to those of `filled`.
        shape: of the other grid.
    """
    inner = ndimage.find_objects(filled.view(np.uint8))
    if not inner:
        return None
    # a voxel is seen from less than one voxel away
    corners = np.array([[*corner, 1] for corner in product(*[(part.start - 1, part.stop) for part in inner[0]])])
    there = (np.linalg.inv(matrix) @ corners.T)[:3]
    first = np.maximum(np.floor(there.min(axis=1)).astype(int), 0)
    last = np.minimum(np.ceil(there.max(axis=1)).astype(int) + 1, shape)
    return tuple(slice(start, stop) for start, stop in zip(first, last, strict=True)) if (first < last).all() else None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as `sha256sum` prints it."""
    if not path.is_file():  # a pipe would never end
        raise FileNotFoundError(errno.ENOENT, "it is not a file", str(path))
    digest = sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _intensities(image: SpatialImage) -> np.ndarray:
    """Voxels in x, y, z order, float32."""
    with np.errstate(all="ignore"):  # what does not fit is infinite, and named below
        if image.get_data_dtype().kind == "c":
            return np.abs(np.asarray(image.dataobj)).astype(np.float32)
        return np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged"))


def _has_nan_background(volume_xyz: np.ndarray) -> bool:
    """Whether all eight corners are NaN; one NaN somewhere is a fault of the scan."""
    if volume_xyz.size == 0:
        return False
    return all(np.isnan(volume_xyz[corner]) for corner in product((0, -1), repeat=3))


def _check_shape(image: SpatialImage, path: Path) -> tuple[int, ...]:
    """The shape without trailing axes of length 1; checked before any voxel is read."""
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise ImageError(f"{path} has shape {shape}, but one 3D volume is needed; extract it first")
    if image.get_data_dtype().fields is not None:
        raise ImageError(f"{path} has colours (RGB), not intensities; it is a picture made of a scan, give the scan")
    if 0 < min(shape) < FEWEST_SLICES:
        raise ImageError(
            f"{path} has {' × '.join(map(str, shape))} voxels, a few slices of a head; give the whole scan or leave it "
            "out"
        )
    voxels = math.prod(shape)
    claimed_bytes, file_bytes = voxels * image.get_data_dtype().itemsize, path.stat().st_size
    if voxels > MOST_VOXELS or claimed_bytes > MOST_GAIN.get(path.suffix.lower(), math.inf) * file_bytes:
        raise ImageError(
            f"{path} has {file_bytes} bytes, but its header claims {' × '.join(map(str, shape))} voxels; the file is "
            "damaged, fetch it again"
        )
    return shape


def _check_affine(volume: Volume, path: Path) -> None:
    affine = volume.affine
    if (
        not np.isfinite(affine).all()
        or abs(np.linalg.det(affine[:3, :3])) < 1e-9
        or np.isnan(nibabel.io_orientation(affine)).any()
    ):
        raise ImageError(f"{path} has an affine that cannot be inverted; repair the header (qform/sform)")
    extent_mm = np.multiply(volume.spacing_mm, volume.volume_zyx.shape)
    if max(extent_mm) > MOST_EXTENT_MM or min(volume.spacing_mm) < LEAST_VOXEL_MM:
        sizes = " × ".join(f"{size:g}" for size in volume.spacing_mm[::-1])
        raise ImageError(
            f"{path} has voxels of {sizes} mm, {max(extent_mm):g} mm in all, which is no head; repair the header "
            "(pixdim, qform, sform)"
        )


def _check_intensities(volume_xyz: np.ndarray, path: Path, may_be_empty: bool) -> None:
    if volume_xyz.size == 0:
        raise ImageError(f"{path} is empty: shape {volume_xyz.shape}")
    bad_voxels = int(volume_xyz.size - np.isfinite(volume_xyz).sum())
    if bad_voxels:
        raise ImageError(f"{path} has {bad_voxels} NaN or infinite voxels; replace them or exclude the scan")
    if volume_xyz.min() == volume_xyz.max() and not (may_be_empty and volume_xyz.flat[0] == 0):
        raise ImageError(f"{path} is constant: every voxel is {volume_xyz.flat[0]:g}; exclude the scan")
