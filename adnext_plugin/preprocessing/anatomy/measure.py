"""Measuring the regions of every scan, so that an interrupted or repeated run redoes only what it must.

`{case}.json` holds the numbers of a case with a key made of the bytes of scan, mask, atlas and table of labels; a case
is finished if its key is the one now wanted. `{case}.jpg` is its picture.
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np

from adnext_plugin.errors import ImageError, PathsError
from adnext_plugin.files import read_json, replacing, write_json
from adnext_plugin.images import file_sha256, read_volume, reorient_to_ras
from adnext_plugin.paths import REGION_VOLUME
from adnext_plugin.preprocessing.anatomy.picture import picture
from adnext_plugin.preprocessing.anatomy.placing import place_in_mni152
from adnext_plugin.preprocessing.anatomy.regions import VOXEL_ML, built_in_regions, regions_of_atlas, volumes_of
from adnext_plugin.preprocessing.anatomy.template import mni152
from adnext_plugin.preprocessing.anatomy.warping import WARP_VERSION, warp_to_mni152, warped
from adnext_plugin.preprocessing.brains.brain_masks import within_mask
from adnext_plugin.preprocessing.brains.stripped import reason_to_leave_alone

VERSION = 2  # to be raised whenever a scan gets other numbers than before


@dataclass(frozen=True, kw_only=True)
class RegionsJob:
    """One case: its scan, the mask of its brain where it has a skull, and where its record goes.

    `atlas` and `labels` are those of `regions_of_atlas`; None for the built-in regions. `warp`: align the brain by a
    warp (`warping.py`) after the affine way.
    """

    case: str
    image: Path
    mask: Path | None
    folder: Path
    atlas: Path | None = None
    labels: Path | None = None
    warp: bool = False


@dataclass(frozen=True, kw_only=True)
class MeasuredRegions:
    """The numbers of a case, and whether they were measured now rather than found."""

    numbers: dict[str, float]
    is_new: bool


def measure_regions(job: RegionsJob) -> MeasuredRegions:
    """Measure a case, unless that has been done.

    Returns:
        `overlap` and `likeness` of the alignment, `intracranial_ml`, `brain_share`, and for each region millilitres in
        the scan (`{region}_grey_ml`, `{region}_fluid_ml`) and per litre of intracranial volume (`..._ml_per_l`); of a
        warp its figures, too.

    Raises:
        ImageError: the scan is unusable, is no T1-weighted brain, or cannot be aligned; the message names its file.
        PathsError, TableError: the table of labels is unusable.
    """
    record, drawing, key = job.folder / f"{job.case}.json", job.folder / f"{job.case}.jpg", _key(job)
    try:
        content = read_json(record)
        if isinstance(content, dict) and content.get("key") == key and drawing.is_file():
            return MeasuredRegions(numbers=dict(content["numbers"]), is_new=False)
    except (PathsError, KeyError, TypeError, ValueError):  # not there, or damaged: it is measured again
        pass
    for path in (record, drawing):
        path.unlink(missing_ok=True)
    try:
        numbers, drawn = _measured(job)
    except ImageError as error:
        raise ImageError(str(error) if str(job.image) in str(error) else f"{job.image}: {error}") from error
    with replacing(drawing) as temporary:
        temporary.write_bytes(drawn)
    write_json({"key": key, "numbers": numbers}, record)
    return MeasuredRegions(numbers=numbers, is_new=True)


def _measured(job: RegionsJob) -> tuple[dict[str, float], bytes]:
    scan = read_volume(job.image)
    if job.mask is None and reason_to_leave_alone(scan) is None:
        raise ImageError(
            "it is a head, or its background is not 0; plan the dataset with --brain-extraction or --brain-masks"
        )
    brain = reorient_to_ras(scan if job.mask is None else within_mask(scan, job.mask))
    if job.atlas is not None and job.labels is not None:
        regions = regions_of_atlas(job.atlas, job.labels)
    else:
        regions = built_in_regions()
    placed, template = place_in_mni152(brain), mni152()
    even_zyx, tissues = placed.even_zyx, placed.tissues
    template_ml = float(np.count_nonzero(template.mask)) * VOXEL_ML
    numbers = {
        "overlap": float(placed.overlap),
        "likeness": placed.likeness,
        "intracranial_ml": placed.head_size * template_ml,
        "brain_share": float(1 - tissues.fluid.sum() / np.count_nonzero(template.wide_mask)),
    }
    if job.warp:
        found = warp_to_mni152(placed)
        numbers |= found.figures
        even_zyx, tissues = warped(even_zyx, found.warp), found.tissues_in_template
    for name, value in volumes_of(tissues, regions).items():
        numbers[f"{name}_ml"] = placed.head_size * value
        numbers[f"{name}{REGION_VOLUME}"] = 1000 * value / template_ml
    return numbers, picture(even_zyx, tissues, regions)


def _key(job: RegionsJob) -> str:
    files = (job.image, job.mask, job.atlas, job.labels)
    hashes = [None if path is None else file_sha256(path) for path in files]
    warp = (WARP_VERSION,) if job.warp else ()
    return sha256(repr((VERSION, hashes, *warp)).encode()).hexdigest()
