"""Non-linear alignment: a known deformation is found, tissue keeps its volume, sides stay sides, failures are named."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest
from scipy.ndimage import gaussian_gradient_magnitude, map_coordinates

from adnext_plugin.errors import ImageError
from adnext_plugin.images import Volume, looked_up, reorient_to_ras
from adnext_plugin.preprocessing.anatomy import warping
from adnext_plugin.preprocessing.anatomy.placing import Placed, place_in_mni152
from adnext_plugin.preprocessing.anatomy.regions import built_in_regions, volumes_of
from adnext_plugin.preprocessing.anatomy.template import GRID, SHAPE_ZYX, SPACING_MM, mni152
from adnext_plugin.preprocessing.anatomy.warping import Warped, warp_to_mni152
from adnext_plugin.preprocessing.grid.warp import Warp
from adnext_plugin.preprocessing.step import Placement, Scan
from adnext_plugin.preprocessing.steps.alignment import Alignment, AlignmentSettings
from adnext_plugin.preprocessing.steps.fit import Fit, FitSettings
from adnext_plugin.preprocessing.steps.tissue import Tissue, Tissues, TissueSettings, TissuesSettings

FLUID, GREY, WHITE = 30.0, 62.0, 100.0
FIT = FitSettings(spacing_mm=(2.0, 2.0, 2.0), input_size_voxels=(86, 104, 84))
LEFT_MARK, RIGHT_SHIFT_MM = (-26.0, -20.0, -12.0), 5.0


def _deformation(amplitude_mm: float) -> np.ndarray:
    """Smooth shifts (Z, Y, X, 3) along x, y, z, alike in no two halves of the brain."""
    z, y, x = (axis * SPACING_MM for axis in np.indices(SHAPE_ZYX, dtype=np.float32))
    waves = [
        np.sin(2 * np.pi * y / 90 + 0.4) * np.cos(2 * np.pi * z / 110),
        np.sin(2 * np.pi * x / 100) * np.cos(2 * np.pi * z / 95 + 0.7),
        np.sin(2 * np.pi * x / 120 + 1.1) * np.sin(2 * np.pi * y / 100),
    ]
    return (amplitude_mm * np.stack(waves, axis=-1)).astype(np.float32)


def _template_brain() -> np.ndarray:
    """A T1-weighted brain that is the template's, (Z, Y, X)."""
    template = mni152()
    fluid = np.where(template.mask, 1 - template.grey - template.white, 0)
    return np.where(template.mask, FLUID * fluid + GREY * template.grey + WHITE * template.white, 0).astype(np.float32)


def _pulled(volume_zyx: np.ndarray, shifts_mm: np.ndarray) -> np.ndarray:
    places = np.indices(SHAPE_ZYX, dtype=np.float32) + np.moveaxis(shifts_mm, -1, 0)[::-1] / SPACING_MM
    return map_coordinates(volume_zyx, places, order=1)


@pytest.fixture(scope="module")
def deformed() -> tuple[Volume, np.ndarray]:
    """A brain whose place q shows what the template has at q + shift, and those shifts."""
    shifts_mm = _deformation(5.0)
    brain_zyx = _pulled(_template_brain(), shifts_mm)
    return Volume(volume_zyx=np.where(brain_zyx > 5, brain_zyx, 0), affine=GRID), shifts_mm


@pytest.fixture(scope="module")
def placed(deformed) -> Placed:
    """That brain where its header says."""
    brain, _ = deformed
    return Placed(volume_zyx=brain.volume_zyx, scan_from_mni_mm=np.eye(4), overlap=0.95, likeness=0.9, was_there=True)


@pytest.fixture(scope="module")
def found(placed: Placed) -> Warped:
    """Its warp."""
    return warp_to_mni152(placed)


def test_a_known_smooth_deformation_is_found_within_a_voxel(deformed, found: Warped) -> None:
    _, pulled_mm = deformed
    template = mni152()
    # landmarks are where grey meets white matter: elsewhere there is nothing to be found
    edges = gaussian_gradient_magnitude(template.white, 1.0)
    landmarks = (edges > np.percentile(edges[template.mask], 95)) & template.mask
    # what belongs at p was found at q = p + shift, and is at the q for which q + pulled(q) = p
    there_mm = np.stack([_pulled(pulled_mm[..., axis], found.warp.shifts_mm) for axis in range(3)], axis=-1)
    error_mm = np.linalg.norm(found.warp.shifts_mm + there_mm, axis=-1)[landmarks]
    assert np.mean(np.linalg.norm(pulled_mm, axis=-1)[landmarks]) > 4
    assert np.mean(error_mm) < 0.5 * SPACING_MM and np.percentile(error_mm, 95) < SPACING_MM
    assert found.likeness > found.likeness_before + 0.1 and found.likeness > 0.95
    assert 0.5 < found.change_low < 1 < found.change_high < 2


