"""Preprocessing of whole datasets: restarts, bad files, full disks, kills."""

import json
import os
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import blosc2
import nibabel
import numpy as np
import pytest
from conftest import Workspace, toy_brain, write_cohort, write_scan
from nilearn.image import resample_img
from nnunetv2.training.dataloading.nnunet_dataset import infer_dataset_class, nnUNetDatasetBlosc2
from scipy import ndimage

from adnext_plugin.cli import import_dataset, plan_and_preprocess
from adnext_plugin.images import read_volume
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.chain import prepare

DATA = "ADNeXtPlans_3d_fullres"
SIZE = ["--input-size", "32", "32", "32", "--spacing", "2.5", "2.5", "2.5"]


def _import(workspace: Workspace, subjects: int = 12) -> Path:
    table = write_cohort(workspace.source, subjects)
    assert import_dataset.main(["7", "Toy", "--table", str(table), "--target", "diagnosis", "-np", "1"]) == 0
    return workspace.preprocessed / "Dataset007_Toy"


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted((folder / DATA).iterdir())}


def test_the_presets_are_what_they_say(fresh) -> None:
    folder = _import(fresh)
    for preset, fit, clip, brain_extraction, bias_correction in (
        ("default", "pad_crop", [0.5, 99.5], "deepbet", "none"),
        ("paper", "resize", None, "hdbet", "none"),
        ("hcp", "resize", None, "hdbet", "n4"),
    ):
        assert plan_and_preprocess.main(["-d", "7", "--preset", preset, "--no_pp"]) == 0
        plans = json.loads((folder / "ADNeXtPlans.json").read_text())
        planned = plans["configurations"]["3d_fullres"]["adnext"]["preprocessing"]
        assert planned == {
            "spacing_mm": [1.75, 1.75, 1.75],
            "input_size_voxels": [128, 128, 128],
            "fit": fit,
            "interpolation": "linear",
            "clip_percentiles": clip,
            "brain_extraction": brain_extraction,
            "brain_mask_files": None,
            "hdbet_folds": 5,
            "hdbet_mirroring": True,
            "bias_correction": bias_correction,
            "n4_shrink_factor": 4,
            "n4_iterations": [50, 50, 50, 50],
            "alignment": "none",
        }


def test_only_what_changed_is_done_again_and_nnunet_accepts_the_folder(fresh, capsys) -> None:
    folder = _import(fresh)
    assert plan_and_preprocess.main(["-d", "7", "-np", "1", *SIZE]) == 0
    first = _hashes(folder)
    assert len(first) == 2 * 13
    assert infer_dataset_class(str(folder / DATA)) is nnUNetDatasetBlosc2
    assert blosc2.open(str(folder / DATA / "sub00_M00.b2nd"))[:].shape == (1, 32, 32, 32)
    # another image under the same name, a stranger, and a case that lost its volume
    image = fresh.raw / "Dataset007_Toy" / "imagesTr" / "sub03_M00_0000.nii.gz"
    image.unlink()
    write_scan(image, toy_brain(99, has_hole=False))
    (folder / DATA / "stranger.b2nd").write_bytes(b"")
    (folder / DATA / "sub04_M00.b2nd").unlink()
    capsys.readouterr()
    assert plan_and_preprocess.main(["-d", "7", "-np", "1", *SIZE]) == 0
    assert "2 cases prepared, 11 were finished already" in capsys.readouterr().out
    second = _hashes(folder)
    assert {name for name in first if first[name] != second[name]} == {"sub03_M00.b2nd", "sub03_M00.pkl"}
    assert second.keys() == first.keys()
    # other settings are other data
    assert plan_and_preprocess.main(["-d", "7", "-np", "1", *SIZE, "--fit", "resize"]) == 0
    assert "13 cases prepared" in capsys.readouterr().out


