"""The chain of steps: what a plan says of it, further steps, and what a prepared case's key depends on."""

import dataclasses
import json
import pickle
from hashlib import sha256

import numpy as np
import pytest
from conftest import toy_brain, write_scan
from scipy.spatial.transform import Rotation

from adnext_plugin.case_properties import CaseProperties, read_case_properties
from adnext_plugin.errors import SettingsError, UnknownNameError
from adnext_plugin.images import Volume, file_sha256, read_volume
from adnext_plugin.plan import STEP_ORDER, Plan, PreprocessingSettings, StepChoice
from adnext_plugin.preprocessing.chain import OWN, load_step, preparation_in_words, prepare, resolved, steps_of
from adnext_plugin.preprocessing.keys import case_keys
from adnext_plugin.preprocessing.preprocessor import CaseJob, prepare_case
from adnext_plugin.preprocessing.steps.crop import Crop
from adnext_plugin.records import from_json, to_json
from adnext_plugin.registry import STEPS, registered_names

SMALL = PreprocessingSettings(input_size_voxels=(24, 24, 24), spacing_mm=(3.5, 3.5, 3.5))
GAMMA = '''
from typing import ClassVar

import numpy as np

from adnext_plugin.preprocessing.step import Step
from adnext_plugin.records import record


@record
class GammaSettings:
    exponent: float = 2.0


class Gamma(Step):
    """Raises intensities to a power."""

    name: ClassVar[str] = "gamma"
    version: ClassVar[int] = {version}
    after: ClassVar[str] = "bias_correction"
    settings_type: ClassVar[type] = GammaSettings

    def apply(self, scan, settings):
        changed = scan.changed(lambda volume_zyx: volume_zyx**np.float32(settings.exponent))
        return changed.noting(gamma=settings.exponent)

    def describe(self, settings):
        return f"intensities to the power of {{settings.exponent:g}}"
'''


@pytest.fixture
def gamma(install) -> None:
    """A package with a further step."""
    install("gamma_package", GAMMA.format(version=1), {STEPS: {"gamma": "Gamma"}})


@pytest.fixture
def scan(tmp_path):
    """The file of a toy brain."""
    return write_scan(tmp_path / "scan.nii.gz", toy_brain(3, has_hole=True))


def _with(*steps: StepChoice, **changes) -> PreprocessingSettings:
    return dataclasses.replace(SMALL, steps=steps, **changes)


def test_a_plans_own_steps_are_registered_and_stand_in_their_order() -> None:
    assert tuple(step.name for step in OWN) == STEP_ORDER
    assert set(STEP_ORDER) <= set(registered_names(STEPS))
    for own in OWN:
        assert type(load_step(own.name)) is own
    everything = dataclasses.replace(SMALL, bias_correction="n4", alignment="affine")
    assert tuple(planned.step.name for planned in steps_of(everything)) == STEP_ORDER
    little = dataclasses.replace(SMALL, brain_extraction="none", clip_percentiles=None)
    assert [planned.step.name for planned in steps_of(little)] == ["reorient", "crop", "z_score", "fit"]


def test_the_flat_keys_of_a_plan_are_the_settings_of_its_steps() -> None:
    settings = PreprocessingSettings(
        spacing_mm=(1.0, 2.0, 3.0),
        input_size_voxels=(9, 8, 7),
        fit="resize",
        interpolation="cubic",
        clip_percentiles=(1, 99),
        brain_extraction="hdbet",
        hdbet_folds=2,
        bias_correction="n4",
        n4_shrink_factor=3,
        n4_iterations=(5, 6),
        alignment="rigid",
    )
    found = {planned.step.name: to_json(planned.settings) for planned in steps_of(settings)}
    assert found == {
        "brain_extraction": {"method": "hdbet", "hdbet_folds": 2, "hdbet_mirroring": True},
        "reorient": {},
        "bias_correction": {"shrink_factor": 3, "iterations": [5, 6]},
        "crop": {},
        "alignment": {"kind": "rigid"},
        "clip": {"percentiles": [1.0, 99.0]},
        "z_score": {},
        "fit": {
            "spacing_mm": [1.0, 2.0, 3.0],
            "input_size_voxels": [9, 8, 7],
            "fit": "resize",
            "interpolation": "cubic",
        },
    }


def test_a_plan_without_further_steps_is_written_as_before() -> None:
    assert "steps" not in to_json(SMALL)
    assert from_json(PreprocessingSettings, to_json(SMALL), "here") == SMALL
    more = _with(StepChoice(name="gamma"))
    assert from_json(PreprocessingSettings, json.loads(json.dumps(to_json(more))), "here") == more


