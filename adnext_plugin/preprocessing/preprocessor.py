"""Preparing the cases of a dataset and storing them, so that an interrupted or repeated run redoes only what it must.

A case is two files: `{case}.b2nd`, the volume (1, Z, Y, X) in float16, and `{case}.pkl`, what was done, with a key made
of the scan's bytes and the settings. The .pkl is written last: a case is finished if its key is the one now wanted.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import blosc2

from adnext_plugin.case_properties import CaseProperties, read_case_properties, write_case_properties
from adnext_plugin.dask_cluster import Cluster
from adnext_plugin.errors import AdnextError, ImageError, PathsError
from adnext_plugin.files import replacing
from adnext_plugin.images import file_sha256, read_volume
from adnext_plugin.parallel import for_each
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.brains.brain_masks import within_mask
from adnext_plugin.preprocessing.steps import prepare
from adnext_plugin.records import to_json

VERSION = 3  # to be raised whenever a step gives other voxels than before


@dataclass(frozen=True, kw_only=True)
class CaseJob:
    """One case to prepare: its scan, the mask of its brain where it has a skull, the folder its two files go to."""

    case: str
    image: Path
    mask: Path | None = None
    folder: Path
    settings: PreprocessingSettings


@dataclass(frozen=True, kw_only=True)
class PreparedCase:
    """What was done to a case, and whether it was done now rather than found finished."""

    properties: CaseProperties
    is_new: bool


@dataclass(frozen=True, kw_only=True)
class PreprocessingReport:
    """What became of the cases, by id: newly prepared, found finished, failed and why, share of the brain cut off."""

    prepared: tuple[str, ...]
    reused: tuple[str, ...]
    failed: dict[str, str]
    cut_off: dict[str, float]


def preprocess(
    jobs: Sequence[CaseJob], folder: Path, *, processes: int, cluster: Cluster | None = None
) -> PreprocessingReport:
    """Prepare all cases of a dataset.

    Args:
        jobs: the cases, all with this folder.
        folder: will hold exactly these cases; files of others are removed.
        processes: how many cases at once.
        cluster: to prepare them on instead of on this machine.

    Raises:
        PathsError: the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _remove_strangers(folder, {job.case for job in jobs})
    prepared: list[str] = []
    reused: list[str] = []
    failed: dict[str, str] = {}
    cut_off: dict[str, float] = {}
    try:
        where = {"processes": processes, "cluster": cluster}
        for index, outcome in for_each(prepare_case, jobs, description="Preprocessing", **where):
            case = jobs[index].case
            if isinstance(outcome, PathsError):
                raise outcome
            if isinstance(outcome, AdnextError):
                failed[case] = str(outcome)
                continue
            (prepared if outcome.is_new else reused).append(case)
            share = outcome.properties.share_of_foreground_cut_off
            if share > 0:
                cut_off[case] = share
    finally:
        shutil.rmtree(_partial_folder(folder), ignore_errors=True)
    return PreprocessingReport(prepared=tuple(prepared), reused=tuple(reused), failed=failed, cut_off=cut_off)


def prepare_case(job: CaseJob) -> PreparedCase:
    """Prepare and store one case, unless that has been done.

    Raises:
        ImageError: the scan is unusable; the message names its file. No files of the case are left then.
    """
    volume_file, properties_file = job.folder / f"{job.case}.b2nd", job.folder / f"{job.case}.pkl"
    key = _key(job)
    finished = _finished(properties_file)
    if finished is not None and finished.key == key and volume_file.is_file():
        return PreparedCase(properties=finished, is_new=False)
    properties_file.unlink(missing_ok=True)
    volume_file.unlink(missing_ok=True)
    try:
        volume = read_volume(job.image)
        network_input = prepare(volume if job.mask is None else within_mask(volume, job.mask), job.settings)
    except ImageError as error:
        message = str(error) if str(job.image) in str(error) else f"{job.image}: {error}"
        raise ImageError(message) from error
    partial = _partial_folder(job.folder)
    compression = {"codec": blosc2.Codec.LZ4HC, "clevel": 5, "nthreads": 1}
    stored = blosc2.asarray(network_input.volume_zyx[None], cparams=compression)
    with replacing(volume_file, beside=partial) as temporary:
        # blosc2's own writing to a file hides why it failed, and keeps the file open when it does
        temporary.write_bytes(stored.to_cframe())
    mask = None if job.mask is None else str(job.mask)
    properties = CaseProperties(**network_input.properties, mask=mask, key=key)
    with replacing(properties_file, beside=partial) as temporary:
        write_case_properties(properties, temporary)
    return PreparedCase(properties=properties, is_new=True)


def _key(job: CaseJob) -> str:
    if not job.image.is_file():
        raise ImageError(f"{job.image} does not exist; import the dataset again")
    mask = None if job.mask is None else file_sha256(job.mask)
    parts = (file_sha256(job.image), mask, repr(sorted(to_json(job.settings).items())), VERSION)
    return sha256(repr(parts).encode()).hexdigest()


def _finished(path: Path) -> CaseProperties | None:
    """What is noted of a case; None where there is nothing, or nothing that can be relied on: it is done again."""
    try:
        return read_case_properties(path)
    except PathsError:
        return None


def _remove_strangers(folder: Path, cases: set[str]) -> None:
    for path in folder.iterdir():
        if path.stem not in cases:
            path.unlink()


def _partial_folder(folder: Path) -> Path:
    # beside the data folder, not in it: nnU-Net insists that all files there are of one kind
    return folder.with_name(f"{folder.name}.partial")
