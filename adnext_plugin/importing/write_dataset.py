"""Writing a raw nnU-Net dataset, whole or not at all."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd

from adnext_plugin.errors import PathsError
from adnext_plugin.files import link_or_copy, replacing_folder, write_json
from adnext_plugin.images import foreground, read_volume
from adnext_plugin.importing.cases import Case
from adnext_plugin.importing.image_checks import CheckedImage
from adnext_plugin.paths import BLOCK, IMPORT_REPORT_FILE, SUBJECTS_FILE, without_links
from adnext_plugin.records import to_json
from adnext_plugin.subjects import write_subjects
from adnext_plugin.task import Task


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
) -> None:
    """Write images, `dataset.json`, `subjects.csv` and `import_report.json`.

    Args:
        folder: nnUNet_raw/DatasetNNN_Name.
        task, cases, checked, report: what to write.
        copy: copy the images instead of linking to them.
        with_masks: also write foreground masks to labelsTr, which nnU-Net's own planning needs.
        overwrite: replace a dataset of this name.

    Raises:
        PathsError: the dataset exists, or the disk is full.
    """
    if folder.exists() and not overwrite:
        raise PathsError(f"{folder} exists; choose another number or name, or give --overwrite")
    with replacing_folder(folder) as temporary:
        (temporary / "imagesTr").mkdir()
        for case in cases:
            _place_image(case.scan.image, temporary / "imagesTr" / f"{case.case_id}_0000.nii.gz", copy)
        if with_masks:
            (temporary / "labelsTr").mkdir()
            for case in cases:
                _write_mask(case.scan.image, temporary / "labelsTr" / f"{case.case_id}.nii.gz")
        write_json(_description(task, len(cases)), temporary / "dataset.json")
        write_subjects(_subjects(task, cases, checked), temporary / SUBJECTS_FILE)
        write_json(report, temporary / IMPORT_REPORT_FILE)


def _description(task: Task, cases: int) -> dict:
    return {
        "channel_names": {"0": "T1w"},
        # for nnU-Net, which insists on segmentation labels; ours are classes of whole scans
        "labels": {"background": 0, "foreground": 1},
        "numTraining": cases,
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "NibabelIOWithReorient",
        BLOCK: to_json(task),
    }


def _subjects(task: Task, cases: Sequence[Case], checked: Sequence[CheckedImage]) -> pd.DataFrame:
    rows = [
        {
            "case_id": case.case_id,
            "subject_id": case.subject_id,
            "session_id": case.scan.session_id,
            **case.covariates,
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


def _write_mask(source: Path, target: Path) -> None:
    volume = read_volume(source)
    mask_xyz = foreground(volume.volume_zyx).T.astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(mask_xyz, volume.affine), target)