def test_a_further_step_is_taken_at_its_place_with_its_settings(gamma, scan) -> None:
    settings = _with(StepChoice(name="gamma", settings={"exponent": 3.0}))
    assert [planned.step.name for planned in steps_of(settings)] == [
        "brain_extraction", "reorient", "gamma", "crop", "clip", "z_score", "fit",
    ]  # fmt: skip
    volume = read_volume(scan)
    found = prepare(volume, settings)
    cubed = dataclasses.replace(volume, volume_zyx=volume.volume_zyx ** np.float32(3.0))
    np.testing.assert_array_equal(found.volume_zyx, prepare(cubed, SMALL).volume_zyx)
    assert found.properties["gamma"] == 3.0
    # an even power after the z-score leaves nothing negative
    after = prepare(volume, _with(StepChoice(name="gamma", after="z_score")))
    assert after.volume_zyx.min() >= 0 > found.volume_zyx.min()


def test_a_plan_keeps_what_a_steps_defaults_and_version_were(gamma, install) -> None:
    planned = resolved(_with(StepChoice(name="gamma")))
    assert to_json(planned)["steps"] == [
        {"name": "gamma", "after": "bias_correction", "settings": {"exponent": 2.0}, "version": 1}
    ]
    assert resolved(planned) == planned
    assert resolved(SMALL) == SMALL


def test_another_version_than_planned_is_refused(install) -> None:
    install("newer_package", GAMMA.format(version=2), {STEPS: {"gamma": "Gamma"}})
    with pytest.raises(SettingsError, match="planned with version 1, but version 2 is installed"):
        steps_of(_with(StepChoice(name="gamma", version=1)))


def test_descriptions_go_through_the_chain_and_name_a_step_that_is_not_there(gamma) -> None:
    words = preparation_in_words(Plan(preprocessing=_with(StepChoice(name="gamma"), alignment="rigid")))
    assert words == (
        "brain extraction by deepbet where there is a skull",
        "RAS orientation",
        "intensities to the power of 2",
        "the box of the foreground is cut out",
        "rigid alignment to MNI152",
        "intensities of the foreground are clipped to percentiles 0.5 and 99.5",
        "z-score of the foreground",
        "linear interpolation to voxels of 3.5 × 3.5 × 3.5 mm, padded or cropped to 24 × 24 × 24 voxels (z, y, x)",
    )
    absent = Plan(preprocessing=_with(StepChoice(name="unheard_of")))
    assert preparation_in_words(absent)[-1] == "unheard_of, a further step that is not installed here"
    stock = preparation_in_words(Plan(preprocessing=SMALL, prepared_by="nnunet"))
    assert stock == ("nnU-Net's own preprocessing", words[-1])


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([{"name": "gama"}], "no step 'gama'; did you mean 'gamma'"),
        ([{"name": "gamma", "settings": {"exponnt": 1}}], "unknown key 'exponnt'; did you mean 'exponent'"),
        ([{"name": "gamma", "after": "fit"}], "cannot stand after 'fit'"),
        ([{"name": "gamma", "after": "zscore"}], "no step 'zscore'; did you mean 'z_score'"),
        ([{"name": "clip"}], "'clip' is part of every plan"),
        ([{"name": "gamma"}, {"name": "gamma"}], "'gamma' stands there twice"),
    ],
)
def test_impossible_lists_of_steps_are_one_line(gamma, steps: list[dict], message: str) -> None:
    with pytest.raises((SettingsError, UnknownNameError), match=message) as caught:
        steps_of(from_json(PreprocessingSettings, {"steps": steps}, "preset.json"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("gamma = 1", "must be a class derived from Step"),
        ("from adnext_plugin.preprocessing.step import Step as gamma", "is not complete"),
        (GAMMA.format(version=1).replace('"gamma"', '"other"') + "\ngamma = Gamma", "needs name = 'gamma'"),
        (GAMMA.format(version="None") + "\ngamma = Gamma", "a whole number as version"),
    ],
)
def test_what_is_no_step_is_refused_in_one_line(install, code: str, message: str) -> None:
    install("odd_package", code, {STEPS: {"gamma": "gamma"}})
    with pytest.raises(SettingsError, match=message) as caught:
        load_step("gamma")
    assert "\n" not in str(caught.value)