def test_the_volume_change_is_that_of_the_shifts() -> None:
    shifts_mm = np.zeros((*SHAPE_ZYX, 3), np.float32)
    z, y, x = (axis * SPACING_MM for axis in np.indices(SHAPE_ZYX))
    shifts_mm[..., 0], shifts_mm[..., 1], shifts_mm[..., 2] = 0.1 * x + 0.05 * y, -0.2 * y, 0.3 * z
    warp = Warp(shifts_mm=shifts_mm, affine=GRID)
    np.testing.assert_allclose(warp.volume_change, 1.1 * 0.8 * 1.3, rtol=1e-4)
    # on another grid within it, and 1 beyond
    grid = np.diag([3.0, 3, 3, 1])
    np.testing.assert_allclose(warp.volume_change_on(grid, (5, 5, 5)), 1.1 * 0.8 * 1.3, rtol=1e-4)
    far = grid.copy()
    far[:3, 3] = 500
    np.testing.assert_array_equal(warp.volume_change_on(far, (2, 2, 2)), 1)
    assert not warp.shifts_on(far, (2, 2, 2)).any()


def _aligned(brain: Volume, warp: Warp, stretch: tuple[float, float, float] = (1, 1, 1)) -> Scan:
    """A scan with its placement: stretched along x, y, z by an affine matrix, and warped."""
    matrix = np.diag([*stretch, 1.0])
    placement = Placement(scan_from_space_mm=matrix, centre_mm=np.array([0.0, -18, 18]), warp=warp)
    return Scan(image_czyx=brain.volume_zyx[None], affine=matrix @ brain.affine, placement=placement)


def test_modulated_tissue_keeps_its_native_volume_within_two_per_cent(deformed, found: Warped) -> None:
    scan, fit, spacing_mm = _aligned(deformed[0], found.warp, (1.12, 0.98, 1.04)), FIT, 2.0
    sums = {}
    for modulate in (True, False):
        tissue = Tissue().apply(scan, TissueSettings(modulate=modulate))
        prepared = Fit().apply(tissue, fit)
        assert not prepared.modulated and prepared.placement is None
        sums[modulate] = float(prepared.image_czyx.sum()) * spacing_mm**3 / 1000
    assert sums[True] == pytest.approx(tissue.notes["grey_ml"], rel=0.02)
    assert abs(sums[False] / sums[True] - 1) > 0.02
    both = Tissues().apply(scan, TissuesSettings())
    assert both.modulated == (1, 2)
    prepared = Fit().apply(both, fit).image_czyx
    assert float(prepared[1].sum()) * spacing_mm**3 / 1000 == pytest.approx(both.notes["grey_ml"], rel=0.02)
    # the image itself keeps its brightness
    assert np.median(prepared[0][mni152_white(fit)]) == pytest.approx(1, abs=0.03)


def mni152_white(fit: FitSettings) -> np.ndarray:
    """Where the template is deep white matter, on the grid of a fit."""
    grid = np.diag([*fit.spacing_mm[::-1], 1.0])
    size = np.array(fit.input_size_voxels[::-1])
    grid[:3, 3] = np.array([0.0, -18, 18]) - grid.diagonal()[:3] * (size - 1) / 2
    return looked_up(mni152().white, np.linalg.inv(GRID) @ grid, fit.input_size_voxels) > 0.95


def test_a_warp_and_the_matrix_are_one_interpolation(deformed, found: Warped) -> None:
    """What comes out is the scan looked up once at the places of both, not the interpolation of an interpolation."""
    brain, _ = deformed
    scan = _aligned(brain, found.warp)
    prepared = Fit().apply(scan, FIT).image_czyx[0]
    grid = np.diag([2.0, 2, 2, 1])
    grid[:3, 3] = np.array([0.0, -18, 18]) - 2.0 * (np.array(FIT.input_size_voxels[::-1]) - 1) / 2
    index = (40, 50, 30)
    place_mm = (grid @ [*index[::-1], 1])[:3] + found.warp.shifts_on(grid, FIT.input_size_voxels)[index]
    voxel = (np.linalg.inv(brain.affine) @ [*place_mm, 1])[:3][::-1]
    expected = map_coordinates(brain.volume_zyx, voxel[:, None], order=1)[0]
    assert prepared[index] == pytest.approx(expected, rel=1e-4)
    plain = Fit().apply(replace(scan, placement=replace(scan.placement, warp=None)), FIT).image_czyx[0]
    template = looked_up(_template_brain(), np.linalg.inv(GRID) @ grid, FIT.input_size_voxels)
    closeness = [np.corrcoef(one.ravel(), template.ravel())[0, 1] for one in (plain, prepared)]
    assert closeness[1] > 0.97 and 1 - closeness[1] < 0.6 * (1 - closeness[0])


ORIENTATIONS = {
    "RAS": np.eye(4),
    "LAS": np.eye(4),
    "oblique": np.array([[0.98, -0.17, 0.0, 3], [0.17, 0.98, 0.0, -4], [0, 0, 1, 2], [0, 0, 0, 1]]),
}


