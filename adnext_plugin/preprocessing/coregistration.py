"""Moving another image of a session to the first one's head: a rigid registration by SimpleITK, and one interpolation.

What was moved is kept under a key of the bytes of both files, so that an interrupted or repeated import does again only
what it must.
"""

from dataclasses import asdict, dataclass, replace
from functools import cached_property
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
from adnext_plugin.preprocessing.chessboard import chessboard
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
    """The images of a session, and the folder for what is made of those after the first."""

    first: Path
    moving: tuple[Path, ...]
    folder: Path


@dataclass(frozen=True, kw_only=True, eq=False)
class Fixed:
    """The first image of a session, and what is found of it once for all that are moved to it."""

    volume: Volume

    @property
    def steps(self) -> tuple[int, ...]:
        """Likeness is measured at every n-th voxel along z, y, x."""
        return tuple(max(1, round(COMPARED_MM / edge)) for edge in self.volume.spacing_mm)

    @cached_property
    def itk(self) -> sitk.Image:
        """As ITK has it."""
        return itk_image(self.volume)

    @cached_property
    def compared_zyx(self) -> np.ndarray:
        """Intensities where likeness is measured, smoothed."""
        return self.thinned(gaussian_filter(self.volume.volume_zyx, [(step - 1) / 2 for step in self.steps]))

    @cached_property
    def head(self) -> np.ndarray:
        """Which of those are not air."""
        return _head(self.compared_zyx)

    @cached_property
    def middle(self) -> np.ndarray:
        """Of the head, in millimetres (x, y, z, 1)."""
        head = np.argwhere(_head(self.volume.volume_zyx))
        return self.volume.affine @ [*head.mean(axis=0)[::-1], 1]

    def thinned(self, volume_zyx: np.ndarray) -> np.ndarray:
        """Of a volume on the first one's grid, the voxels where likeness is measured."""
        return volume_zyx[tuple(slice(None, None, step) for step in self.steps)]


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
    """The moved image, on the first one's grid, its picture (`chessboard.py`), how it was moved, and whether now."""

    image: Path
    picture: Path
    move: Move
    is_new: bool


def coregister(job: CoregistrationJob) -> tuple[Moved, ...]:
    """Move the images of a session that have not been moved yet.

    Raises:
        ImageError: a registration failed, or cannot be believed; a line for each names the file.
    """
    first_sha256 = file_sha256(job.first)
    fixed: Fixed | None = None
    found, problems = [], []
    for moving in job.moving:
        key = sha256(repr((VERSION, first_sha256, file_sha256(moving))).encode()).hexdigest()[:32]
        image, picture, record = (job.folder / f"{key}{ending}" for ending in (".nii.gz", ".jpg", ".json"))
        move = _known_move(image, picture, record)
        is_new = move is None
        if move is None:
            fixed = fixed or Fixed(volume=read_volume(job.first))
            try:
                moved_zyx, move = moved_to(fixed, read_volume(moving))
            except ImageError as error:
                problems.append(f"{moving} cannot be moved to {job.first}: {error}")
                continue
            _keep(fixed, moved_zyx, move, image, picture, record)
        found.append(Moved(image=image, picture=picture, move=move, is_new=is_new))
    if problems:
        raise ImageError("\n".join(problems))
    return tuple(found)


def _known_move(image: Path, picture: Path, record: Path) -> Move | None:
    """How an image was moved before, where that is still there and whole."""
    try:
        content = read_json(record)
        if picture.is_file() and image.is_file() and file_sha256(image) == content["sha256"]:
            return Move(**content["move"])
    except (PathsError, KeyError, TypeError):  # not there, or damaged: it is done again
        pass
    return None


def _keep(fixed: Fixed, moved_zyx: np.ndarray, move: Move, image: Path, picture: Path, record: Path) -> None:
    moved = replace(fixed.volume, volume_zyx=moved_zyx)
    with replacing(image) as temporary:
        nibabel.save(nibabel.Nifti1Image(moved.volume_zyx.T, moved.affine), temporary)
    with replacing(picture) as temporary:
        temporary.write_bytes(chessboard(fixed.volume, moved))
    write_json({"sha256": file_sha256(image), "move": asdict(move)}, record)


def moved_to(fixed: Fixed, moving: Volume) -> tuple[np.ndarray, Move]:
    """An image on the grid of the first, (Z, Y, X) float32, 0 beyond its own field of view; and how it was moved.

    Raises:
        ImageError: the registration failed, or cannot be believed.
    """
    moving_from_first_mm = _register(fixed, moving)
    moved_zyx = _resampled(moving, moving_from_first_mm, fixed.volume)
    move = _described(fixed, moving, moved_zyx, moving_from_first_mm)
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


