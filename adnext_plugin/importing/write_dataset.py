"""Writing a raw nnU-Net dataset, whole or not at all."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import nibabel
import numpy as np
import pandas as pd
from nibabel.spatialimages import SpatialImage

from adnext_plugin.channel_files import channel_file
from adnext_plugin.files import link_or_copy, refuse_existing, replacing_folder, write_json
from adnext_plugin.images import foreground, read_volume
from adnext_plugin.importing.cases import Case
from adnext_plugin.importing.channels import HAS
from adnext_plugin.importing.image_checks import CheckedImage
from adnext_plugin.paths import BLOCK, IMPORT_REPORT_FILE, SUBJECTS_FILE, without_links
from adnext_plugin.records import to_json
from adnext_plugin.subjects import write_subjects
from adnext_plugin.task import Task

USUAL_CHANNELS = ("T1w",)


def write_dataset(
    folder: Path,
    task: Task,
    cases: Sequence[Case],
    checked: Sequence[CheckedImage],
    report: dict,
    *,
    copy: bool,
    with_masks: bool,
    overwrite: bool,
    channels: Sequence[str] = (),
) -> None:
    """Write images, `dataset.json`, `subjects.csv` and `import_report.json`.

    Args:
        folder: nnUNet_raw/DatasetNNN_Name.
        task, cases, checked, report: what to write.
        copy: copy the images instead of linking to them.
        with_masks: also write foreground masks to labelsTr, which nnU-Net's own planning needs.
        overwrite: replace a dataset of this name.
        channels: what the images of a case are called, where there are several.

    Raises:
        PathsError: the dataset exists, or the disk is full.
    """
    refuse_existing(folder, overwrite, "choose another number or name")
    with replacing_folder(folder) as temporary:
        (temporary / "imagesTr").mkdir()
        for case in cases:
            for place, image in enumerate((case.scan.image, *case.scan.further)):
                target = channel_file(temporary / "imagesTr", case.case_id, place)
                if image is None:
                    _write_empty(case.scan.image, target)
                else:
                    _place_image(image, target, copy)
        if with_masks:
            (temporary / "labelsTr").mkdir()
            for case in cases:
                _write_mask(case.scan.image, temporary / "labelsTr" / f"{case.case_id}.nii.gz")
        write_json(_description(task, len(cases), channels or USUAL_CHANNELS), temporary / "dataset.json")
        write_subjects(_subjects(task, cases, checked, channels), temporary / SUBJECTS_FILE)
        write_json(report, temporary / IMPORT_REPORT_FILE)


def _description(task: Task, cases: int, channels: Sequence[str]) -> dict:
    return {
        "channel_names": {str(place): name for place, name in enumerate(channels)},
        # for nnU-Net, which insists on segmentation labels; ours are classes of whole scans
        "labels": {"background": 0, "foreground": 1},
        "numTraining": cases,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "NibabelIOWithReorient",
        BLOCK: to_json(task),
    }


def _subjects(
    task: Task, cases: Sequence[Case], checked: Sequence[CheckedImage], channels: Sequence[str]
) -> pd.DataFrame:
    # of channels that somebody lacks
    noted = [place for place in range(len(channels) - 1) if any(case.scan.further[place] is None for case in cases)]
    rows = [
        {
            "case_id": case.case_id,
            "subject_id": case.subject_id,
            "session_id": case.scan.session_id,
            **case.covariates,
            **{f"{HAS}{channels[place + 1]}": int(case.scan.further[place] is not None) for place in noted},
            **({} if task.target is None else {task.target: case.target}),
            "image_sha256": image.file_sha256,
        }
        for case, image in zip(cases, checked, strict=True)
    ]
    return pd.DataFrame(rows).sort_values("case_id")


def _place_image(source: Path, target: Path, copy: bool) -> None:
    if not source.name.endswith(".nii.gz"):
        nibabel.save(nibabel.load(source), target)
    elif copy:
        shutil.copyfile(source, target)
    else:
        link_or_copy(without_links(source), target)


def _write_empty(first: Path, target: Path) -> None:
    """An image of nothing but 0 on the first one's grid, in place of one that is missing."""
    like = cast(SpatialImage, nibabel.load(first))
    nibabel.save(nibabel.Nifti1Image(np.zeros(like.shape[:3], np.uint8), like.affine), target)


def _write_mask(source: Path, target: Path) -> None:
    volume = read_volume(source)
    mask_xyz = foreground(volume.volume_zyx).T.astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(mask_xyz, volume.affine), target)