def test_one_bad_scan_is_named_at_the_end_and_costs_no_other(fresh, capsys) -> None:
    folder = _import(fresh)
    image = fresh.raw / "Dataset007_Toy" / "imagesTr" / "sub02_M00_0000.nii.gz"
    content = image.read_bytes()
    image.unlink()
    image.write_bytes(content[: len(content) // 2])
    assert plan_and_preprocess.main(["-d", "7", "-np", "2", *SIZE]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(error) == 2 and "sub02_M00_0000.nii.gz cannot be read" in error[0] and "1 of 13" in error[1]
    assert len(_hashes(folder)) == 2 * 12


def test_killed_at_any_moment_a_restart_ends_with_the_same_files(fresh) -> None:
    folder = _import(fresh)
    words = ["-d", "7", "-np", "1", *SIZE]
    command = [Path(sys.executable).parent / "adnext_plan_and_preprocess", *words]
    assert plan_and_preprocess.main(words) == 0
    expected = _hashes(folder)
    for path in (folder / DATA).iterdir():
        path.unlink()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    while not any((folder / DATA).iterdir()) and process.poll() is None:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert _hashes(folder) != expected
    assert plan_and_preprocess.main(words) == 0
    assert _hashes(folder) == expected
    assert not (folder / f"{DATA}.partial").exists()


def test_a_full_disk_is_one_line_and_leaves_no_half_written_case(fresh, small_disk, capsys, monkeypatch) -> None:
    _import(fresh)
    monkeypatch.setenv("nnUNet_preprocessed", str(small_disk))
    assert plan_and_preprocess.main(["-d", "7", "-np", "1", *SIZE]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert len(error) == 1 and "no space left on the disk" in error[0]
    folder = small_disk / "Dataset007_Toy" / DATA
    for volume in folder.glob("*.b2nd"):
        assert blosc2.open(str(volume))[:].shape == (1, 32, 32, 32)
    assert not (small_disk / "Dataset007_Toy" / f"{DATA}.partial").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-d", "8"], "no dataset '8'"),
        (["-d", "7", "--preset", "papr"], "did you mean 'paper'"),
        (["-d", "7", "-c", "2d"], "the only configuration is 3d_fullres"),
        (["-d", "7", "--input-size", "0", "32", "32"], "input_size_voxels must be at least 1"),
        (["-d", "7", "--spacing", "-1", "2", "2"], "spacing_mm must be positive"),
    ],
)
def test_impossible_requests_are_one_line(fresh, capsys, arguments: list[str], message: str) -> None:
    _import(fresh)
    capsys.readouterr()
    assert plan_and_preprocess.main(arguments) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


def test_a_misspelt_key_of_a_users_preset_is_named_with_the_nearest_one(fresh, tmp_path, capsys) -> None:
    _import(fresh)
    (tmp_path / "mine.json").write_text('{"preprocessing": {"spacing": [1, 1, 1]}}')
    assert plan_and_preprocess.main(["-d", "7", "--preset", str(tmp_path / "mine.json")]) == 2
    assert "mine.json: unknown key 'preprocessing.spacing'; did you mean 'spacing_mm'?" in capsys.readouterr().err


def test_real_scans_come_out_where_an_independent_resampler_puts_them(real_data) -> None:
    scans = sorted((real_data / "oasis1" / "images").glob("OAS1_000*_MR1.nii.gz"))[:2]
    scans.append(next((real_data / "ixi" / "brain").glob("*.nii.gz")))  # stored in another orientation
    for path in scans:
        prepared = prepare(read_volume(path), PreprocessingSettings())
        assert prepared.properties["share_of_foreground_cut_off"] == 0
        box_xyz = np.array(prepared.properties["foreground_box"])[::-1]
        centre_mm = np.array(prepared.properties["ras_affine"]) @ [*(box_xyz.sum(axis=1) - 1) / 2, 1]
        # an odd number of voxels cannot be centred in 128; the surplus voxel of padding is at the far end
        odd = np.array(prepared.properties["resampled_shape_voxels"])[::-1] % 2
        affine = np.diag([1.75, 1.75, 1.75, 1])
        affine[:3, 3] = centre_mm[:3] - 1.75 * (63.5 - odd / 2)
        expected = resample_img(nibabel.load(path), affine, (128, 128, 128), interpolation="linear", copy_header=True)
        expected_zyx, found_zyx = expected.get_fdata().T, prepared.volume_zyx.astype(float)
        overlap = (
            2 * ((expected_zyx > 0) & (found_zyx != 0)).sum() / ((expected_zyx > 0).sum() + (found_zyx != 0).sum())
        )
        # at the edge one blends the scan with 0, the other the z-scored scan
        inside = ndimage.binary_erosion((expected_zyx > 0) & (found_zyx != 0), iterations=3)
        assert overlap > 0.97
        assert np.corrcoef(expected_zyx[inside], found_zyx[inside])[0, 1] > 0.98
