"""Regions of the template: where they are, whichever way an atlas lies in its file, and what of a map is in them."""

import nibabel
import numpy as np
import pandas as pd
import pytest

from adnext_plugin.errors import PathsError, SettingsError, TableError
from adnext_plugin.explanations.region_table import over_people, region_rows, relative
from adnext_plugin.explanations.regions import Region, of_masks, read_atlas
from adnext_plugin.explanations.template import over_template
from adnext_plugin.mni152 import mni152
from adnext_plugin.preprocessing.anatomy.parcels import parcels
from adnext_plugin.preprocessing.anatomy.template import GRID

LEFT_MM, RIGHT_MM = (-26.0, -18.0, -18.0), (26.0, -18.0, -18.0)
SIZES = ((17, LEFT_MM, 9.0), (53, RIGHT_MM, 7.0), (3, (0.0, 40.0, 20.0), 12.0))


def _places_mm(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    return np.einsum("ij,jxyz->ixyz", affine[:3, :3], np.indices(shape)) + affine[:3, 3, None, None, None]


def _atlas(folder, affine: np.ndarray, shape: tuple[int, ...]):
    """Balls around points in millimetres; the last one on both sides."""
    labels = np.zeros(shape, dtype=np.int16)
    for index, centre, radius in SIZES:
        labels[((_places_mm(affine, shape) - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(axis=0) < radius**2] = index
    nibabel.save(nibabel.Nifti1Image(labels, affine), folder / "atlas.nii.gz")
    table = "index,name\n0,Background\n17,Left-Hippocampus\n53,Right-Hippocampus\n3,Frontal\n99,Nowhere\n"
    (folder / "labels.csv").write_text(table)
    return folder / "atlas.nii.gz", folder / "labels.csv"


def _affine(matrix: np.ndarray, corner_mm: tuple[float, float, float]) -> np.ndarray:
    return np.block([[matrix, np.reshape(corner_mm, (3, 1))], [np.zeros((1, 3)), np.ones((1, 1))]])


def _centre_mm(region: Region) -> np.ndarray:
    template = mni152()
    places = np.column_stack(np.unravel_index(region.voxels, template.brain_zyx.shape))[:, ::-1]
    return (places @ template.affine[:3, :3].T + template.affine[:3, 3]).mean(axis=0)


angle = np.deg2rad(20)
TURN = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
ORIENTATIONS = {
    "RAS": _affine(np.diag([2.0, 2, 2]), (-80, -110, -70)),
    "LAS": _affine(np.diag([-2.0, 2, 2]), (80, -110, -70)),
    "oblique": _affine(TURN @ np.diag([2.0, 2, 2]), (-40, -140, -70)),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_left_is_left_in_an_atlas_of_any_orientation(tmp_path, orientation: str) -> None:
    regions = read_atlas(*_atlas(tmp_path, ORIENTATIONS[orientation], (82, 100, 80)))
    found = {(region.name, region.side): region for region in regions}
    assert set(found) == {
        ("Hippocampus", "left"),
        ("Hippocampus", "right"),
        ("Frontal", "left"),
        ("Frontal", "right"),
    }
    for (name, side), region in found.items():
        if name == "Hippocampus":
            assert np.abs(_centre_mm(region) - (LEFT_MM if side == "left" else RIGHT_MM)).max() < 1.5
        assert (_centre_mm(region)[0] < 0) == (side == "left")
    # the left ball is the larger one: 9 mm and 7 mm
    left, right = (len(found["Hippocampus", side].voxels) for side in ("left", "right"))
    assert left / right == pytest.approx((9 / 7) ** 3, rel=0.1)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Amygdala_R", ("Amygdala", "right")),
        ("lh.entorhinal", ("entorhinal", "left")),
        ("ctx-rh-cuneus", ("ctx-cuneus", "right")),
        ("Right Temporal Pole", ("Temporal Pole", "right")),
        ("Limbic", ("Limbic", "left")),  # it names no side, and lies on the left
    ],
)
def test_a_name_says_its_side_as_many_atlases_do(tmp_path, name: str, expected: tuple[str, str]) -> None:
    atlas, labels = _atlas(tmp_path, ORIENTATIONS["RAS"], (82, 100, 80))
    labels.write_text(f"label\tname\n17\t{name}\n")
    labels = labels.rename(tmp_path / "labels.tsv")
    (region,) = read_atlas(atlas, labels)
    assert (region.name, region.side) == expected


def _built_in() -> tuple[Region, ...]:
    return of_masks(parcels(), GRID)


def test_built_in_regions_are_the_whole_brain_once_and_lie_where_their_names_say() -> None:
    regions = _built_in()
    voxels = np.concatenate([region.voxels for region in regions])
    brain = np.flatnonzero(mni152().brain_zyx)
    assert len(np.unique(voxels)) == len(voxels) and set(voxels) <= set(brain)
    assert len(voxels) > 0.99 * len(brain)  # two masks of the template differ at the rim
    found = {(region.name, region.side): region for region in regions}
    assert {name for name, side in found if side == "left"} == {name for name, side in found if side == "right"}
    assert all((_centre_mm(region)[0] < 0) == (side == "left") for (_, side), region in found.items())
    # centroids of Tzourio-Mazoyer et al. 2002, right: of the pole between those of its upper and middle part
    for name, centre_mm in (
        ("hippocampus", (29, -20, -10)),
        ("amygdala", (27, 0, -18)),
        ("temporal pole", (46, 15, -25)),
    ):
        assert np.linalg.norm(_centre_mm(found[name, "right"]) - centre_mm) < 10, name


def test_a_map_within_one_region_is_all_in_its_row() -> None:
    regions = _built_in()
    only = next(region for region in regions if region.side == "left" and len(region.voxels) > 2000)
    map_zyx = np.zeros(mni152().brain_zyx.shape, dtype=np.float32)
    map_zyx.ravel()[only.voxels] = 3
    table = region_rows(relative(map_zyx), regions)
    row = table[(table["region"] == only.name) & (table["side"] == "left")].iloc[0]
    assert row["share"] == pytest.approx(1) and table["share"].sum() == pytest.approx(1)
    brain = mni152().brain_zyx.sum()
    assert row["share_of_brain"] == pytest.approx(len(only.voxels) / brain)
    # in units of the mean over the brain
    assert row["mean"] == pytest.approx(brain / len(only.voxels), rel=1e-5) == row["times_chance"]
    flat = region_rows(relative(mni152().brain_zyx.astype(np.float32)), regions)
    np.testing.assert_allclose(flat["times_chance"], 1, rtol=1e-5)
    assert (region_rows(relative(np.zeros_like(map_zyx)), regions)["share"] == 0).all()


def test_people_count_once_however_many_scans_they_have() -> None:
    def row(case: str, side: str, share: float) -> dict:
        numbers = {"share": share, "share_of_brain": 0.1, "times_chance": 10 * share, "mean": share}
        return {"case_id": case, "subject_id": case[0], "region": "pole", "side": side, **numbers}

    shares = {"a1": (0.1, 0.3), "a2": (0.3, 0.1), "b1": (0.4, 0.0)}
    rows = [
        row(case, side, one) for case, both in shares.items() for side, one in zip(("left", "right"), both, strict=True)
    ]
    table = over_people(pd.DataFrame(rows), {"a1": "CN", "a2": "CN", "b1": "AD"}).set_index(["group", "side"])
    everybody = table.loc["all", "left"]
    assert everybody["share"] == pytest.approx(0.3) and everybody["people"] == 2
    # of 0.2 and 0.4: SD 0.141, standard error 0.1, Student's t with one degree of freedom 12.706
    assert everybody["share_high"] == pytest.approx(0.3 + 1.2706, abs=1e-3)
    # of a (0.2 - 0.2) / 0.4, of b (0.4 - 0) / 0.4
    assert everybody["asymmetry"] == pytest.approx(0.5)
    assert table.loc["CN", "right"]["share"] == pytest.approx(0.2) and table.loc["AD", "left"]["asymmetry"] == 1
    assert np.isnan(table.loc["AD", "left"]["share_low"])


def test_a_landmark_of_a_scan_is_where_it_belongs_in_the_template() -> None:
    # a scan that is turned, shifted and 10 % larger than the template
    scan_from_mni = _affine(TURN * 1.1, (4.0, -7.0, 12.0))
    grid = _affine(np.diag([3.0, 3, 3]), (-100.0, -130, -80))
    places_mm = _places_mm(grid, (66, 76, 60))
    landmark = scan_from_mni @ [*LEFT_MM, 1]
    map_xyz = np.exp(-((places_mm - landmark[:3, None, None, None]) ** 2).sum(axis=0) / (2 * 4**2))
    found = over_template(map_xyz.T, grid, scan_from_mni)
    z, y, x = np.unravel_index(found.volume_zyx.argmax(), found.volume_zyx.shape)
    assert np.abs((found.affine @ [x, y, z, 1])[:3] - LEFT_MM).max() <= 2


def test_an_atlas_that_cannot_be_used_is_one_line(tmp_path) -> None:
    atlas, labels = _atlas(tmp_path, ORIENTATIONS["RAS"], (82, 100, 80))

    def refused(error: type[Exception], text: str) -> None:
        with pytest.raises(error, match=text) as caught:
            read_atlas(atlas, labels)
        assert "\n" not in str(caught.value)

    good = labels.read_text()
    labels.write_text("value,name\n17,Hippocampus\n")
    refused(TableError, "labels.csv has no column 'index'; give a table with columns 'index'")
    labels.write_text("index,name\n17,Hippocampus\n17,Amygdala\n")
    refused(TableError, "index that is no whole number, or is there twice")
    labels.write_text("index,name\n5,Elsewhere\n")
    refused(SettingsError, "no region of .*labels.csv within the brain of MNI152")
    labels.unlink()
    refused(PathsError, "labels.csv")
    labels.write_text(good)
    shares = nibabel.Nifti1Image(np.random.default_rng(0).random((20, 20, 20)).astype(np.float32), np.eye(4))
    nibabel.save(shares, atlas)
    refused(SettingsError, "values that are no whole numbers")
