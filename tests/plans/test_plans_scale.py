"""Planning large cohorts: what is listed, and what is held in memory."""

import tracemalloc
from pathlib import Path

import pytest
from conftest import Workspace, toy_brain, write_scan
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from adnext_plugin.errors import ImageError
from adnext_plugin.files import read_json, write_json
from adnext_plugin.plans import fingerprint
from adnext_plugin.plans.fingerprint import ADNeXtFingerprintExtractor
from adnext_plugin.plans.listing import list_cases


def _write_dataset(workspace: Workspace, cases: int) -> Path:
    folder = workspace.raw / "Dataset007_Toy"
    scan = write_scan(workspace.source / "scan.nii.gz", toy_brain(0, has_hole=False, shape=(10, 11, 12)))
    (folder / "imagesTr").mkdir(parents=True, exist_ok=True)
    for index in range(cases):
        link = folder / "imagesTr" / f"case.{index}_0001_0000.nii.gz"
        if not link.exists():
            link.symlink_to(scan)
    write_json({"file_ending": ".nii.gz", "channel_names": {"0": "T1w"}}, folder / "dataset.json")
    return folder


def test_cases_are_listed_as_nnunet_lists_them(fresh) -> None:
    folder = _write_dataset(fresh, 12)
    write_scan(folder / "imagesTr" / "case.3_0001_0001.nii.gz", toy_brain(1, has_hole=True, shape=(5, 5, 5)))
    description = read_json(folder / "dataset.json")
    found, expected = list_cases(str(folder), description), get_filenames_of_train_images_and_targets(str(folder))
    assert list(found) == list(expected)
    assert {case: dict(files) for case, files in expected.items()} == found


def test_the_fingerprint_takes_no_more_memory_for_more_cases(fresh, monkeypatch) -> None:
    monkeypatch.setattr(fingerprint, "MOST_VOXELS", 200_000)
    peaks, medians = [], []
    for cases in (20, 20, 200):  # twice, as the first fills caches
        extractor = ADNeXtFingerprintExtractor(_write_dataset(fresh, cases).name, 1)
        tracemalloc.start()
        found = extractor.run()
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(found["spacings"]) == cases
        medians.append(found["foreground_intensity_properties_per_channel"]["0"]["median"])
    assert peaks[2] < 1.2 * peaks[1]
    assert medians[2] == pytest.approx(medians[1], rel=0.02)


def test_a_dataset_without_scans_is_one_line(fresh) -> None:
    with pytest.raises(ImageError, match="holds no scan"):
        ADNeXtFingerprintExtractor(_write_dataset(fresh, 0).name, 1).run()
