"""Maps lie over the scan where the network saw what they mark, however the scan was turned, cut, stretched or moved."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest
import torch
from scipy import ndimage

from adnext_plugin.data.centre import CentreCrop
from adnext_plugin.data.store import CaseStore
from adnext_plugin.demo.phantom import Anatomy, make_phantom
from adnext_plugin.errors import SettingsError
from adnext_plugin.explanations.placement import map_affine, on_map, over_scan, write_nifti
from adnext_plugin.images import looked_up, read_volume, reorient_to_ras
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.preprocessor import CaseJob, prepare_case

PLAIN = {"brain_extraction": "none", "clip_percentiles": None}
WAYS = {
    "padded": {"spacing_mm": (2.0, 2.5, 3.0), "input_size_voxels": (48, 48, 40)},
    "cropped": {"spacing_mm": (1.5, 1.5, 1.5), "input_size_voxels": (40, 44, 36)},
    "stretched": {"fit": "resize", "input_size_voxels": (40, 32, 48)},
}
TURN = np.array([[0.94, -0.25, 0.23], [0.3, 0.93, -0.21], [-0.16, 0.27, 0.95]])


def _affines() -> dict[str, np.ndarray]:
    """Of scans (x, y, z): RAS, LAS, with swapped axes, and oblique."""
    scale = np.diag([2.0, 1.8, 2.2])
    turned, _ = np.linalg.qr(TURN)
    turned *= np.sign(np.diag(turned))
    swapped = scale[:, [2, 0, 1]] * [1, -1, 1]
    found = {"RAS": scale, "LAS": scale * [-1, 1, 1], "swapped": swapped, "oblique": turned @ scale}
    return {
        name: np.block([[matrix, np.array([[-30.0], [12.0], [7.0]])], [np.zeros((1, 3)), np.ones((1, 1))]])
        for name, matrix in found.items()
    }


AFFINES = _affines()


def _head(landmark: tuple[int, int, int]) -> np.ndarray:
    """An ellipsoid (x, y, z) with one bright spot."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in (38, 42, 34)], indexing="ij"))
    brain = np.where((grid**2).sum(axis=0) < 0.8, 100.0, 0)
    x, y, z = landmark
    brain[x : x + 3, y : y + 3, z : z + 3] = 1000
    return brain.astype(np.float32)


