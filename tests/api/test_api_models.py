"""Models in the Python API: the rows of `adnext_predict` from files, images and arrays, and clear refusals."""

import shutil
import subprocess
import sys

import nibabel
import numpy as np
import pandas as pd
import pytest

import adnext_plugin as a
from adnext_plugin.api.scans import Geometry
from adnext_plugin.cli import install, predict
from adnext_plugin.errors import BundleError, ImageError, PathsError, SettingsError, TableError, UnknownNameError
from adnext_plugin.plan import Plan, PreprocessingSettings

PEOPLE = {"age": [60, 61, 62], "sex": ["M", "female", None]}  # of the first three scans


@pytest.fixture
def model(trained) -> a.LoadedModel:
    return a.load_model(trained.bundle, device="cpu")


@pytest.fixture
def scans(trained) -> list:
    return [trained.workspace.source / f"sub{index:02d}_M00.nii.gz" for index in range(3)]


def _volume_zyx(path) -> np.ndarray:
    return np.asarray(nibabel.load(path).get_fdata(dtype=np.float32)).T


def _by_command(trained, output, source) -> pd.DataFrame:
    arguments = ["-i", str(source), "-o", str(output), "-m", str(trained.bundle.stem), "-device", "cpu", "-np", "1"]
    assert predict.main(arguments) == 0
    return pd.read_csv(output / "predictions.csv", keep_default_na=False)


def _same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Cell by cell, numbers to the last bit."""
    texts = found.astype(object).where(found.notna(), "")
    assert list(texts) == list(expected)
    for name in expected:
        numbers = pd.to_numeric(expected[name], errors="coerce")
        if numbers.notna().all():
            np.testing.assert_array_equal(texts[name].astype(float), numbers, err_msg=name)
        else:
            assert texts[name].astype(str).tolist() == expected[name].astype(str).tolist(), name


def test_a_table_gives_the_rows_that_the_command_writes(trained, tmp_path) -> None:
    assert install.main([str(trained.bundle)]) == 0
    table = trained.workspace.source / "table.csv"
    found = a.load_model("toy", device="cpu").predict(table, processes=1)
    assert len(found) == 17
    _same(found, _by_command(trained, tmp_path / "out", table))


def test_files_images_and_arrays_of_the_same_scans_get_the_same_rows(model, scans, trained, tmp_path) -> None:
    by_path = model.predict(scans, people=PEOPLE, processes=1)
    assert by_path["case_id"].tolist() == ["sub00_M00", "sub01_M00", "sub02_M00"]
    assert by_path["file"].tolist() == [str(scan) for scan in scans]
    assert by_path["error"].tolist() == ["", "", ""]
    assert by_path["warnings"].str.contains("sex is not known").tolist() == [False, False, True]
    answers = ["prob_CN", "prob_AD", "spread", "called", "feature_distance"]
    images = [nibabel.load(scan) for scan in scans]
    by_image = model.predict(images, people=pd.DataFrame(PEOPLE), processes=1)
    arrays = [_volume_zyx(scan) for scan in scans]
    by_affine = model.predict(arrays, affine_xyz=images[0].affine, people=PEOPLE, processes=1)
    by_spacing = model.predict(arrays, spacing_zyx_mm=(2, 2, 2), people=PEOPLE, processes=1)
    for other in (by_image, by_affine, by_spacing):
        assert other["case_id"].tolist() == ["scan_0", "scan_1", "scan_2"]
        assert other["file"].tolist() == ["", "", ""]
        pd.testing.assert_frame_equal(other[answers], by_path[answers], check_exact=True)


def test_one_scan_needs_no_list_and_a_mixture_keeps_its_order(model, scans) -> None:
    people = {"age": [60], "sex": ["M"]}
    alone = model.predict(scans[0], people=people, processes=1)
    array = model.predict(_volume_zyx(scans[0]), spacing_zyx_mm=(2, 2, 2), people=people, processes=1)
    np.testing.assert_array_equal(alone["prob_AD"], array["prob_AD"])
    mixture = [_volume_zyx(scans[1]), scans[0]]
    mixed = model.predict(mixture, spacing_zyx_mm=(2, 2, 2), people={"age": [61, 60], "sex": ["M", "M"]}, processes=1)
    assert mixed["case_id"].tolist() == ["scan_0", "sub00_M00"]
    assert mixed["prob_AD"].iloc[1] == alone["prob_AD"].iloc[0]


def test_an_array_in_the_wrong_axis_order_is_another_scan(model, scans) -> None:
    """The order is part of the argument's name because nothing else would show the mistake."""
    people = {"age": [60], "sex": ["M"]}
    volume_zyx = _volume_zyx(scans[0])
    assert volume_zyx.shape == (38, 40, 36)
    right = model.predict(volume_zyx, spacing_zyx_mm=(2, 2, 2), people=people, processes=1)
    wrong = model.predict(volume_zyx.T, spacing_zyx_mm=(2, 2, 2), people=people, processes=1)
    assert right["prob_AD"].iloc[0] != wrong["prob_AD"].iloc[0]


def test_spacing_is_read_in_the_order_of_the_arrays_axes() -> None:
    np.testing.assert_array_equal(Geometry(spacing_zyx_mm=(3, 2, 1)).affine(), np.diag([1, 2, 3, 1]))


def test_a_scan_that_fails_has_its_reason_and_costs_no_other(model, scans, tmp_path) -> None:
    damaged = tmp_path / "damaged.nii.gz"
    damaged.write_bytes(b"not an image")
    volumes = [np.zeros((20, 20, 20)), damaged, scans[0]]
    table = model.predict(volumes, spacing_zyx_mm=(2, 2, 2), people=PEOPLE, processes=1)
    assert table["error"].iloc[0].startswith("scan_0.nii is constant")
    assert str(damaged) in table["error"].iloc[1]
    assert table["error"].iloc[2] == "" and table["prob_AD"].notna().tolist() == [False, False, True]


