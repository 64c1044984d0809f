"""Steps that need to know where MNI152 space lies in a scan: the unit of white matter, tissues, a fixed box."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from adnext_plugin.errors import ImageError, SettingsError
from adnext_plugin.plan import PreprocessingSettings
from adnext_plugin.plans.presets import load_preset
from adnext_plugin.preprocessing.anatomy.template import GRID, SHAPE_ZYX, mni152
from adnext_plugin.preprocessing.chain import resolved, steps_of
from adnext_plugin.preprocessing.step import Placement, Scan, Step
from adnext_plugin.preprocessing.steps.alignment import Alignment, AlignmentSettings
from adnext_plugin.preprocessing.steps.fit import Fit, FitSettings
from adnext_plugin.preprocessing.steps.mni_box import MNIBox, MNIBoxSettings
from adnext_plugin.preprocessing.steps.tissue import Tissue, Tissues, TissueSettings, TissuesSettings
from adnext_plugin.preprocessing.steps.white_matter import WhiteMatter
from adnext_plugin.records import from_json, to_json

LEVELS = np.array([0.0, 30.0, 62.0, 100.0])  # outside, fluid, grey, white


def _classes() -> np.ndarray:
    template = mni152()
    fluid = np.where(template.mask, 1 - template.grey - template.white, 0)
    return np.where(template.mask, 1 + np.argmax([fluid, template.grey, template.white], axis=0), 0)


def _scan(stretch: tuple[float, float, float] = (1, 1, 1)) -> Scan:
    """A brain whose head is larger than the template's by a factor along x, y and z, and known to be so."""
    from_mni = np.diag([*stretch, 1.0])
    volume = LEVELS[_classes()].astype(np.float32)
    placement = Placement(scan_from_space_mm=from_mni, centre_mm=np.array([0.0, -18, 18]))
    return Scan(image_czyx=volume[None], affine=from_mni @ GRID, placement=placement)


def test_white_matter_is_one_whatever_the_scanner_made_of_it() -> None:
    scan = _scan()
    for gain in (1.0, 37.0):
        found = WhiteMatter().apply(replace(scan, image_czyx=scan.image_czyx * np.float32(gain)), None)
        assert found.notes["white_matter_intensity"] == pytest.approx(100 * gain)
        np.testing.assert_allclose(found.image_czyx, scan.image_czyx / 100, rtol=1e-5)


def test_each_image_has_its_own_unit_of_white_matter_and_a_missing_one_stays_0() -> None:
    scan = _scan()
    three = replace(
        scan, image_czyx=np.concatenate([scan.image_czyx, 5 * scan.image_czyx, 0 * scan.image_czyx]), images=3
    )
    found = WhiteMatter().apply(three, None)
    np.testing.assert_allclose(found.image_czyx[1], found.image_czyx[0], rtol=1e-5)
    assert not found.image_czyx[2].any() and found.notes["white_matter_intensity"] == pytest.approx(100)
    tissues = Tissues().apply(three, TissuesSettings())
    assert tissues.image_czyx.shape[0] == 5 and tissues.modulated == (3, 4)
    alone = Tissues().apply(scan, TissuesSettings())
    np.testing.assert_array_equal(tissues.image_czyx[[0, 3, 4]], alone.image_czyx)


@pytest.mark.parametrize("fwhm_mm", [0.0, 6.0])
def test_a_modulated_tissue_keeps_the_volume_that_it_has_in_the_scan(fwhm_mm: float) -> None:
    scan = _scan((1.12, 0.93, 1.05))
    native_ml = np.count_nonzero(_classes() == 2) * abs(np.linalg.det(scan.affine[:3, :3])) / 1000
    fit = FitSettings(spacing_mm=(2.0, 2.0, 2.0), input_size_voxels=(100, 120, 100))
    for modulate, expected in ((True, native_ml), (False, native_ml / (1.12 * 0.93 * 1.05))):
        tissue = Tissue().apply(scan, TissueSettings(modulate=modulate, fwhm_mm=fwhm_mm))
        assert tissue.notes["grey_ml"] == pytest.approx(native_ml, rel=0.02)
        prepared = Fit().apply(tissue, fit).image_czyx
        assert prepared.shape == (1, 100, 120, 100)
        assert prepared.sum() * 8 / 1000 == pytest.approx(expected, rel=0.02)


def test_fluid_that_brain_extraction_took_away_counts_around_a_cropped_brain() -> None:
    whole = _scan()
    stripped = whole.image_czyx[0] * (_classes() != 1)
    found = [
        Tissue().apply(replace(whole, image_czyx=image[None]), TissueSettings(tissue="fluid", modulate=False))
        for image in (whole.image_czyx[0], stripped)
    ]
    outside = np.count_nonzero(mni152().wide_mask & ~mni152().mask) * 8 / 1000
    fluid_ml = np.count_nonzero(_classes() == 1) * 8 / 1000 + outside
    assert [one.notes["fluid_ml"] for one in found] == pytest.approx([fluid_ml] * 2, rel=0.02)


