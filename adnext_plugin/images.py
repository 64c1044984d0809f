"""Reading scans. The one place where NIfTI's x, y, z order becomes the z, y, x order used everywhere else."""

import logging
import math
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.spatialimages import HeaderDataError, SpatialImage
from scipy import ndimage

from adnext_plugin.errors import ImageError

# what nibabel raises on damaged headers and bodies; a header may also claim more voxels than memory could hold
UNREADABLE = (OSError, EOFError, ValueError, OverflowError, MemoryError, zlib.error, ImageFileError, HeaderDataError)
# it prints what it works around in a header, and once more what it raises
logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)

# beyond these a header is damaged, and believing it would take any amount of memory
MOST_VOXELS = 1 << 30
MOST_GAIN = {".nii": 1, ".gz": 1032, ".mgz": 1032}  # bytes of voxels per byte of a file; gzip can do no better
MOST_EXTENT_MM, LEAST_VOXEL_MM = 1000.0, 0.01


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A scan in memory.

    `volume_zyx` holds intensities, (Z, Y, X), float32. `affine` is NIfTI's 4×4 matrix from voxel indices in
    **x, y, z** order to millimetres (RAS+ world).
    """

    volume_zyx: np.ndarray
    affine: np.ndarray

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Edge lengths of a voxel in z, y, x order."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(z), float(y), float(x))


def read_volume(path: Path) -> Volume:
    """Read one 3D scan in the file's own orientation and refuse what no later stage could use.

    Raises:
        ImageError: the file is missing, cut short or not an image; it is not 3D; voxels are NaN or infinite, or all
            equal; the affine cannot be inverted; the header claims what no scan of a head can be.
    """
    if not path.is_file():
        raise ImageError(f"{path} does not exist; check the path in your table")
    try:
        image = nibabel.load(path)
        shape = _check_shape(image, path)
        with np.errstate(all="ignore"):  # what does not fit is infinite, and named below
            volume_xyz = np.asarray(image.get_fdata(dtype=np.float32, caching="unchanged")).reshape(shape)
    except UNREADABLE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImageError(
            f"{path} cannot be read ({reason}); the file is damaged or not NIfTI, fetch it again"
        ) from error
    _check_intensities(volume_xyz, path)
    volume = Volume(volume_zyx=np.ascontiguousarray(volume_xyz.T), affine=np.asarray(image.affine, dtype=np.float64))
    _check_affine(volume, path)
    return volume


def reorient_to_ras(volume: Volume) -> Volume:
    """Flip and swap axes so that z, y, x run to superior, anterior, right; no voxel is interpolated."""
    image = nibabel.as_closest_canonical(nibabel.Nifti1Image(volume.volume_zyx.T, volume.affine))
    return Volume(volume_zyx=np.ascontiguousarray(np.asarray(image.dataobj).T), affine=image.affine)


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


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, as `sha256sum` prints it."""
    digest = sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _check_shape(image: SpatialImage, path: Path) -> tuple[int, ...]:
    """The shape without trailing axes of length 1; checked before any voxel is read."""
    shape = image.shape
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise ImageError(f"{path} has shape {shape}, but one 3D volume is needed; extract it first")
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


def _check_intensities(volume_xyz: np.ndarray, path: Path) -> None:
    if volume_xyz.size == 0:
        raise ImageError(f"{path} is empty: shape {volume_xyz.shape}")
    bad_voxels = int(volume_xyz.size - np.isfinite(volume_xyz).sum())
    if bad_voxels:
        raise ImageError(f"{path} has {bad_voxels} NaN or infinite voxels; replace them or exclude the scan")
    if volume_xyz.min() == volume_xyz.max():
        raise ImageError(f"{path} is constant: every voxel is {volume_xyz.flat[0]:g}; exclude the scan")
