"""Preparing the cases of a dataset and storing them, so that an interrupted or repeated run redoes only what it must.

A case is two files: `{case}.b2nd`, the image (C, Z, Y, X) in float16, and `{case}.pkl`, what was done, with a key made
of what the case depends on (`keys.py`) and the hash of the first. The .pkl is written last: a case is finished if its
key is one now wanted and both files are what was written.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from adnext_plugin.case_properties import CaseProperties, read_case_properties, write_case_properties
from adnext_plugin.channel_files import read_channels
from adnext_plugin.dask_cluster import Cluster
from adnext_plugin.errors import AdnextError, ImageError, PathsError, SettingsError
from adnext_plugin.files import replacing
from adnext_plugin.parallel import for_each
from adnext_plugin.partial_files import remove_abandoned
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.chain import prepare
from adnext_plugin.preprocessing.keys import case_keys
from adnext_plugin.stored_volumes import is_intact, properties_file, volume_file, write_volume


@dataclass(frozen=True, kw_only=True)
class CaseJob:
    """One case to prepare: its scan, the mask of its brain where it has a skull, the folder its two files go to.

    `further` are other images of the same head, each to be a channel.
    """

    case: str
    image: Path
    further: tuple[Path, ...] = ()
    mask: Path | None = None
    folder: Path
    settings: PreprocessingSettings


@dataclass(frozen=True, kw_only=True)
class PreparedCase:
    """What was done to a case, whether it was done now rather than found finished, and whether because of damage."""

    properties: CaseProperties
    is_new: bool
    was_damaged: bool = False


@dataclass(frozen=True, kw_only=True)
class PreprocessingReport:
    """What became of the cases, by id: newly prepared, found finished, failed and why, share of the brain cut off.

    `damaged` are those of `prepared` that had been finished before. `without_hash` are those of `reused` that an
    earlier version has prepared: their damage is noticed only where they cannot be read at all.
    """

    prepared: tuple[str, ...]
    reused: tuple[str, ...]
    failed: dict[str, str]
    cut_off: dict[str, float]
    damaged: tuple[str, ...] = ()
    without_hash: tuple[str, ...] = ()


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
    damaged: list[str] = []
    without_hash: list[str] = []
    partial = _partial_folder(folder)
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
            if outcome.was_damaged:
                damaged.append(case)
            if outcome.properties.volume_sha256 is None:
                without_hash.append(case)
            share = outcome.properties.share_of_foreground_cut_off
            if share > 0:
                cut_off[case] = share
    finally:
        remove_abandoned(partial)
        with suppress(OSError):  # it was not needed, or another command is using it
            partial.rmdir()
    return PreprocessingReport(
        prepared=tuple(prepared),
        reused=tuple(reused),
        failed=failed,
        cut_off=cut_off,
        damaged=tuple(sorted(damaged)),
        without_hash=tuple(sorted(without_hash)),
    )


def prepare_case(job: CaseJob) -> PreparedCase:
    """Prepare and store one case, unless that has been done.

    Raises:
        ImageError: the scan is unusable; the message names its file. No files of the case are left then.
    """
    volume, notes = volume_file(job.folder, job.case), properties_file(job.folder, job.case)
    keys = case_keys(job.image, job.mask, job.settings, job.further)
    finished, was_damaged = _finished(notes), False
    if finished is not None and finished.key in keys:
        if is_intact(volume, finished):
            return PreparedCase(properties=finished, is_new=False)
        was_damaged = True
    elif finished is None:
        was_damaged = notes.exists()
    notes.unlink(missing_ok=True)
    volume.unlink(missing_ok=True)
    partial = _partial_folder(job.folder)
    try:
        first, *others = read_channels((job.image, *job.further))
        network_input = prepare(first, job.settings, job.mask, others)
        digest = write_volume(network_input.image_czyx, volume, beside=partial)
    except ImageError as error:
        message = str(error) if str(job.image) in str(error) else f"{job.image}: {error}"
        raise ImageError(message) from error
    properties = _properties(network_input.properties, job.mask, keys[0], digest)
    with replacing(notes, beside=partial) as temporary:
        write_case_properties(properties, temporary)
    return PreparedCase(properties=properties, is_new=True, was_damaged=was_damaged)


def _properties(notes: Mapping[str, Any], mask: Path | None, key: str, digest: str) -> CaseProperties:
    """What the plan's own steps note has fields of its own, what further ones note is kept as they give it."""
    fields_of_own = {one.name for one in fields(CaseProperties)}
    own = {name: value for name, value in notes.items() if name in fields_of_own}
    try:
        # numbers of numpy become plain ones, as which alone they are read again
        further = json.loads(json.dumps({name: value for name, value in notes.items() if name not in own}))
    except (TypeError, ValueError) as error:
        raise SettingsError(f"a step notes more of a scan than numbers, texts and lists ({error})") from error
    return CaseProperties(**own, notes=further, mask=None if mask is None else str(mask), key=key, volume_sha256=digest)


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
