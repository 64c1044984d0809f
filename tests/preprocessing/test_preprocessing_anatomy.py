"""Tissues and regions of brains whose true volumes are known, and scans that must be refused."""

from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from conftest import Workspace
from scipy.ndimage import binary_dilation, gaussian_filter
from scipy.spatial.transform import Rotation

from adnext_plugin.cli import import_dataset, plan_and_preprocess, regions
from adnext_plugin.errors import ImageError, TableError
from adnext_plugin.images import read_volume, reorient_to_ras
from adnext_plugin.preprocessing.anatomy.evenness import evened
from adnext_plugin.preprocessing.anatomy.measure import RegionsJob, measure_regions
from adnext_plugin.preprocessing.anatomy.placing import place_in_mni152
from adnext_plugin.preprocessing.anatomy.regions import (
    VOXEL_ML,
    built_in_regions,
    medial_temporal_volumes,
    regions_of_atlas,
    volumes_of,
)
from adnext_plugin.preprocessing.anatomy.template import GRID, SHAPE_ZYX, mni152
from adnext_plugin.preprocessing.anatomy.tissues import tissues_of, white_matter_intensity
from adnext_plugin.subjects import read_dataset

FLUID, GREY, WHITE = 30.0, 62.0, 100.0
LANDMARKS_MM = np.array([[-60, -20, 0, 1], [60, -20, 0, 1], [0, 60, 10, 1], [0, -95, 5, 1], [0, -20, 70, 1]]).T


def _classes() -> np.ndarray:
    """0 outside, 1 fluid, 2 grey, 3 white, (Z, Y, X): the likeliest tissue of the template."""
    template = mni152()
    fluid = np.where(template.mask, 1 - template.grey - template.white, 0)
    return np.where(template.mask, 1 + np.argmax([fluid, template.grey, template.white], axis=0), 0)


def _image(classes: np.ndarray, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.5, classes.shape)
    return np.where(classes > 0, np.array([0, FLUID, GREY, WHITE])[classes] + noise, 0).astype(np.float32)


def _lost_hippocampus(side: str) -> tuple[np.ndarray, float]:
    """Tissues of a brain in which half of one hippocampus has become fluid, and how many millilitres that is."""
    classes, inside = _classes(), built_in_regions()[f"hippocampus_{side}"]
    places = np.argwhere((inside == 1) & (classes == 2))[::2]
    classes[tuple(places.T)] = 1
    return classes, len(places) * VOXEL_ML


def _write(path: Path, volume_zyx: np.ndarray, affine: np.ndarray = GRID) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(volume_zyx.T, affine), path)
    return path


def _job(image: Path) -> RegionsJob:
    return RegionsJob(case=image.name.split(".")[0], image=image, mask=None, folder=image.parent / "regions")


def test_shares_of_tissues_add_up_to_the_true_volumes() -> None:
    template, classes = mni152(), _classes()
    found = tissues_of(_image(classes) * 7, template.mask, template.wide_mask, template.white)
    for tissue, share in ((2, found.grey), (3, found.white)):
        assert share.sum() == pytest.approx(np.count_nonzero(classes == tissue), rel=0.02)
    np.testing.assert_allclose(found.fluid + found.grey + found.white, template.wide_mask, atol=1e-5)
    assert found.means == pytest.approx((0.3, GREY / WHITE, 1.0), abs=0.02)
    assert found.white_intensity == pytest.approx(7 * WHITE, rel=0.01)


def test_the_reference_of_white_matter_does_not_move_with_atrophy_or_lesions() -> None:
    template, classes = mni152(), _classes()
    whole = white_matter_intensity(_image(classes), template.white)
    sick = classes.copy()
    sick[binary_dilation(classes == 1, iterations=1) & (classes == 2)] = 1
    sick[(template.white > 0.95) & (np.random.default_rng(1).random(SHAPE_ZYX) < 0.2)] = 2
    assert np.count_nonzero(sick == 1) > 1.3 * np.count_nonzero(classes == 1)
    assert white_matter_intensity(_image(sick), template.white) == pytest.approx(whole, rel=0.01)