def test_a_box_of_mni_space_shows_the_same_place_of_every_scan() -> None:
    for stretch in ((1, 1, 1), (1.1, 0.9, 1.2)):
        scan = _scan(stretch)
        marked = np.zeros(SHAPE_ZYX, np.float32)
        marked[31, 53, 58] = 1  # x 26, y -20, z -10 mm
        box = MNIBox().apply(replace(scan, image_czyx=gaussian_filter(marked, 1)[None]), MNIBoxSettings())
        fit = FitSettings(spacing_mm=(2.0, 2.0, 2.0), input_size_voxels=(33, 41, 49))
        prepared = Fit().apply(box, fit).image_czyx[0]
        # the middle of the grid is at x 0, y -18, z -16 mm; larger x is further right
        assert np.unravel_index(prepared.argmax(), prepared.shape) == (16 + 3, 20 - 1, 24 + 13)


def test_tissues_stand_beside_the_image_as_channels() -> None:
    scan, settings = _scan((1.1, 0.95, 1.0)), TissuesSettings(modulate=False)
    found = Tissues().apply(scan, settings)
    grey = Tissue().apply(scan, TissueSettings(modulate=False))
    np.testing.assert_array_equal(found.image_czyx[1], grey.image_czyx[0])
    assert found.notes["grey_ml"] == grey.notes["grey_ml"]
    image, grey_zyx, fluid_zyx = found.image_czyx
    classes = LEVELS[_classes()]
    margins = [(extent - size) // 2 for extent, size in zip(image.shape, SHAPE_ZYX, strict=True)]  # for fluid around
    classes = np.pad(classes, [(margin, margin) for margin in margins])
    np.testing.assert_allclose(image[classes == 100], 1, rtol=1e-5)
    # where the scan is fluid the channel of fluid is full, and that of grey matter empty
    is_fluid = classes == 30
    assert fluid_zyx[is_fluid].mean() > 0.98 and grey_zyx[is_fluid].mean() < 0.02
    assert Tissues().channels(("T1w",), settings) == ("T1w", "grey", "fluid")


def test_a_brain_whose_header_is_right_is_not_registered_and_an_empty_one_is_refused(monkeypatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was registered")

    monkeypatch.setattr("adnext_plugin.preprocessing.anatomy.placing.align_to_mni152", never)
    scan = replace(_scan(), placement=None)
    found = Alignment().apply(scan, AlignmentSettings(kind="quick"))
    assert found.placement is not None
    np.testing.assert_array_equal(found.placement.scan_from_space_mm, np.eye(4))
    assert found.notes["overlap"] > 0.95 and found.notes["likeness"] > 0.8
    # half a brain, which a registration would stretch: the header's word is not taken for it
    monkeypatch.setattr("adnext_plugin.preprocessing.anatomy.placing.align_to_mni152", lambda *_, **__: np.eye(4))
    half = scan.image_czyx.copy()
    half[:, :, :, :45] = 0
    with pytest.raises(ImageError, match=r"unlike the template|a part of the brain is missing"):
        Alignment().apply(replace(scan, image_czyx=half), AlignmentSettings(kind="quick"))


@pytest.mark.parametrize("step", [WhiteMatter(), Tissue(), Tissues(), MNIBox()])
def test_steps_of_anatomy_say_that_they_need_an_alignment(step: Step) -> None:
    with pytest.raises(SettingsError, match=f"step '{step.name}' needs to know where MNI152 space is.*--alignment"):
        step.apply(replace(_scan(), placement=None), step.settings_type())


@pytest.mark.parametrize(
    ("preset", "last"),
    [
        ("t1_mni", ["white_matter"]),
        ("gm_modulated", ["tissue"]),
        ("medial_temporal", ["white_matter", "mni_box"]),
        ("tissues", ["tissues"]),
        ("anatomy", ["tissues", "mni_box"]),
    ],
)
def test_presets_of_anatomy_align_and_leave_the_scale_to_their_step(preset: str, last: list[str]) -> None:
    settings = resolved(load_preset(preset, {}).preprocessing)
    names = [planned.step.name for planned in steps_of(settings)]
    n4 = [] if "tissues" in last else ["bias_correction"]
    assert names == ["brain_extraction", "reorient", *n4, "crop", "alignment", *last, "fit"]
    assert from_json(PreprocessingSettings, to_json(settings), "a plan") == settings
    # a plan without anything new is written as before
    assert "z_score" not in to_json(PreprocessingSettings())
