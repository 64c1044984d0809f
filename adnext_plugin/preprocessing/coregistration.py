"""Moving another image of a session to the first one's head: a rigid registration by SimpleITK, and one interpolation.

What was moved is kept under a key of the bytes of both files, so that an interrupted or repeated import does again only
what it must.
"""

from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import nibabel
import numpy as np
import SimpleITK as sitk  # noqa: N813  (the name everybody knows it by)
from scipy.ndimage import gaussian_filter

from adnext_plugin.errors import ImageError, PathsError
from adnext_plugin.files import read_json, replacing, write_json
from adnext_plugin.images import Volume, file_sha256, read_volume
from adnext_plugin.itk_threads import one_itk_thread
from adnext_plugin.preprocessing.alignment import Levels, itk_image, register, world_matrix
from adnext_plugin.preprocessing.grid.geometry import sample_oblique

VERSION = 1  # to be raised whenever an image is moved otherwise than before
COARSE_MM, BLUR_MM = 4.0, 4.0  # of the first level; the second is twice as fine
SAMPLED_SHARE, LEAST_STEP_MM = 0.25, 1e-3
# a head lies in one coil for all images of a session
MOST_TURN_DEGREES, MOST_SHIFT_MM = 45.0, 80.0
LEAST_SHARED = 0.5  # of the head that must lie in the moved image's field of view
BINS, COMPARED_MM = 48, 3.0


@dataclass(frozen=True, kw_only=True)
class CoregistrationJob:
    """Two images of a session, and the folder for what is made of the second."""

    first: Path
    moving: Path
    folder: Path


@dataclass(frozen=True, kw_only=True)
class Move:
    """How an image was moved: turned by so much about the head's middle, and shifted there.

    `likeness` and `likeness_before` are normalised mutual information (1 to 2) of both images within the first one's
    head, after and before. `shared` is the share of that head which the other image shows.
    """

    turn_degrees: float
    shift_mm: float
    likeness: float
    likeness_before: float
    shared: float


@dataclass(frozen=True, kw_only=True)
class Moved:
    """The moved image, on the first one's grid, how it was moved, and whether now."""

    image: Path
    move: Move
    is_new: bool


def coregister(job: CoregistrationJob) -> Moved:
    """Move an image, unless that has been done.

    Raises:
        ImageError: the registration failed, or cannot be believed; the message names the file.
    """
    key = sha256(repr((VERSION, file_sha256(job.first), file_sha256(job.moving))).encode()).hexdigest()[:32]
    image, record = job.folder / f"{key}.nii.gz", job.folder / f"{key}.json"
    try:
        content = read_json(record)
        if image.is_file() and file_sha256(image) == content["sha256"]:
            return Moved(image=image, move=Move(**content["move"]), is_new=False)
    except (PathsError, KeyError, TypeError):  # not there, or damaged: it is done again
        pass
    first, moving = read_volume(job.first), read_volume(job.moving)
    try:
        moved_zyx, move = moved_to(first, moving)
    except ImageError as error:
        raise ImageError(f"{job.moving} cannot be moved to {job.first}: {error}") from error
    with replacing(image) as temporary:
        nibabel.save(nibabel.Nifti1Image(moved_zyx.T, first.affine), temporary)
    write_json({"sha256": file_sha256(image), "move": asdict(move)}, record)
    return Moved(image=image, move=move, is_new=True)


def moved_to(first: Volume, moving: Volume) -> tuple[np.ndarray, Move]:
    """An image on the grid of the first, (Z, Y, X) float32, 0 beyond its own field of view; and how it was moved.

    Raises:
        ImageError: the registration failed, or cannot be believed.
    """
    moving_from_first_mm = _register(first, moving)
    moved_zyx = _resampled(moving, moving_from_first_mm, first)
    move = _described(first, moving, moved_zyx, moving_from_first_mm)
    if move.turn_degrees > MOST_TURN_DEGREES or move.shift_mm > MOST_SHIFT_MM:
        raise ImageError(
            f"it would have to be turned by {move.turn_degrees:.0f}° and shifted by {move.shift_mm:.0f} mm (of "
            f"{MOST_TURN_DEGREES:g}° and {MOST_SHIFT_MM:g} mm at most): the registration has failed, or its header is "
            "wrong; look at both"
        )
    if move.shared < LEAST_SHARED:
        raise ImageError(
            f"it shows {move.shared:.0%} of the head, of {LEAST_SHARED:.0%} at least; leave it out, or choose another"
        )
    return moved_zyx, move