def _coil() -> np.ndarray:
    """Brightness that falls by half across the head, bent from front to back."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in SHAPE_ZYX), indexing="ij")
    return np.exp(0.35 * x - 0.3 * z + 0.4 * y**2).astype(np.float32)


def test_what_a_coil_did_to_brightness_is_taken_away_and_atrophy_is_not() -> None:
    template, coil = mni152(), _coil()
    sick = _classes()
    # ventricles four times as large, by which N4 is misled
    sick[binary_dilation(sick == 1, iterations=2) & (sick == 2)] = 1
    sick[binary_dilation(built_in_regions()["ventricles_left"] > 0, iterations=4) & (sick > 0)] = 1
    assert np.count_nonzero(sick == 1) > 1.5 * np.count_nonzero(_classes() == 1)
    for classes in (_classes(), sick):
        plain, inside = _image(classes), classes > 0
        even, usual = evened(plain * coil), evened(plain)
        assert np.ptp(np.log(coil[inside])) > 0.7
        assert np.std(np.log(even[inside] / usual[inside])) < 0.01
        assert np.std(np.log(usual[inside] / plain[inside])) < 0.04  # the template's white matter is not even itself
        lost = [tissues_of(one, template.mask, template.wide_mask, template.white).fluid.sum() for one in (usual, even)]
        assert lost[1] == pytest.approx(lost[0], rel=0.02)
        assert not even[~inside].any()


def test_a_voxel_between_two_tissues_has_shares_of_both() -> None:
    template, classes = mni152(), _classes()
    volume = _image(classes)
    place = tuple(np.argwhere(classes == 2)[1000])
    volume[place] = WHITE * 0.9 + GREY * 0.1
    found = tissues_of(volume, template.mask, template.wide_mask, template.white)
    assert found.white[place] == pytest.approx(0.9, abs=0.05)
    assert found.grey[place] == pytest.approx(0.1, abs=0.05)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_region_changes_by_what_was_taken_and_no_other_region_does(side: str) -> None:
    template, (classes, lost_ml) = mni152(), _lost_hippocampus(side)
    other = {"left": "right", "right": "left"}[side]
    before, after = (
        volumes_of(tissues_of(_image(one), template.mask, template.wide_mask, template.white), built_in_regions())
        for one in (_classes(), classes)
    )
    assert lost_ml > 0.5
    assert before[f"hippocampus_{side}_grey"] - after[f"hippocampus_{side}_grey"] == pytest.approx(lost_ml, rel=0.03)
    assert after[f"hippocampus_{side}_fluid"] - before[f"hippocampus_{side}_fluid"] == pytest.approx(lost_ml, rel=0.03)
    for name in ("hippocampus", "amygdala", "temporal_lobe", "ventricles"):
        assert after[f"{name}_{other}_grey"] == pytest.approx(before[f"{name}_{other}_grey"], rel=0.01, abs=0.01)


def test_regions_lie_on_their_sides_and_mirror_each_other() -> None:
    found = built_in_regions()
    middle = SHAPE_ZYX[2] // 2
    for name, inside in found.items():
        left, right = inside[:, :, :middle].sum(), inside[:, :, middle + 1 :].sum()
        assert (left > 0) == name.endswith("_left") and (right > 0) == name.endswith("_right"), name
    np.testing.assert_allclose(found["hippocampus_left"][:, :, ::-1], found["hippocampus_right"])
    lobes = np.sum([inside for name, inside in found.items() if "_lobe_" in name], axis=0)
    assert lobes.max() == 1 and len(medial_temporal_volumes()) == 18


@pytest.mark.parametrize("orientation", ["RAS", "LAS", "PSR"])
def test_sides_do_not_swap_with_the_orientation_of_the_file(orientation: str, tmp_path: Path) -> None:
    classes, _ = _lost_hippocampus("left")
    image = nibabel.Nifti1Image(_image(classes).T, GRID)
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(GRID), nibabel.orientations.axcodes2ornt(tuple(orientation))
    )
    path = tmp_path / "scan.nii.gz"
    nibabel.save(image.as_reoriented(turn), path)
    placed = place_in_mni152(reorient_to_ras(read_volume(path)))
    assert placed.was_there and placed.overlap > 0.95
    # nothing was interpolated: the scan lies on the template's grid
    np.testing.assert_allclose(placed.volume_zyx, _image(classes), atol=1e-3)


def test_a_turned_and_scaled_brain_is_found_and_measured_as_it_was(tmp_path: Path) -> None:
    classes, _ = _lost_hippocampus("left")
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", [15, -8, 12], degrees=True).as_matrix() @ np.diag([1.08, 0.95, 1.04])
    turn[:3, 3] = [12, -30, 9]
    volume = gaussian_filter(_image(classes), 0.4)
    moved = measure_regions(_job(_write(tmp_path / "moved.nii.gz", volume, turn @ GRID))).numbers
    still = measure_regions(_job(_write(tmp_path / "still.nii.gz", volume))).numbers
    placed = place_in_mni152(reorient_to_ras(read_volume(tmp_path / "moved.nii.gz")))
    away_mm = np.linalg.norm((np.linalg.inv(turn) @ placed.scan_from_mni_mm @ LANDMARKS_MM - LANDMARKS_MM)[:3], axis=0)
    assert not placed.was_there and away_mm.max() < 2
    assert moved["intracranial_ml"] == pytest.approx(still["intracranial_ml"] * np.linalg.det(turn), rel=0.02)
    assert moved["hippocampus_left_fluid_ml"] > 2 * moved["hippocampus_right_fluid_ml"]
    assert moved["brain_share"] == pytest.approx(still["brain_share"], abs=0.02)


def test_what_is_no_whole_brain_is_refused_with_its_reason(tmp_path: Path) -> None:
    volume, middle = _image(_classes()), SHAPE_ZYX[2] // 2
    half = volume.copy()
    half[:, :, : middle - 6] = 0
    with pytest.raises(ImageError, match=r"half.nii.gz.*(unlike the template|left half|be stretched)"):
        measure_regions(_job(_write(tmp_path / "half.nii.gz", half)))
    cut = volume.copy()
    cut[:28] = 0
    with pytest.raises(ImageError, match=r"cut.nii.gz.*(unlike the template|lower half|be stretched)"):
        measure_regions(_job(_write(tmp_path / "cut.nii.gz", cut)))
    with pytest.raises(ImageError, match=r"head.nii.gz.*it is a head"):
        measure_regions(_job(_write(tmp_path / "head.nii.gz", volume + 20)))
    inverted = np.where(volume > 0, 140 - volume, 0).astype(np.float32)
    with pytest.raises(ImageError, match=r"inverted.nii.gz"):
        measure_regions(_job(_write(tmp_path / "inverted.nii.gz", inverted)))
    assert not list((tmp_path / "regions").glob("*"))


def test_a_case_is_measured_once_and_again_when_its_scan_or_record_changes(tmp_path: Path) -> None:
    path = _write(tmp_path / "scan.nii.gz", _image(_classes()))
    first, second = measure_regions(_job(path)), measure_regions(_job(path))
    assert first.is_new and not second.is_new and first.numbers == second.numbers
    record = tmp_path / "regions" / "scan.json"
    record.write_text(record.read_text()[:50])
    assert measure_regions(_job(path)).numbers == first.numbers
    _write(path, _image(_lost_hippocampus("left")[0]))
    changed = measure_regions(_job(path))
    assert changed.is_new and changed.numbers["hippocampus_left_grey_ml"] < first.numbers["hippocampus_left_grey_ml"]


def test_an_atlas_of_ones_own_takes_the_place_of_the_regions(tmp_path: Path) -> None:
    labels = np.zeros(SHAPE_ZYX, np.float32)
    labels[40:50, 40:50, 30:40], labels[40:50, 40:50, 50:60] = 7, 9
    atlas = _write(tmp_path / "atlas.nii.gz", labels)
    table = tmp_path / "labels.csv"
    table.write_text("label,name,colour\n0,nothing,black\n7,one,red\n9,two,blue\n")
    found = regions_of_atlas(atlas, table)
    assert list(found) == ["one", "two"] and found["one"].sum() == 1000
    np.testing.assert_array_equal(found["two"], labels == 9)
    table.write_text("label,name\n8,three\n")
    regions_of_atlas.cache_clear()
    with pytest.raises(TableError, match="has no voxel of 'three'; take the row out"):
        regions_of_atlas(atlas, table)
    table.write_text("number,name\n8,three\n")
    with pytest.raises(TableError, match="no column 'index'"):
        regions_of_atlas(atlas, table)


def test_the_command_writes_a_table_that_joins_the_subjects_and_names_what_failed(
    fresh: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["subject,path,diagnosis"]
    for index in range(4):
        volume = _image(_lost_hippocampus("left")[0] if index % 2 else _classes(), seed=index)
        if index == 3:
            volume[:, 60:] = 0
        _write(fresh.source / f"p{index}.nii.gz", volume)
        rows.append(f"p{index},p{index}.nii.gz,{'AB'[index % 2]}")
    table = fresh.source / "table.csv"
    table.write_text("\n".join(rows) + "\n")
    target = ["--target", "diagnosis", "--positive", "B"]
    assert import_dataset.main(["7", "Toy", "--table", str(table), *target, "-np", "1"]) == 0
    size = ["--input-size", "16", "16", "16", "--spacing", "12", "12", "12", "--no-splits"]
    assert plan_and_preprocess.main(["-d", "7", "-np", "1", *size]) == 0
    capsys.readouterr()
    assert regions.main(["-d", "7", "-np", "1"]) == 2
    said = capsys.readouterr()
    assert "3 cases measured, 0 of them before; 1 failed" in said.out and "p3_0000.nii.gz" in said.err
    folder = fresh.preprocessed / "Dataset007_Toy"
    page = (folder / "regions" / "regions.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 3 and "1 failed" in page and "http" not in page
    _, subjects = read_dataset(folder)
    grey = subjects.set_index("subject_id")["hippocampus_left_grey_ml_per_l"]
    assert grey["p1"] < 0.9 * grey["p0"] and grey["p2"] == pytest.approx(grey["p0"], rel=0.02) and np.isnan(grey["p3"])
    before = (folder / "regions.csv").read_bytes()
    assert regions.main(["-d", "7", "-np", "1"]) == 2
    assert "3 of them before" in capsys.readouterr().out and (folder / "regions.csv").read_bytes() == before
    assert len(pd.read_csv(folder / "regions.csv")) == 3
    assert regions.main(["-d", "7", "--atlas", "x.nii.gz"]) == 2
    assert "--atlas and --labels need each other" in capsys.readouterr().err