def _register(fixed: Fixed, moving: Volume) -> np.ndarray:
    """4×4 matrix from millimetres of the first image to those of the other, RAS+ (x, y, z)."""
    shrink = max(1, round(COARSE_MM / min(fixed.volume.spacing_mm)))
    levels = Levels(
        shrink_factors=(shrink, max(1, shrink // 2)),
        smoothing_mm=(BLUR_MM, BLUR_MM / 2),
        sampled_share=SAMPLED_SHARE,
        least_step_mm=LEAST_STEP_MM,
    )
    other = itk_image(moving)
    # by the headers, which know one table for both; and by the middles, where headers were lost
    starts = [
        sitk.CenteredTransformInitializer(fixed.itk, other, sitk.Euler3DTransform(), way)
        for way in (sitk.CenteredTransformInitializerFilter.GEOMETRY, sitk.CenteredTransformInitializerFilter.MOMENTS)
    ]
    centred = sitk.Euler3DTransform(starts[1])
    by_header = sitk.Euler3DTransform(centred)
    by_header.SetTranslation((0.0, 0.0, 0.0))
    candidates = [world_matrix(one) for one in (by_header, centred, sitk.Euler3DTransform(starts[0]))]
    likeness = [_likeness_by(fixed, moving, one) for one in candidates]
    begin = (by_header, centred, sitk.Euler3DTransform(starts[0]))[int(np.argmax(likeness))]
    begin.SetCenter(centred.GetCenter())
    with one_itk_thread():
        try:
            found = register(fixed.itk, other, begin, levels)
        except RuntimeError as error:
            raise ImageError(str(error).strip().splitlines()[-1]) from error
    return world_matrix(found)


def _resampled(
    moving: Volume, moving_from_first_mm: np.ndarray, first: Volume, steps: tuple[int, ...] = (1, 1, 1)
) -> np.ndarray:
    """An image on the first one's grid, or at every n-th voxel of it along z, y, x."""
    z, y, x = (len(range(0, size, step)) for size, step in zip(first.volume_zyx.shape, steps, strict=True))
    affine = first.affine @ np.diag([*steps[::-1], 1])
    voxel_from_grid = np.linalg.inv(moving.affine) @ moving_from_first_mm @ affine
    detail = np.linalg.norm(voxel_from_grid[:3, :3], axis=1)[::-1]
    (moved_zyx,) = sample_oblique(moving.volume_zyx[None], voxel_from_grid, (z, y, x), detail, "linear")
    return moved_zyx.astype(np.float32)


def _described(fixed: Fixed, moving: Volume, moved_zyx: np.ndarray, moving_from_first_mm: np.ndarray) -> Move:
    after, shared = _likeness(fixed, fixed.thinned(moved_zyx))
    turn = np.degrees(np.arccos(np.clip((np.trace(moving_from_first_mm[:3, :3]) - 1) / 2, -1, 1)))
    return Move(
        turn_degrees=float(turn),
        shift_mm=float(np.linalg.norm((moving_from_first_mm @ fixed.middle - fixed.middle)[:3])),
        likeness=after,
        likeness_before=_likeness_by(fixed, moving, np.eye(4)),
        shared=shared,
    )


def _head(volume_zyx: np.ndarray) -> np.ndarray:
    """What is brighter than the air: above a tenth of the brightest, which noise is not."""
    return volume_zyx > 0.1 * np.percentile(volume_zyx, 99)


def _likeness_by(fixed: Fixed, moving: Volume, moving_from_first_mm: np.ndarray) -> float:
    """Likeness to an image that is moved so."""
    return _likeness(fixed, _resampled(moving, moving_from_first_mm, fixed.volume, fixed.steps))[0]


def _likeness(fixed: Fixed, moved_zyx: np.ndarray) -> tuple[float, float]:
    """Normalised mutual information within the first image's head, and the share of it that the other one shows.

    Source: Studholme et al. 1999, Pattern Recognition 32:71.
    """
    own_zyx = fixed.compared_zyx
    shown = fixed.head & (moved_zyx != 0)
    if np.count_nonzero(shown) < BINS:
        return 1.0, 0.0
    limits = [np.percentile(one[shown], (1, 99)) for one in (own_zyx, moved_zyx)]
    pair = [np.clip(one[shown], *limit) for one, limit in zip((own_zyx, moved_zyx), limits, strict=True)]
    joint, _, _ = np.histogram2d(pair[0], pair[1], bins=BINS)
    joint /= joint.sum()
    own, other, both = (_entropy(one) for one in (joint.sum(axis=1), joint.sum(axis=0), joint))
    shared = np.count_nonzero(shown) / np.count_nonzero(fixed.head)
    return float((own + other) / both) if both > 0 else 1.0, float(shared)


def _entropy(shares: np.ndarray) -> float:
    filled = shares[shares > 0]
    return float(-(filled * np.log(filled)).sum())