def _register(first: Volume, moving: Volume) -> np.ndarray:
    """4×4 matrix from millimetres of the first image to those of the other, RAS+ (x, y, z)."""
    shrink = max(1, round(COARSE_MM / min(first.spacing_mm)))
    levels = Levels(
        shrink_factors=(shrink, max(1, shrink // 2)),
        smoothing_mm=(BLUR_MM, BLUR_MM / 2),
        sampled_share=SAMPLED_SHARE,
        least_step_mm=LEAST_STEP_MM,
    )
    fixed, other = itk_image(first), itk_image(moving)
    # by the headers, which know one table for both; and by the middles, where headers were lost
    starts = [
        sitk.CenteredTransformInitializer(fixed, other, sitk.Euler3DTransform(), way)
        for way in (sitk.CenteredTransformInitializerFilter.GEOMETRY, sitk.CenteredTransformInitializerFilter.MOMENTS)
    ]
    centred = sitk.Euler3DTransform(starts[1])
    by_header = sitk.Euler3DTransform(centred)
    by_header.SetTranslation((0.0, 0.0, 0.0))
    candidates = [world_matrix(one) for one in (by_header, centred, sitk.Euler3DTransform(starts[0]))]
    likeness = [_likeness(first, _resampled(moving, one, first, COMPARED_MM), COMPARED_MM)[0] for one in candidates]
    begin = (by_header, centred, sitk.Euler3DTransform(starts[0]))[int(np.argmax(likeness))]
    begin.SetCenter(centred.GetCenter())
    with one_itk_thread():
        try:
            found = register(fixed, other, begin, levels)
        except RuntimeError as error:
            raise ImageError(str(error).strip().splitlines()[-1]) from error
    return world_matrix(found)


def _grid(first: Volume, spacing_mm: float | None) -> tuple[np.ndarray, tuple[int, ...], tuple[int, ...]]:
    """Affine (x, y, z) and shape (z, y, x) of the first image's grid, every n-th voxel of it; and n."""
    steps = tuple(1 if spacing_mm is None else max(1, round(spacing_mm / edge)) for edge in first.spacing_mm)
    shape = tuple(len(range(0, size, step)) for size, step in zip(first.volume_zyx.shape, steps, strict=True))
    return first.affine @ np.diag([*steps[::-1], 1]), shape, steps


def _resampled(
    moving: Volume, moving_from_first_mm: np.ndarray, first: Volume, spacing_mm: float | None = None
) -> np.ndarray:
    affine, shape, _ = _grid(first, spacing_mm)
    voxel_from_grid = np.linalg.inv(moving.affine) @ moving_from_first_mm @ affine
    detail = np.linalg.norm(voxel_from_grid[:3, :3], axis=1)[::-1]
    z, y, x = shape
    return sample_oblique(moving.volume_zyx, voxel_from_grid, (z, y, x), detail, "linear").astype(np.float32)


def _described(first: Volume, moving: Volume, moved_zyx: np.ndarray, moving_from_first_mm: np.ndarray) -> Move:
    _, _, steps = _grid(first, COMPARED_MM)
    coarse_zyx = moved_zyx[tuple(slice(None, None, step) for step in steps)]
    after, shared = _likeness(first, coarse_zyx, COMPARED_MM)
    before, _ = _likeness(first, _resampled(moving, np.eye(4), first, COMPARED_MM), COMPARED_MM)
    turn = np.degrees(np.arccos(np.clip((np.trace(moving_from_first_mm[:3, :3]) - 1) / 2, -1, 1)))
    head = np.argwhere(_head(first.volume_zyx))
    middle = first.affine @ [*head.mean(axis=0)[::-1], 1]
    return Move(
        turn_degrees=float(turn),
        shift_mm=float(np.linalg.norm((moving_from_first_mm @ middle - middle)[:3])),
        likeness=after,
        likeness_before=before,
        shared=shared,
    )


def _head(volume_zyx: np.ndarray) -> np.ndarray:
    """What is brighter than the air: above a tenth of the brightest, which noise is not."""
    return volume_zyx > 0.1 * np.percentile(volume_zyx, 99)


def _likeness(first: Volume, moved_zyx: np.ndarray, spacing_mm: float) -> tuple[float, float]:
    """Normalised mutual information within the first image's head, and the share of it that the other one shows.

    Source: Studholme et al. 1999, Pattern Recognition 32:71.
    """
    _, _, steps = _grid(first, spacing_mm)
    blurred = gaussian_filter(first.volume_zyx, [(step - 1) / 2 for step in steps])
    own_zyx = blurred[tuple(slice(None, None, step) for step in steps)]
    head = _head(own_zyx)
    shown = head & (moved_zyx != 0)
    if np.count_nonzero(shown) < BINS:
        return 1.0, 0.0
    limits = [np.percentile(one[shown], (1, 99)) for one in (own_zyx, moved_zyx)]
    pair = [np.clip(one[shown], *limit) for one, limit in zip((own_zyx, moved_zyx), limits, strict=True)]
    joint, _, _ = np.histogram2d(pair[0], pair[1], bins=BINS)
    joint /= joint.sum()
    own, other, both = (_entropy(one) for one in (joint.sum(axis=1), joint.sum(axis=0), joint))
    shared = np.count_nonzero(shown) / np.count_nonzero(head)
    return float((own + other) / both) if both > 0 else 1.0, float(shared)


def _entropy(shares: np.ndarray) -> float:
    filled = shares[shares > 0]
    return float(-(filled * np.log(filled)).sum())