def _with_a_mark() -> np.ndarray:
    """The template's brain with a bright place in the left temporal lobe alone."""
    brain_zyx = _template_brain()
    z, y, x = np.rint((np.linalg.inv(GRID) @ [*LEFT_MARK, 1])[:3][::-1]).astype(int)
    brain_zyx[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3] = 160
    return brain_zyx


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_left_stays_left_however_the_file_is_turned(orientation: str, monkeypatch) -> None:
    monkeypatch.setattr(warping, "ITERATIONS", (5, 2, 1))  # enough to go wrong
    brain_zyx, affine = _with_a_mark(), GRID
    if orientation == "LAS":
        image = nibabel.Nifti1Image(brain_zyx.T, GRID).as_reoriented(np.array([[0, -1], [1, 1], [2, 1]]))
        brain_zyx, affine = np.asarray(image.dataobj).T, image.affine
        assert nibabel.aff2axcodes(affine) == ("L", "A", "S")
    elif orientation == "oblique":
        affine = np.linalg.inv(ORIENTATIONS["oblique"]) @ GRID
        brain_zyx = looked_up(brain_zyx, np.linalg.inv(GRID) @ affine, SHAPE_ZYX)
    brain = reorient_to_ras(Volume(volume_zyx=np.ascontiguousarray(brain_zyx), affine=affine))
    scan = Alignment().apply(Scan.of(brain), AlignmentSettings(kind="nonlinear"))
    assert scan.placement is not None and scan.placement.warp is not None
    fit = FitSettings(spacing_mm=(2.0, 2.0, 2.0), input_size_voxels=(86, 104, 84))
    prepared = Fit().apply(scan, fit)
    brightest = np.unravel_index(np.argmax(prepared.image_czyx[0]), FIT.input_size_voxels)
    centre_mm = scan.placement.centre_mm
    place_mm = centre_mm + 2.0 * (np.array(brightest[::-1]) - (np.array(FIT.input_size_voxels[::-1]) - 1) / 2)
    np.testing.assert_allclose(place_mm, LEFT_MARK, atol=8)
    assert place_mm[0] < -15


def test_the_alignment_notes_how_well_it_went_and_gives_the_same_again(monkeypatch) -> None:
    monkeypatch.setattr(warping, "ITERATIONS", (5, 2, 1))
    brain = Volume(volume_zyx=_template_brain(), affine=GRID)
    one, again = (Alignment().apply(Scan.of(brain), AlignmentSettings(kind="nonlinear")) for _ in range(2))
    assert one.placement is not None and again.placement is not None
    assert one.placement.warp is not None and again.placement.warp is not None
    np.testing.assert_array_equal(one.placement.warp.shifts_mm, again.placement.warp.shifts_mm)
    assert one.notes["likeness_after_warp"] > one.notes["likeness_before_warp"] > 0.9
    assert one.notes["volume_change_low"] <= 1 <= one.notes["volume_change_high"]
    quick = Alignment().apply(Scan.of(brain), AlignmentSettings(kind="quick"))
    assert one.notes["scan_from_mni_mm"] == quick.notes["scan_from_mni_mm"]


def test_a_warp_that_folds_the_brain_is_refused(placed: Placed, monkeypatch) -> None:
    folded = _deformation(60.0)
    monkeypatch.setattr(warping, "_demons", lambda fixed, moving: folded)
    with pytest.raises(ImageError, match=r"non-linear alignment has failed: it folds .* use --alignment affine"):
        warp_to_mni152(placed)


def test_a_head_is_refused_before_it_is_warped() -> None:
    brain_zyx = _template_brain()
    head = Volume(volume_zyx=np.where(brain_zyx > 0, brain_zyx, 40).astype(np.float32), affine=GRID)
    with pytest.raises(ImageError, match="unlike the template"):
        place_in_mni152(head)


def test_a_region_that_lost_grey_matter_has_lost_as_much_after_the_warp(monkeypatch) -> None:
    """Half a hippocampus that has become fluid: a warp moves it, and its volume change keeps the sum."""
    monkeypatch.setattr(warping, "ITERATIONS", (20, 10, 2))
    inside = built_in_regions()["hippocampus_left"] > 0.5
    template, numbers = mni152(), {}
    for is_ill in (False, True):
        brain_zyx = _template_brain()
        grey = inside & (template.grey > 0.6)
        lost = grey & (np.indices(SHAPE_ZYX).sum(axis=0) % 2 == 0)
        if is_ill:
            brain_zyx[lost] = FLUID
        own = Placed(volume_zyx=brain_zyx, scan_from_mni_mm=np.eye(4), overlap=1, likeness=1, was_there=True)
        tissues = warp_to_mni152(own).tissues_in_template
        numbers[is_ill] = volumes_of(tissues, built_in_regions())
    lost_ml = float((template.grey[lost] * SPACING_MM**3).sum()) / 1000
    found_ml = numbers[False]["hippocampus_left_grey"] - numbers[True]["hippocampus_left_grey"]
    assert lost_ml > 0.5 and found_ml == pytest.approx(lost_ml, rel=0.25)
    for name in ("hippocampus_right_grey", "temporal_lobe_right_grey"):
        assert numbers[True][name] == pytest.approx(numbers[False][name], rel=0.01)
