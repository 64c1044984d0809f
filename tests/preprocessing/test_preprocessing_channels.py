"""A step that makes several channels of a scan: their order and number hold from preparation to a shared model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import PRESET, Workspace, toy_brain
from scipy.special import softmax

from adnext_plugin.choices import FitWay, Interpolation
from adnext_plugin.cli import explain, export, install, plan_and_preprocess, predict, train
from adnext_plugin.errors import ImageError, SettingsError
from adnext_plugin.files import read_json, write_json
from adnext_plugin.images import Volume, read_volume
from adnext_plugin.plan import PreprocessingSettings, StepChoice
from adnext_plugin.preprocessing.chain import channels_of, prepare
from adnext_plugin.preprocessing.grid.warp import Warp
from adnext_plugin.preprocessing.step import Placement, Scan
from adnext_plugin.preprocessing.steps.fit import Fit, FitSettings
from adnext_plugin.preprocessing.steps.tissue import Tissue, Tissues, TissueSettings, TissuesSettings
from adnext_plugin.registry import STEPS
from adnext_plugin.stored_volumes import read_case
from adnext_plugin.training.weights import read_checkpoint

DATASET, PLANS = "Dataset301_Toy", "TwoPlans"
RUN = f"ADNeXtLinearTrainer__{PLANS}__3d_fullres"
# the hole in the middle, by which alone patients are known, is closed in the first channel and left in the second
CLOSED = '''
import numpy as np

from adnext_plugin.preprocessing.step import Step
from adnext_plugin.records import record


@record
class Settings:
    """How many channels there are said to be."""

    named: int = 2


class Closed(Step):
    """The scan without its dark places, and beside it the scan."""

    name, version = "closed", 1
    settings_type = Settings

    def apply(self, scan, settings):
        volume = scan.image_czyx[0]
        closed = np.where(volume > 0, np.maximum(volume, 90), 0)
        return scan.with_channels(np.stack([closed, volume]))

    def channels(self, names, settings):
        return (names[0], "dark", "none")[: settings.named]

    def describe(self, settings):
        return "a channel without dark places is put before the scan"
'''


@pytest.fixture
def planned(toy: Workspace, install, tmp_path: Path) -> Workspace:
    """The toy dataset, prepared with two channels under plans of their own beside the usual ones."""
    install("closed_package", CLOSED, {STEPS: {"closed": "Closed"}})
    preset = tmp_path / "preset.json"
    preset.write_text(json.dumps({"preprocessing": {**PRESET["preprocessing"], "steps": [{"name": "closed"}]}}))
    assert plan_and_preprocess.main(["-d", "301", "-np", "1", "--preset", str(preset), "-p", PLANS]) == 0
    return toy


def _train(fold: str, channel: str) -> int:
    settings = ["--set", f'channels=["{channel}"]', "--set", "smoothing_mm=0"]
    return train.main(
        ["301", "3d_fullres", fold, "-tr", "ADNeXtLinearTrainer", "-p", PLANS, "-device", "cpu", *settings]
    )


def _channels_seen(fold: Path) -> list[bool]:
    weights = read_checkpoint(fold / "checkpoint_final.pth")["network_weights"]["head.weight"]
    return [bool(of_channel.any()) for of_channel in weights[0]]


def test_channels_keep_their_order_from_the_scan_to_a_shared_model(planned: Workspace, tmp_path: Path, capsys) -> None:
    stored, _ = read_case(planned.preprocessed / DATASET / f"{PLANS}_3d_fullres", "sub01_M00")
    plain, _ = read_case(planned.preprocessed / DATASET / "ADNeXtPlans_3d_fullres", "sub01_M00")
    assert stored.shape == (2, 32, 32, 32) and np.array_equal(stored[1], plain[0])
    assert stored[0].min() > stored[1].min()

    run = planned.results / DATASET / RUN
    assert _train("0", "T1w") == 0
    assert _channels_seen(run / "fold_0") == [True, False]
    assert _train("cv", "dark") == 0
    assert _channels_seen(run / "fold_0") == [False, True]
    assert read_json(run / "fold_0" / "validation" / "summary.json")["metrics"]["val"]["auc"] == 1
    assert _train("0", "drak") == 2
    assert "no channel 'drak'; did you mean 'dark'?" in capsys.readouterr().err

    bundle = tmp_path / "two.zip"
    assert export.main([str(run), "-o", str(bundle), "-device", "cpu"]) == 0
    assert install.main([str(bundle), "--into", str(tmp_path)]) == 0
    words = ["-i", str(planned.source / "table.csv"), "-o", str(tmp_path / "out"), "-m", str(tmp_path / "two")]
    assert predict.main([*words, "--folds", "1", "-device", "cpu", "-np", "1"]) == 0
    found = pd.read_csv(tmp_path / "out" / "predictions.csv").set_index("case_id")
    own = pd.read_csv(run / "fold_1" / "validation" / "predictions.csv").set_index("case_id")
    temperature = read_json(run / "crossval_results" / "metrics.json")["details"]["temperatures"][1]["value"]
    expected = softmax(own[["logit_CN", "logit_AD"]].to_numpy() / temperature, axis=1)[:, 1]
    np.testing.assert_allclose(found.loc[own.index, "prob_AD"], expected, atol=1e-4)

    given = ["--method", "smooth_grad", "--cases", own.index[0], "-device", "cpu"]
    assert explain.main(["301", "-tr", "ADNeXtLinearTrainer", "-p", PLANS, *given]) == 0
    assert read_volume(run / "explanations" / "smooth_grad" / f"{own.index[0]}.nii.gz").volume_zyx.any()


def test_any_network_and_pre_training_take_the_channels_that_a_step_makes(planned: Workspace) -> None:
    fast = ["-p", PLANS, "-device", "cpu", "--set", "epochs=1"]
    assert train.main(["301", "3d_fullres", "0", "-tr", "ADNeXtTrainer_T", *fast]) == 0
    fold = planned.results / DATASET / f"ADNeXtTrainer_T__{PLANS}__3d_fullres" / "fold_0"
    weights = read_checkpoint(fold / "checkpoint_final.pth")["network_weights"]
    assert next(tensor for name, tensor in weights.items() if name.startswith("encoder.stem")).shape[1] == 2


def test_a_step_that_makes_other_channels_than_it_names_is_one_line(install) -> None:
    install("closed_package", CLOSED, {STEPS: {"closed": "Closed"}})

    def settings(named: int) -> PreprocessingSettings:
        return PreprocessingSettings(steps=(StepChoice(name="closed", settings={"named": named}),))

    assert channels_of(settings(2), ("FLAIR",)) == ("FLAIR", "dark")
    assert channels_of(PreprocessingSettings(), ("FLAIR",)) == ("FLAIR",)
    volume = Volume(volume_zyx=toy_brain(1, has_hole=True).T, affine=np.diag([2.0, 2.0, 2.0, 1.0]))
    assert prepare(volume, settings(2)).image_czyx.shape == (2, 128, 128, 128)
    with pytest.raises(SettingsError, match="names 3 channels, but made 2"):
        prepare(volume, settings(3))
    with pytest.raises(SettingsError, match="must name each channel that it makes"):
        channels_of(settings(0), ("FLAIR",))


def test_a_case_that_lacks_an_image_is_named_and_not_prepared_by_halves(toy: Workspace, tmp_path: Path, capsys) -> None:
    raw = tmp_path / "raw" / DATASET
    shutil.copytree(toy.raw / DATASET, raw, symlinks=True)
    content = read_json(raw / "dataset.json")
    write_json({**content, "channel_names": {"0": "T1w", "1": "FLAIR"}}, raw / "dataset.json")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("nnUNet_raw", str(raw.parent))
        monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
        assert plan_and_preprocess.main(["-d", "301", "-np", "1"]) == 2
    told = capsys.readouterr().err
    assert "sub01_M00_0001.nii.gz does not exist; import the dataset again" in told and "17 of 17 cases failed" in told


def _two(second_zyx: np.ndarray) -> tuple[Volume, Volume]:
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    first = Volume(volume_zyx=toy_brain(1, has_hole=False).T, affine=affine)
    return first, Volume(volume_zyx=second_zyx.astype(np.float32), affine=affine)


@pytest.mark.parametrize("fit", ["resize", "pad_crop"])
@pytest.mark.parametrize("bias_correction", ["none", "n4"])
def test_an_image_that_a_person_does_not_have_stays_0(fit: str, bias_correction: str) -> None:
    first, absent = _two(np.zeros((38, 40, 36)))
    small = {"input_size_voxels": (16, 16, 16), "spacing_mm": (5.0, 5.0, 5.0), "n4_iterations": (2,)}
    settings = PreprocessingSettings(fit=fit, bias_correction=bias_correction, **small)  # type: ignore[arg-type]
    found = prepare(first, settings, further=[absent]).image_czyx
    assert found.shape == (2, 16, 16, 16) and not found[1].any()
    np.testing.assert_allclose(found[0], prepare(first, settings).volume_zyx, atol=1e-3)  # sums of N4 differ a little


def test_a_second_image_with_a_skull_is_cut_to_the_brain_of_the_first() -> None:
    brain_zyx = toy_brain(1, has_hole=False).T
    first, head = _two(np.full(brain_zyx.shape, 50.0) + 10 * np.random.default_rng(0).random(brain_zyx.shape))
    settings = PreprocessingSettings(input_size_voxels=(40, 42, 38), spacing_mm=(2.0, 2.0, 2.0))
    image_czyx = prepare(first, settings, further=[head]).image_czyx
    np.testing.assert_array_equal(image_czyx[1] != 0, image_czyx[0] != 0)
    whole = prepare(first, replace(settings, brain_extraction="none"), further=[head]).image_czyx
    assert np.count_nonzero(whole[1]) > 1.2 * np.count_nonzero(image_czyx[1])


def test_an_image_that_shows_nothing_of_the_brain_is_refused() -> None:
    elsewhere = np.zeros((38, 40, 36))
    elsewhere[0, :3, :3] = 7
    first, other = _two(elsewhere)
    for method in ("deepbet", "none"):
        settings = PreprocessingSettings(brain_extraction=method)  # type: ignore[arg-type]
        with pytest.raises(ImageError, match=r"image 1 of it .* is 0 wherever the first has its brain"):
            prepare(first, settings, further=[other])


def test_channels_of_an_aligned_scan_stay_on_one_grid_where_brains_are_stretched() -> None:
    """The second image is a small part of the brain, and must not be stretched to fill the input by itself."""
    first_zyx, part = np.ones((20, 20, 20), np.float32), np.zeros((20, 20, 20), np.float32)
    part[8:12, 8:12, 8:12] = 1
    placement = Placement(scan_from_space_mm=np.eye(4), centre_mm=np.zeros(3))
    scan = Scan(image_czyx=np.stack([first_zyx, part]), affine=np.eye(4), placement=placement)
    settings = FitSettings(spacing_mm=(1.0, 1.0, 1.0), input_size_voxels=(20, 20, 20), fit="resize")
    found = Fit().apply(scan, settings).image_czyx
    assert np.count_nonzero(found[0] > 0.5) == 20**3
    assert np.count_nonzero(found[1] > 0.5) == pytest.approx(4**3, rel=0.2)


@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
@pytest.mark.parametrize("fit", ["resize", "pad_crop"])
@pytest.mark.parametrize("is_aligned", [True, False])
def test_a_case_of_many_channels_is_what_each_would_be_beside_the_first(
    interpolation: Interpolation, fit: FitWay, is_aligned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    image_czyx = generator.uniform(0.5, 2, (4, 21, 18, 24)).astype(np.float32)
    image_czyx[1, :5] = 0
    shifts_mm = generator.normal(0, 1, (12, 12, 12, 3)).astype(np.float32)
    warp = Warp(shifts_mm=shifts_mm, affine=np.diag([4.0, 4.0, 4.0, 1.0]))
    placement = Placement(scan_from_space_mm=np.diag([1.1, 0.9, 1.0, 1.0]), centre_mm=np.full(3, 11.0), warp=warp)
    scan = Scan(image_czyx=image_czyx, affine=np.eye(4), placement=placement if is_aligned else None, modulated=(2, 3))
    settings = FitSettings(
        spacing_mm=(1.5, 1.7, 1.2), input_size_voxels=(16, 14, 20), fit=fit, interpolation=interpolation
    )
    # what the warp says of the grid is looked up once a case, however many channels it has
    asked: list[int] = []
    shifts_on = Warp.shifts_on
    monkeypatch.setattr(Warp, "shifts_on", lambda *given: (asked.append(1), shifts_on(*given))[1])
    whole = Fit().apply(scan, settings)
    assert len(asked) == is_aligned
    for place in (1, 2, 3):
        pair = replace(scan, image_czyx=image_czyx[[0, place]], modulated=(1,) if place in scan.modulated else ())
        alone = Fit().apply(pair, settings)
        np.testing.assert_array_equal(alone.image_czyx, whole.image_czyx[[0, place]])
        assert alone.notes == whole.notes
        np.testing.assert_array_equal(alone.affine, whole.affine)


def test_steps_of_anatomy_keep_further_images_or_say_that_they_cannot() -> None:
    names = ("T1", "FLAIR")
    assert Tissues().channels(names, TissuesSettings()) == ("T1", "FLAIR", "grey", "fluid")
    with pytest.raises(SettingsError, match=r"there are T1, FLAIR; use the step 'tissues'"):
        Tissue().channels(names, TissueSettings())
