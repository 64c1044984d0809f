"""Preparing the cases of a dataset and storing them, so that an interrupted or repeated run redoes only what it must.

A case is two files: `{case}.b2nd`, the image (C, Z, Y, X) in float16, and `{case}.pkl`, what was done, with a key made
of what the case depends on (`keys.py`). The .pkl is written last: a case is finished if its key is one now wanted.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import blosc2

from adnext_plugin.case_properties import CaseProperties, read_case_properties, write_case_properties
from adnext_plugin.dask_cluster import Cluster
from adnext_plugin.errors import AdnextError, ImageError, PathsError, SettingsError
from adnext_plugin.files import replacing
from adnext_plugin.images import read_volume
from adnext_plugin.parallel import for_each
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.chain import prepare
from adnext_plugin.preprocessing.keys import case_keys


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
        where: dict[str, Any] = {"processes": processes, "cluster": cluster}
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
    keys = case_keys(job.image, job.mask, job.settings)
    finished = _finished(properties_file)
    if finished is not None and finished.key in keys and volume_file.is_file():
        return PreparedCase(properties=finished, is_new=False)
    properties_file.unlink(missing_ok=True)
    volume_file.unlink(missing_ok=True)
    try:
        network_input = prepare(read_volume(job.image), job.settings, job.mask)
    except ImageError as error:
        message = str(error) if str(job.image) in str(error) else f"{job.image}: {error}"
        raise ImageError(message) from error
    partial = _partial_folder(job.folder)
    compression = {"codec": blosc2.Codec.LZ4HC, "clevel": 5, "nthreads": 1}
    stored = blosc2.asarray(network_input.image_czyx, cparams=compression)
    with replacing(volume_file, beside=partial) as temporary:
        # blosc2's own writing to a file hides why it failed, and keeps the file open when it does
        temporary.write_bytes(stored.to_cframe())
    properties = _properties(network_input.properties, job.mask, keys[0])
    with replacing(properties_file, beside=partial) as temporary:
        write_case_properties(properties, temporary)
    return PreparedCase(properties=properties, is_new=True)


def _properties(notes: Mapping[str, Any], mask: Path | None, key: str) -> CaseProperties:
    """What the plan's own steps note has fields of its own, what further ones note is kept as they give it."""
    fields_of_own = {one.name for one in fields(CaseProperties)}
    own = {name: value for name, value in notes.items() if name in fields_of_own}
    try:
        # numbers of numpy become plain ones, as which alone they are read again
        further = json.loads(json.dumps({name: value for name, value in notes.items() if name not in own}))
    except (TypeError, ValueError) as error:
        raise SettingsError(f"a step notes more of a scan than numbers, texts and lists ({error})") from error
    return CaseProperties(**own, notes=further, mask=None if mask is None else str(mask), key=key)


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
