"""Each step of preprocessing against a known answer."""

import itertools

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from adnext_plugin.errors import ImageError
from adnext_plugin.images import Volume, foreground_box, read_volume, reorient_to_ras
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.preprocessing.chain import prepare
from adnext_plugin.preprocessing.grid.geometry import fit_aligned, fit_stock_volume, pad_crop, resample, resize
from adnext_plugin.preprocessing.steps.clip import clip_foreground
from adnext_plugin.preprocessing.steps.z_score import z_score_foreground

ORIENTATIONS = [
    "".join(codes) for order in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*order)
]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_scan_stored_in_any_of_the_48_orientations_becomes_the_same_array(orientation: str, tmp_path) -> None:
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    volume_xyz = np.arange(5 * 6 * 7, dtype=np.float32).reshape(5, 6, 7)
    image = nibabel.Nifti1Image(volume_xyz, affine)
    target = nibabel.orientations.axcodes2ornt(orientation)
    nibabel.save(
        image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(affine), target)),
        tmp_path / "x.nii.gz",
    )
    volume = reorient_to_ras(read_volume(tmp_path / "x.nii.gz"))
    np.testing.assert_array_equal(volume.volume_zyx, volume_xyz.T)
    assert volume.spacing_mm == (3.0, 2.0, 1.0)


def test_the_foreground_box_is_tight_and_an_empty_scan_is_refused() -> None:
    volume = np.zeros((6, 7, 8), dtype=np.float32)
    volume[1:3, 2:7, 5] = 4
    assert foreground_box(volume) == (slice(1, 3), slice(2, 7), slice(5, 6))
    with pytest.raises(ImageError, match="no foreground"):
        foreground_box(np.zeros((3, 3, 3)))


def test_z_scores_have_mean_0_and_deviation_1_inside_and_0_outside() -> None:
    generator = np.random.default_rng(0)
    volume = np.where(generator.random((12, 12, 12)) < 0.5, generator.gamma(2, 300, (12, 12, 12)), 0)
    scored = z_score_foreground(volume)
    inside = scored[volume > 0].astype(np.float64)
    assert abs(inside.mean()) < 1e-6 and abs(inside.std() - 1) < 1e-6
    assert (scored[volume == 0] == 0).all()
    with pytest.raises(ImageError, match="constant"):
        z_score_foreground(np.where(volume > 0, 7.0, 0))