def test_a_run_a_bundle_file_and_an_installed_bundle_are_the_same_model(trained, scans) -> None:
    by_run = a.load_model(trained.run, device="cpu", folds=[0, 2])
    by_file = a.load_model(str(trained.bundle), device="cpu", folds=[0, 2])
    assert by_run.classes == by_file.classes == ("CN", "AD")
    assert by_run.covariates == by_file.covariates == ("age", "sex")
    assert [fold.name for fold in by_file.description.folds] == ["0", "2"]
    people = {"age": [60], "sex": ["M"]}
    found = [one.predict(scans[:1], people=people, processes=1)["prob_AD"].iloc[0] for one in (by_run, by_file)]
    assert found[0] == found[1]
    assert not (trained.workspace.results / "bundles").exists()
    assert "needs age, sex" in repr(by_file) and "2 networks of ADNeXtTrainer_T" in repr(by_file)


def test_prepare_scan_gives_what_training_read_from_disk(trained, model, scans) -> None:
    import blosc2

    folder = trained.workspace.preprocessed / "Dataset301_Toy"
    (stored,) = folder.glob("*/sub00_M00.b2nd")
    expected_zyx = blosc2.open(str(stored), mode="r")[:][0]
    for plan in (model, model.plan, folder / "ADNeXtPlans.json", trained.workspace.source / "preset.json"):
        found_zyx = a.prepare_scan(scans[0], plan)
        assert found_zyx.dtype == np.float32
        np.testing.assert_array_equal(found_zyx, expected_zyx)
    array_zyx = a.prepare_scan(_volume_zyx(scans[0]), model, spacing_zyx_mm=(2, 2, 2))
    np.testing.assert_array_equal(array_zyx, expected_zyx)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"scans": []}, SettingsError, "at least one"),
        ({"scans": ["nowhere.nii.gz"]}, PathsError, "nowhere.nii.gz does not exist"),
        ({"scans": "nowhere.nii.gz"}, PathsError, "nowhere.nii.gz does not exist"),
        ({"scans": [np.zeros((4, 4, 4))]}, SettingsError, "spacing_zyx_mm or affine_xyz"),
        ({"scans": [np.zeros((4, 4))], "spacing_zyx_mm": (1, 1, 1)}, ImageError, r"scan_0 has shape \(4, 4\)"),
        ({"scans": [np.zeros((4, 4, 4), complex)], "spacing_zyx_mm": (1, 1, 1)}, ImageError, "complex128"),
        ({"scans": [np.zeros((4, 4, 4))], "spacing_zyx_mm": (1, 1)}, SettingsError, r"shape \(3,\)"),
        ({"scans": [np.zeros((4, 4, 4))], "spacing_zyx_mm": (1, 0, 1)}, SettingsError, "must be positive"),
        ({"scans": [np.zeros((4, 4, 4))], "affine_xyz": np.full((4, 4), np.nan)}, SettingsError, "be finite"),
        ({"people": None}, SettingsError, "needs to know age, sex of every person: give people="),
        ({"people": {"age": [60, 61, 62]}}, SettingsError, "people has no column 'sex'"),
        ({"people": {"age": [60], "sex": ["M"]}}, TableError, "1 rows, but there are 3 scans"),
        ({"people": {**PEOPLE, "sex": ["M", "F", "x"]}}, TableError, "sub02_M00 has sex 'x'"),
        ({"people": {**PEOPLE, "age": [60, "old", 62]}}, TableError, "sub01_M00 has age 'old', which is not a number"),
    ],
)
def test_a_mistake_in_what_is_to_be_predicted_is_one_clear_line(model, scans, arguments, error, message) -> None:
    with pytest.raises(error, match=message) as caught:
        model.predict(
            **{"scans": scans, "people": PEOPLE if len(arguments.get("scans", scans)) == 3 else None, **arguments}
        )
    assert isinstance(caught.value, a.AdnextError) and "\n" not in str(caught.value)


def test_people_cannot_contradict_a_table(model, trained) -> None:
    with pytest.raises(SettingsError, match=r"table\.csv says itself whose scans it has"):
        model.predict(trained.workspace.source / "table.csv", people=PEOPLE)


def test_what_is_no_model_is_refused_in_one_line(trained, tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("")
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(trained.bundle.read_bytes()[:1000])
    shutil.rmtree(trained.run / "fold_1")
    for path, error, message in (
        (tmp_path / "nowhere", PathsError, "is not a trained model"),
        (tmp_path / "notes.txt", PathsError, "is no model"),
        (damaged, BundleError, "damaged.zip is no model bundle, or is damaged"),
    ):
        with pytest.raises(error, match=message):
            a.load_model(path, device="cpu")
    with pytest.raises(SettingsError, match="no fold 7; it has 0, 1, 2, 3"):
        a.load_model(trained.bundle, folds=[7], device="cpu")


def test_a_scan_for_a_plan_that_cannot_take_it_is_refused(scans) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'default'"):
        a.prepare_scan(scans[0], "defualt")
    own_masks = PreprocessingSettings(brain_extraction="mask_files", brain_mask_files="masks")
    with pytest.raises(SettingsError, match="mask files"):
        a.prepare_scan(scans[0], Plan(preprocessing=own_masks))


def test_the_documented_line_works_in_a_program_of_its_own(trained, scans) -> None:
    code = (
        f"import adnext_plugin as a; m = a.load_model({str(trained.run)!r}); "
        f"print(m.predict([{str(scans[0])!r}], people={{'age': [60], 'sex': ['M']}}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "sub00_M00" in done.stdout and "[1 rows x 12 columns]" in done.stdout