def _peak_mm(volume_zyx: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Centre of mass of what is well above the rest, in millimetres."""
    weights = np.clip(volume_zyx - 0.4 * volume_zyx.max(), 0, None)
    places = [(weights * index).sum() / weights.sum() for index in np.indices(weights.shape)]
    return (affine @ [*places[::-1], 1])[:3]


def _prepare(tmp_path, volume_xyz: np.ndarray, affine: np.ndarray, **settings):
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(volume_xyz, affine), path)
    plan = PreprocessingSettings(**PLAIN, **settings)
    job = CaseJob(case="scan", image=path, folder=tmp_path / "prepared", settings=plan)
    properties = prepare_case(job).properties
    stored = CaseStore(job.folder, ["scan"], plan.input_size_voxels)[0][0]
    return path, plan, properties, stored.astype(np.float32)


@pytest.mark.parametrize("orientation", AFFINES)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("crop", [None, (33, 30, 32)])
def test_a_landmark_is_found_where_it_is_in_the_file(tmp_path, orientation: str, way: str, crop) -> None:
    landmark = (23, 25, 13)
    affine = AFFINES[orientation]
    path, plan, properties, seen_zyx = _prepare(tmp_path, _head(landmark), affine, **WAYS[way])
    if crop is not None:
        crop = tuple(min(pair) for pair in zip(crop, seen_zyx.shape, strict=True))
        seen_zyx = CentreCrop(crop)(torch.from_numpy(seen_zyx)[None], 0)[0].numpy()
    map_zyx = np.clip(seen_zyx, 0, None)
    grid = map_affine(properties, plan.input_size_voxels, map_zyx.shape, "scan")
    truth_mm = (affine @ [*(np.array(landmark) + 1), 1])[:3]
    assert np.abs(_peak_mm(map_zyx, grid) - truth_mm).max() < 1
    write_nifti(over_scan(map_zyx, grid, properties), tmp_path / "map.nii.gz")
    written, scan = read_volume(tmp_path / "map.nii.gz"), reorient_to_ras(read_volume(path))
    # voxel by voxel over the scan
    assert written.volume_zyx.shape == scan.volume_zyx.shape
    np.testing.assert_allclose(written.affine, scan.affine, atol=1e-4)
    assert np.abs(_peak_mm(written.volume_zyx, written.affine) - truth_mm).max() < 1
    image = nibabel.load(tmp_path / "map.nii.gz")
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
    # and back: a mask drawn on the file is found on the map
    drawn = read_volume(path)
    drawn.volume_zyx[drawn.volume_zyx < 999] = 0
    assert np.abs(_peak_mm(on_map(drawn, grid, map_zyx.shape), grid) - truth_mm).max() < 1.5


def test_a_landmark_of_an_aligned_scan_is_found_where_it_is_in_the_file(tmp_path) -> None:
    anatomy = Anatomy(ventricle_growth=0, temporal_loss=0, scale=1.05, shape_seed=1)
    volume_xyz = make_phantom(anatomy, 0).volume_xyz
    landmark = (60, 70, 45)
    volume_xyz[tuple(slice(at, at + 3) for at in landmark)] = 5 * volume_xyz.max()
    affine = AFFINES["oblique"] @ np.diag([1, 2 / 1.8, 2 / 2.2, 1])
    settings = {"alignment": "rigid", "spacing_mm": (3.0,) * 3, "input_size_voxels": (64, 64, 64)}
    _, plan, properties, seen_zyx = _prepare(tmp_path, volume_xyz, affine, **settings)
    assert properties.scan_from_mni_mm is not None
    map_zyx = np.clip(seen_zyx, 0, None)
    grid = map_affine(properties, plan.input_size_voxels, map_zyx.shape, "scan")
    found = over_scan(map_zyx, grid, properties)
    truth_mm = (affine @ [*(np.array(landmark) + 1), 1])[:3]
    assert np.abs(_peak_mm(found.volume_zyx, found.affine) - truth_mm).max() < 2
    # it was moved, so that forgetting the way back would be seen
    assert np.abs(np.array(properties.input_affine)[:3, :3] - np.eye(3) * 3).max() > 0.3


def test_the_same_map_is_the_same_file(tmp_path) -> None:
    _, plan, properties, seen_zyx = _prepare(tmp_path, _head((20, 20, 20)), AFFINES["LAS"], **WAYS["padded"])
    grid = map_affine(properties, plan.input_size_voxels, seen_zyx.shape, "scan")
    for name in ("first", "second"):
        write_nifti(over_scan(seen_zyx, grid, properties), tmp_path / f"{name}.nii.gz")
    assert (tmp_path / "first.nii.gz").read_bytes() == (tmp_path / "second.nii.gz").read_bytes()


def test_a_case_of_which_it_is_not_known_where_its_voxels_lie_is_one_line(tmp_path) -> None:
    _, plan, properties, seen_zyx = _prepare(tmp_path, _head((20, 20, 20)), AFFINES["RAS"], **WAYS["padded"])
    with pytest.raises(SettingsError, match=r"case sub01 was prepared by version 0\.1\.0.*adnext_plan_and_preprocess"):
        map_affine(replace(properties, input_affine=None), plan.input_size_voxels, seen_zyx.shape, "sub01")


@pytest.mark.parametrize("order", [0, 1])
def test_only_what_can_see_something_is_looked_up_and_the_rest_is_zero(order: int) -> None:
    random = np.random.default_rng(0)
    for _ in range(60):
        values, matrix = np.zeros(random.integers(3, 20, 3)), np.eye(4)
        starts = random.integers(0, values.shape)
        stops = random.integers(starts, values.shape) + 1
        box = tuple(slice(start, stop) for start, stop in zip(starts, stops, strict=True))
        values[box] = random.normal(size=values[box].shape)
        matrix[:3, :3] = np.diag(random.choice([-1.7, -1, 0.4, 1, 1.3], 3)) + random.choice([0, 0.1]) * np.eye(3)[::-1]
        matrix[:3, 3] = random.uniform(-5, 15, 3)
        backwards = matrix[[2, 1, 0]][:, [2, 1, 0, 3]]
        shape = tuple(random.integers(2, 25, 3))
        whole = ndimage.affine_transform(
            values.astype(np.float32), backwards[:, :3], backwards[:, 3], shape, order=order, mode="grid-constant"
        )
        np.testing.assert_allclose(looked_up(values, matrix, shape, order), whole, atol=1e-6)
    assert not looked_up(np.zeros((3, 3, 3)), np.eye(4), (4, 4, 4)).any()