def test_clipping_limits_the_foreground_to_its_own_percentiles() -> None:
    volume = np.zeros((10, 10, 21))
    volume[..., :20] = np.arange(1, 2001).reshape(10, 10, 20)
    clipped = clip_foreground(volume, (1, 99))
    low, high = np.percentile(np.arange(1, 2001), (1, 99))
    assert clipped[..., :20].min() == pytest.approx(low) and clipped.max() == pytest.approx(high)
    assert (clipped[..., 20] == 0).all()


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (2.0, 2.0, 2.0), (1.2, 0.8, 2.5)])
def test_resampling_keeps_a_smooth_brain_where_it_is_in_the_world(spacing: tuple[float, ...]) -> None:
    target = (1.75, 1.75, 1.75)

    def bump(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> np.ndarray:
        axes = [(np.arange(size) - (size - 1) / 2) * edge for size, edge in zip(shape, spacing_mm, strict=True)]
        z, y, x = np.meshgrid(*axes, indexing="ij")
        return np.exp(-((z - 5) ** 2 + (y + 8) ** 2 + (x - 3) ** 2) / (2 * 12.0**2))

    shape = tuple(int(120 / edge) for edge in spacing)
    found = resample(bump(shape, spacing), spacing, target)
    assert np.abs(found - bump(found.shape, target)).max() < 0.02


def test_resampling_to_the_same_spacing_changes_nothing() -> None:
    volume = np.random.default_rng(0).random((5, 6, 7))
    np.testing.assert_array_equal(resample(volume, (2.0, 2.0, 2.0), (2.0, 2.0, 2.0)), volume)
    np.testing.assert_array_equal(resize(volume, (5, 6, 7)), volume)


def test_downsampling_removes_detail_too_fine_for_the_new_grid() -> None:
    # a chessboard of single voxels holds nothing that a grid three times as coarse could show
    board = np.indices((60, 60, 60)).sum(axis=0) % 2 * 2.0 - 1
    coarse = resample(board, (1.0, 1.0, 1.0), (3.0, 3.0, 3.0))
    assert np.abs(board[1::3, 1::3, 1::3]).min() == 1  # what mere sampling would keep
    assert np.abs(coarse[2:-2, 2:-2, 2:-2]).max() < 0.02


def test_resizing_stretches_each_axis_over_its_whole_extent() -> None:
    ramp = np.broadcast_to(np.arange(20.0)[:, None, None], (20, 10, 10))
    found = resize(ramp, (40, 10, 5))
    np.testing.assert_allclose(found[2:-2, 5, 2], (np.arange(40)[2:-2] + 0.5) / 2 - 0.5)


@pytest.mark.parametrize("shape", [(128, 128, 128), (40, 20, 33)])
def test_products_of_matrices_equal_scipys_filter_and_interpolation(shape: tuple[int, ...]) -> None:
    volume = np.zeros((50, 60, 44), dtype=np.float32)
    volume[4:-6, 5:-3, 2:-8] = np.random.default_rng(0).normal(size=(40, 52, 34))
    step = np.divide(volume.shape, shape)
    offset = (np.array(volume.shape) - 1) / 2 - step * (np.array(shape) - 1) / 2
    smooth = ndimage.gaussian_filter(volume, np.maximum(0, (step - 1) / 2), mode="nearest")
    expected = ndimage.affine_transform(smooth, step, offset, shape, order=1, mode="nearest")
    linear = resize(volume, shape)
    np.testing.assert_allclose(linear, expected, atol=2e-6)
    np.testing.assert_array_equal(linear == 0, expected == 0)
    cubic = resize(volume, shape, 1.0, "cubic")
    np.testing.assert_array_equal(cubic[linear == 0], 0)
    smooth = ndimage.gaussian_filter(volume, np.sqrt(np.maximum(0, step**2 - 1) / 12), mode="nearest")
    expected = ndimage.affine_transform(smooth, step, offset, shape, order=3, mode="mirror")
    inside = tuple(slice(size // 5, -size // 5) for size in shape)  # the spline's ends are treated otherwise
    np.testing.assert_allclose(cubic[inside], expected[inside], atol=1e-3)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_an_aligned_grid_that_is_not_turned_gives_the_same_as_products_of_matrices(interpolation: str) -> None:
    brain = np.random.default_rng(0).random((21, 27, 33)).astype(np.float32)
    settings = PreprocessingSettings(
        input_size_voxels=(7, 9, 11), spacing_mm=(3.0, 3.0, 3.0), interpolation=interpolation
    )
    (aligned,) = fit_aligned(brain[None], np.eye(4), np.array([16.0, 13.0, 10.0]), settings).image_czyx
    straight = resample(brain, (1.0, 1.0, 1.0), (3.0, 3.0, 3.0), interpolation)
    # around the scan one sees 0, the other what is nearest
    inside = (slice(2, -2),) * 3
    np.testing.assert_allclose(aligned[inside], straight[inside], atol=1e-3)


@pytest.mark.parametrize("edge", [1, 2, 3, 4])
@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_the_thinnest_scans_are_resampled_too(edge: int, interpolation: str) -> None:
    flat = resize(np.full((edge, 20, 20), 3.0), (8, 8, 8), 1.0, interpolation)
    np.testing.assert_allclose(flat, 3.0)


def test_pad_crop_is_centred_and_loses_nothing_that_fits() -> None:
    volume = np.arange(1.0, 4 * 5 * 3 + 1).reshape(4, 5, 3)
    padded = pad_crop(volume, (6, 5, 8))
    np.testing.assert_array_equal(padded[1:5, :, 2:5], volume)
    assert padded.sum() == volume.sum()
    np.testing.assert_array_equal(pad_crop(volume, (2, 3, 3)), volume[1:3, 1:4])


@pytest.mark.parametrize("fit", ["pad_crop", "resize"])
def test_a_whole_scan_becomes_a_float16_volume_of_the_input_size(fit: str) -> None:
    generator = np.random.default_rng(0)
    volume = np.zeros((40, 50, 45), dtype=np.float32)
    volume[5:35, 6:46, 4:40] = generator.gamma(3, 100, (30, 40, 36))
    settings = PreprocessingSettings(input_size_voxels=(32, 48, 32), spacing_mm=(1.5, 1.5, 1.5), fit=fit)
    prepared = prepare(Volume(volume_zyx=volume, affine=np.diag([1.0, 1, 1, 1])), settings)
    assert prepared.volume_zyx.shape == (32, 48, 32) and prepared.volume_zyx.dtype == np.float16
    assert prepared.properties["foreground_box"] == [[5, 35], [6, 46], [4, 40]]
    assert prepared.properties["resampled_shape_voxels"] == (20, 27, 24)
    # in a box that fills the cube there is no padding
    assert (np.count_nonzero(prepared.volume_zyx) > 0.95 * 32 * 48 * 32) == (fit == "resize")


def test_a_brain_too_large_for_the_input_is_reported() -> None:
    volume = np.random.default_rng(0).random((40, 40, 40)).astype(np.float32) + 1
    settings = PreprocessingSettings(input_size_voxels=(32, 40, 40), spacing_mm=(1.0, 1.0, 1.0))
    prepared = prepare(Volume(volume_zyx=volume, affine=np.eye(4)), settings)
    assert prepared.properties["share_of_foreground_cut_off"] == pytest.approx(0.2, abs=0.001)


def test_stock_volumes_are_fitted_without_normalising_them_again() -> None:
    volume = np.zeros((30, 30, 30), dtype=np.float32)
    volume[5:25, 5:25, 5:25] = -1.5
    settings = PreprocessingSettings(input_size_voxels=(32, 32, 32), spacing_mm=(2.0, 2.0, 2.0))
    fitted = fit_stock_volume(volume, (2.0, 2.0, 2.0), settings)
    np.testing.assert_array_equal(fitted[6:26, 6:26, 6:26], np.full((20, 20, 20), -1.5))
    assert np.count_nonzero(fitted) == 20**3