def test_a_step_that_returns_nonsense_is_named(install, scan) -> None:
    broken = GAMMA.format(version=1).replace("volume_zyx**np.float32(settings.exponent)", "volume_zyx / np.float32(0)")
    install("broken_package", broken, {STEPS: {"gamma": "Gamma"}})
    with np.errstate(all="ignore"), pytest.raises(Exception, match="step 'gamma' made an image that is not") as caught:
        prepare(read_volume(scan), _with(StepChoice(name="gamma")))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fit", ["pad_crop", "resize"])
@pytest.mark.parametrize("alignment", ["none", "rigid"])
@pytest.mark.parametrize("size", [(40, 44, 41), (21, 30, 24)])  # the smaller cuts off some of the brain
def test_the_affine_of_the_input_says_where_its_voxels_lie_in_the_scan(fit, alignment, size, monkeypatch) -> None:
    """A landmark is where it was, in millimetres of an oblique scan with voxels of three sizes."""
    brain_xyz = toy_brain(5, has_hole=False)
    places = np.stack(np.meshgrid(*map(np.arange, brain_xyz.shape), indexing="ij"), axis=-1)
    landmark = np.array([22.0, 17.0, 20.0])
    spot = 900 * np.exp(-((places - landmark) ** 2).sum(axis=-1) / (2 * 2.5**2))
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", [9, -7, 12], degrees=True).as_matrix()
    affine[:3, :3], affine[:3, 3] = turn @ np.diag([-1.6, 1.9, 2.2]), [30, -50, 12]
    volume = Volume(volume_zyx=np.where(brain_xyz > 0, brain_xyz + spot, 0).T.astype(np.float32), affine=affine)
    if alignment != "none":  # where to is no matter
        found = np.eye(4)
        found[:3, :3] = Rotation.from_euler("xyz", [-4, 6, 8], degrees=True).as_matrix()
        found[:3, 3] = [3, 2, -5]
        centre_mm = (np.linalg.inv(found) @ affine @ [*landmark, 1])[:3] + np.array([4, -3, 2])
        monkeypatch.setattr("adnext_plugin.preprocessing.alignment.align_to_mni152", lambda *_: found)
        monkeypatch.setattr("adnext_plugin.preprocessing.alignment.template_centre_mm", lambda: centre_mm)
    settings = PreprocessingSettings(
        input_size_voxels=size, spacing_mm=(2.0, 2.1, 2.3), fit=fit, alignment=alignment, clip_percentiles=None
    )
    prepared = prepare(volume, settings)
    bright = np.clip(prepared.volume_zyx.astype(np.float64) - 2, 0, None)
    centre_zyx = [(bright * index).sum() / bright.sum() for index in np.indices(bright.shape)]
    found_mm = np.array(prepared.properties["input_affine"]) @ [*centre_zyx[::-1], 1]
    assert np.linalg.norm(found_mm - affine @ [*landmark, 1]) < 0.5


@pytest.mark.parametrize("value", ["np.float64(2.5)", "[1, 'two', None]"])
def test_what_a_further_step_notes_is_kept_beside_the_case_as_plain_data(install, scan, tmp_path, value: str) -> None:
    install(
        "noting_package",
        GAMMA.format(version=1).replace("=settings.exponent)", f"={value})"),
        {STEPS: {"gamma": "Gamma"}},
    )
    job = CaseJob(case="one", image=scan, folder=tmp_path / "cases", settings=_with(StepChoice(name="gamma")))
    properties = prepare_case(job).properties
    assert properties.notes == {"gamma": eval(value)}
    assert read_case_properties(tmp_path / "cases" / "one.pkl") == properties


def test_a_note_that_is_not_plain_is_refused_and_leaves_no_case(install, scan, tmp_path) -> None:
    code = GAMMA.format(version=1).replace("=settings.exponent)", "=np.ones(3))")
    install("noting_package", code, {STEPS: {"gamma": "Gamma"}})
    job = CaseJob(case="one", image=scan, folder=tmp_path / "cases", settings=_with(StepChoice(name="gamma")))
    with pytest.raises(SettingsError, match="notes more of a scan than numbers, texts and lists"):
        prepare_case(job)
    assert not (tmp_path / "cases" / "one.pkl").exists()


# ---------------------------------------------------------------------- keys


def _key_of_0_1_0(image, settings: PreprocessingSettings) -> str:
    """As that version made it, of all keys that a plan had."""
    parts = (file_sha256(image), None, repr(sorted(to_json(settings).items())), 3)
    return sha256(repr(parts).encode()).hexdigest()


