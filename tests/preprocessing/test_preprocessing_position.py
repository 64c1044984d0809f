"""Bias field and position: what was done to a brain is found and undone."""

import numpy as np
import pytest
from nilearn.datasets import load_mni152_brain_mask, load_mni152_template
from scipy import ndimage
from scipy.spatial.transform import Rotation

from adnext_plugin.images import Volume
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.alignment import align_to_mni152, template_centre_mm
from adnext_plugin.preprocessing.bias_field import correct_bias_field
from adnext_plugin.preprocessing.chain import prepare
from adnext_plugin.preprocessing.grid.geometry import fit

SPACING_MM = 3


@pytest.fixture(scope="module")
def brain() -> Volume:
    """The template's brain."""
    template, mask = load_mni152_template(resolution=SPACING_MM), load_mni152_brain_mask(resolution=SPACING_MM)
    volume_xyz = template.get_fdata() * (mask.get_fdata() > 0)
    return Volume(volume_zyx=np.ascontiguousarray(volume_xyz.T, dtype=np.float32), affine=template.affine)


def test_n4_removes_a_known_bias_field(brain) -> None:
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, size) for size in brain.volume_zyx.shape], indexing="ij")
    field_zyx = np.exp(0.4 * x - 0.3 * y * z + 0.3 * z)
    seen = Volume(volume_zyx=(brain.volume_zyx * 500 * field_zyx).astype(np.float32), affine=brain.affine)
    corrected = correct_bias_field(seen, 3, (30, 30, 30))
    inside = ndimage.binary_erosion(brain.volume_zyx > 0, iterations=2)
    plain = correct_bias_field(Volume(volume_zyx=brain.volume_zyx * 500, affine=brain.affine), 3, (30, 30, 30))
    # N4 also finds some bias in the template itself, so that the corrected one is the reference
    left = np.log(corrected.volume_zyx[inside] / plain.volume_zyx[inside])
    assert left.std() < 0.25 * np.log(field_zyx[inside]).std()
    np.testing.assert_array_equal(corrected.volume_zyx[brain.volume_zyx == 0], 0)


@pytest.mark.parametrize(("kind", "scale"), [("rigid", 1.0), ("affine", 1.1)])
def test_a_brain_that_was_moved_is_found_again(brain, kind: str, scale: float) -> None:
    turn = Rotation.from_euler("xyz", [12, -6, 8], degrees=True).as_matrix() * scale
    moved_from_mni_mm = np.eye(4)
    moved_from_mni_mm[:3, :3], moved_from_mni_mm[:3, 3] = turn, [7, -9, 5]
    moved = Volume(volume_zyx=brain.volume_zyx, affine=moved_from_mni_mm @ brain.affine)
    found = align_to_mni152(moved, kind)
    np.testing.assert_array_equal(align_to_mni152(moved, kind), found)  # to the bit, whatever the number of threads
    inside_mm = np.argwhere(brain.volume_zyx > 0)[:, ::-1] @ brain.affine[:3, :3].T + brain.affine[:3, 3]
    error_mm = inside_mm @ (found - moved_from_mni_mm)[:3, :3].T + (found - moved_from_mni_mm)[:3, 3]
    assert np.linalg.norm(error_mm, axis=1).max() < 1.5
    # and one interpolation puts it where the template is, whatever the scan's own grid
    settings = PreprocessingSettings(
        spacing_mm=(4.0, 4.0, 4.0), input_size_voxels=(40, 50, 44), alignment=kind, clip_percentiles=None
    )
    prepared = prepare(moved, settings)
    assert prepared.properties["share_of_foreground_cut_off"] == 0
    expected_zyx = _on_grid(brain, settings)
    assert np.corrcoef(prepared.volume_zyx.ravel(), expected_zyx.ravel())[0, 1] > 0.98
    np.testing.assert_allclose(prepared.properties["scan_from_mni_mm"], found, atol=0.05)  # registered after cropping


def _on_grid(brain: Volume, settings: PreprocessingSettings) -> np.ndarray:
    """The z-scored template at the places in MNI space that the voxels of an aligned input stand for."""
    inside = brain.volume_zyx > 0
    scored_zyx = np.where(
        inside, (brain.volume_zyx - brain.volume_zyx[inside].mean()) / brain.volume_zyx[inside].std(), 0
    )
    indices_xyz = np.stack(np.meshgrid(*[np.arange(size) for size in settings.input_size_voxels], indexing="ij"))[::-1]
    size_xyz = np.array(settings.input_size_voxels[::-1])
    mm = template_centre_mm()[:, None] + 4.0 * (indices_xyz.reshape(3, -1) - (size_xyz[:, None] - 1) / 2)
    voxels = np.linalg.inv(brain.affine) @ np.vstack([mm, np.ones(mm.shape[1])])
    smooth_zyx = ndimage.gaussian_filter(scored_zyx, (4 / SPACING_MM - 1) / 2)
    return ndimage.map_coordinates(smooth_zyx, voxels[2::-1], order=1).reshape(settings.input_size_voxels)


def test_the_spacing_limits_the_detail_of_a_stretched_brain_too() -> None:
    # a chessboard of single voxels, stretched to more voxels than it has, holds nothing that 3 mm could show
    board = np.indices((30, 30, 30)).sum(axis=0) % 2 * 2.0 - 1
    settings = PreprocessingSettings(spacing_mm=(3.0, 3.0, 3.0), input_size_voxels=(40, 40, 40), fit="resize")
    fitted = fit(board[None], (1.0, 1.0, 1.0), settings)
    assert fitted.image_czyx.shape == (1, 40, 40, 40) and fitted.resampled_shape_voxels == (10, 10, 10)
    assert np.abs(fitted.image_czyx[0, 4:-4, 4:-4, 4:-4]).max() < 0.02