def test_a_case_prepared_by_0_1_0_is_finished(scan, tmp_path) -> None:
    job = CaseJob(case="one", image=scan, folder=tmp_path / "cases", settings=SMALL)
    assert prepare_case(job).is_new
    path = tmp_path / "cases" / "one.pkl"
    known_then = {one.name for one in dataclasses.fields(CaseProperties)} - {
        "scan_from_mni_mm",
        "input_affine",
        "notes",
    }
    then = {name: value for name, value in pickle.loads(path.read_bytes()).items() if name in known_then}
    path.write_bytes(pickle.dumps({**then, "key": _key_of_0_1_0(scan, SMALL)}))
    assert not prepare_case(job).is_new
    other = dataclasses.replace(SMALL, clip_percentiles=None)
    assert _key_of_0_1_0(scan, SMALL) not in case_keys(scan, None, other)
    assert prepare_case(dataclasses.replace(job, settings=other)).is_new


@pytest.mark.parametrize(
    ("masked", "settings", "key"),
    [
        (False, PreprocessingSettings(), "204679177cb05c8ad8c2d19e001785ea6df2db9c2bd6c2a57d60052abaa57863"),
        (
            True,
            PreprocessingSettings(
                alignment="affine", brain_extraction="hdbet", bias_correction="n4", clip_percentiles=None
            ),
            "978d887d54918129728fd28f212d9accd9dedb78f11820cdc43ce6915e895981",
        ),
    ],
)
def test_keys_that_0_1_0_itself_has_made_are_known(tmp_path, masked: bool, settings, key: str) -> None:
    image = tmp_path / "bytes"
    image.write_bytes(b"not read, only hashed")
    assert case_keys(image, image if masked else None, settings)[1] == key


def test_installing_a_step_and_settings_of_what_is_off_leave_keys_alone(scan, install) -> None:
    before = case_keys(scan, None, SMALL)[0]
    install("gamma_package", GAMMA.format(version=1), {STEPS: {"gamma": "Gamma"}})
    assert case_keys(scan, None, SMALL)[0] == before
    off = dataclasses.replace(SMALL, n4_shrink_factor=2, n4_iterations=(9,), hdbet_folds=1, hdbet_mirroring=False)
    assert case_keys(scan, None, off)[0] == before


def test_whatever_is_on_is_in_the_key(scan, gamma, tmp_path) -> None:
    mask = tmp_path / "mask"
    mask.write_bytes(b"mask")
    other = write_scan(tmp_path / "other.nii.gz", toy_brain(4, has_hole=False))
    n4 = dataclasses.replace(SMALL, bias_correction="n4")
    settings = [
        SMALL,
        n4,
        dataclasses.replace(n4, n4_shrink_factor=2),
        dataclasses.replace(SMALL, alignment="rigid"),
        dataclasses.replace(SMALL, alignment="affine"),
        dataclasses.replace(SMALL, clip_percentiles=(1.0, 99.5)),
        dataclasses.replace(SMALL, interpolation="cubic"),
        dataclasses.replace(SMALL, spacing_mm=(3.0, 3.5, 3.5)),
        dataclasses.replace(SMALL, fit="resize"),
        _with(StepChoice(name="gamma")),
        _with(StepChoice(name="gamma", settings={"exponent": 1.5})),
        _with(StepChoice(name="gamma", after="z_score")),
    ]
    keys = [case_keys(scan, None, one)[0] for one in settings]
    keys += [case_keys(other, None, SMALL)[0], case_keys(scan, mask, SMALL)[0]]
    assert len(set(keys)) == len(keys)
    # a plan that has been resolved asks for the same cases
    plain = _with(StepChoice(name="gamma"))
    assert case_keys(scan, None, resolved(plain)) == case_keys(scan, None, plain)


def test_another_version_of_a_step_is_another_key(scan, gamma, monkeypatch) -> None:
    settings = _with(StepChoice(name="gamma"))
    first = case_keys(scan, None, settings)
    assert len(first) == 1  # no earlier version could have made it
    monkeypatch.setattr(type(load_step("gamma")), "version", 2)
    assert case_keys(scan, None, settings)[0] != first[0]
    # also of a step that every plan has, where what 0.1.0 prepared is out of date then
    own = case_keys(scan, None, SMALL)
    monkeypatch.setattr(Crop, "version", 2)
    newer = case_keys(scan, None, SMALL)
    assert len(newer) == 1 and newer[0] not in own
