"""The whole life of a dataset of two images per person: the second alone tells patients from controls."""

import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from conftest import PRESET, Workspace, empty_workspace, toy_brain, write_scan

import adnext_plugin
from adnext_plugin.cli import (
    bids_app,
    explain,
    export,
    import_dataset,
    install,
    plan_and_preprocess,
    predict,
    pretrain,
    train,
)
from adnext_plugin.deployment.notes import card_of
from adnext_plugin.errors import SettingsError
from adnext_plugin.files import read_json
from adnext_plugin.images import read_volume
from adnext_plugin.stored_volumes import read_case
from adnext_plugin.training.weights import read_checkpoint

DATASET = "Dataset302_Two"
PEOPLE = 12
RUN = f"{DATASET}/ADNeXtLinearTrainer__ADNeXtPlans__3d_fullres"
IMPORT = ["302", "Two", "--channel", "T1=T1w", "--channel", "FLAIR=FLAIR", "--target", "dx", "-np", "1"]


def _write_tree(root: Path) -> Path:
    """T1-weighted images without a hole in anybody's brain; FLAIR images with the patients', turned another way."""
    rows = ["participant_id\tdx"]
    for person in range(PEOPLE):
        label, dx = f"sub-{person:02d}", "AD" if person % 2 else "CN"
        rows.append(f"{label}\t{dx}")
        folder = root / label / "anat"
        write_scan(folder / f"{label}_T1w.nii.gz", toy_brain(person, has_hole=False))
        flair = 3 * toy_brain(person, has_hole=dx == "AD")
        las = np.diag([-2.0, 2.0, 2.0, 1.0])
        las[0, 3] = 2.0 * (flair.shape[0] - 1)
        nibabel.save(nibabel.Nifti1Image(flair[::-1], las), folder / f"{label}_FLAIR.nii.gz")
    (root / "participants.tsv").write_text("\n".join(rows) + "\n")
    (root / "dataset_description.json").write_text('{"Name": "two", "BIDSVersion": "1.9.0"}')
    return root


@pytest.fixture(scope="module")
def two_once(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Imported as Dataset302_Two and prepared; linear models of all folds, and their bundle."""
    workspace = empty_workspace(tmp_path_factory.mktemp("two"))
    tree = _write_tree(workspace.source / "bids")
    preset = workspace.source / "preset.json"
    preset.write_text(json.dumps(PRESET))
    run = workspace.results / RUN
    with pytest.MonkeyPatch.context() as monkeypatch:
        workspace.use(monkeypatch)
        assert import_dataset.main([*IMPORT, "--bids", str(tree)]) == 0
        assert plan_and_preprocess.main(["-d", "302", "-np", "1", "--preset", str(preset)]) == 0
        words = ["-tr", "ADNeXtLinearTrainer", "-device", "cpu", "--set", "smoothing_mm=0"]
        assert train.main(["302", "3d_fullres", "cv", *words, "--set", 'channels=["FLAIR"]']) == 0
        assert export.main([str(run), "-o", str(workspace.results / "two.zip"), "-device", "cpu"]) == 0
        assert install.main([str(workspace.results / "two.zip"), "--into", str(workspace.results)]) == 0
    return workspace


@pytest.fixture
def two(two_once: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """That, in use."""
    two_once.use(monkeypatch)
    return two_once


def _answers(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "predictions.csv", dtype={"subject_id": str})


def test_two_images_are_imported_and_prepared_side_by_side(two: Workspace) -> None:
    description = read_json(two.raw / DATASET / "dataset.json")
    assert description["channel_names"] == {"0": "T1", "1": "FLAIR"}
    assert len(list((two.raw / DATASET / "imagesTr").iterdir())) == 2 * PEOPLE
    plans = read_json(two.preprocessed / DATASET / "ADNeXtPlans.json")
    assert plans["configurations"]["3d_fullres"]["normalization_schemes"] == ["ZScoreNormalization"] * 2
    channels = plans["foreground_intensity_properties_per_channel"]
    # the same brains, three times as bright
    assert channels["1"]["median"] == pytest.approx(3 * channels["0"]["median"], rel=0.02)

    healthy, _ = read_case(two.preprocessed / DATASET / "ADNeXtPlans_3d_fullres", "sub-00")
    ill, _ = read_case(two.preprocessed / DATASET / "ADNeXtPlans_3d_fullres", "sub-01")
    assert healthy.shape == (2, 32, 32, 32)
    # each is normalised by itself, and the mirrored file lies on its own brain again
    np.testing.assert_allclose(healthy[1], healthy[0], atol=5e-3)
    assert ill[1].min() < ill[0].min() - 1


def test_the_second_image_alone_tells_who_is_ill(two: Workspace) -> None:
    summary = read_json(two.results / RUN / "fold_0" / "validation" / "summary.json")
    assert summary["metrics"]["val"]["auc"] == 1
    weights = read_checkpoint(two.results / RUN / "fold_0" / "checkpoint_final.pth")["network_weights"]["head.weight"]
    assert [bool(of_channel.any()) for of_channel in weights[0]] == [False, True]


def test_networks_and_pre_training_see_both(two: Workspace, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    fast = ["-device", "cpu", "--set", "epochs=1"]
    alone = ["--set", "sigmas={}", "--set", "categories=[]"]  # nothing is known of people but their images
    assert pretrain.main(["302", "3d_fullres", "0", "-tr", "ADNeXtContrastiveTrainer_T", *fast, *alone]) == 0
    (encoder,) = tmp_path.glob(f"{DATASET}/*/fold_0/checkpoint_final.pth")
    words = ["302", "3d_fullres", "0", "-tr", "ADNeXtTrainer_T", "-pretrained_weights", str(encoder), *fast]
    assert train.main(words) == 0
    (trained,) = tmp_path.glob(f"{DATASET}/ADNeXtTrainer_T__*/fold_0/checkpoint_final.pth")
    weights = read_checkpoint(trained)["network_weights"]
    assert next(tensor for name, tensor in weights.items() if name.startswith("encoder.stem")).shape[1] == 2


def test_a_bundle_answers_for_files_tables_and_trees_alike(two: Workspace, tmp_path: Path, capsys) -> None:
    model = ["-m", str(two.results / "two"), "-device", "cpu", "-np", "1"]
    assert read_json(two.results / "two" / "model.json")["images"] == ["T1", "FLAIR"]
    # files as nnU-Net names them; of one person an image is missing, of another one lies elsewhere
    files = tmp_path / "files"
    shutil.copytree(two.raw / DATASET / "imagesTr", files)
    (files / "sub-02_0001.nii.gz").unlink()
    write_scan(files / "sub-03_0001.nii.gz", toy_brain(3, has_hole=True), spacing_mm=2.5)
    assert predict.main(["-i", str(files), "-o", str(tmp_path / "a"), *model]) == 2
    by_files = _answers(tmp_path / "a").set_index("case_id")
    assert len(by_files) == PEOPLE
    errors = by_files["error"].dropna()
    assert list(errors.index) == ["sub-02", "sub-03"]
    assert "sub-02 has no FLAIR, and the model takes T1, FLAIR" in errors["sub-02"]
    assert "36 × 40 × 38 voxels of 2.5 × 2.5 × 2.5 mm" in errors["sub-03"] and "on one grid" in errors["sub-03"]
    # a tree, in which FLAIR images are called as the model calls them, and T1-weighted ones are not
    tree = two.source / "bids"
    assert bids_app.main([str(tree), str(tmp_path / "b"), "participant", *model, "--channel", "T1=T1w", "FLAIR"]) == 0
    assert bids_app.main([str(tree), str(tmp_path / "b"), "group", *model]) == 0
    by_tree = _answers(tmp_path / "b").set_index("case_id")
    told = by_files.drop(["sub-02", "sub-03"])
    pd.testing.assert_series_equal(by_tree.loc[told.index, "prob_AD"], told["prob_AD"])
    assert (by_tree["prob_AD"] > 0.5).tolist() == [bool(person % 2) for person in range(PEOPLE)]
    # a table
    rows = [
        f"{p},{tree}/sub-{p:02d}/anat/sub-{p:02d}_T1w.nii.gz,sub-{p:02d}/anat/sub-{p:02d}_FLAIR.nii.gz" for p in (0, 1)
    ]
    table = tmp_path / "t.csv"
    table.write_text("subject,T1,FLAIR\n" + "\n".join(rows) + "\n")
    words = ["-i", str(table), "--images", str(tree), "-o", str(tmp_path / "c"), *model]
    assert predict.main([*words, "--explain", "smooth_grad"]) == 0
    np.testing.assert_allclose(_answers(tmp_path / "c")["prob_AD"], by_tree["prob_AD"].iloc[:2], atol=1e-6)
    assert (tmp_path / "c" / "explanations" / "maps.csv").is_file()
    assert predict.main([*words, "--channel", "T2=T1"]) == 2
    assert "--channel T2: the model takes T1, FLAIR" in capsys.readouterr().err
    # in Python, a tuple for each person
    loaded = adnext_plugin.load_model(two.results / "two", device="cpu")
    assert "Input: T1, FLAIR of one brain, on one grid" in card_of(loaded.description)
    pair = tuple(nibabel.load(files / f"sub-01_{place:04d}.nii.gz") for place in (0, 1))
    found = loaded.predict([pair, files / "sub-01_0000.nii.gz"], processes=1)["prob_AD"]
    np.testing.assert_allclose(found, by_tree.loc["sub-01", "prob_AD"], atol=1e-6)
    with pytest.raises(SettingsError, match="scan 0 has 3 images, but the model takes T1, FLAIR"):
        loaded.predict([(*pair, pair[0])])


def test_a_map_shows_where_the_second_image_differs(two: Workspace) -> None:
    case = pd.read_csv(two.results / RUN / "fold_0" / "validation" / "predictions.csv")["case_id"].iloc[0]
    given = ["--method", "smooth_grad", "--cases", case, "-device", "cpu", "--checks", "1"]
    assert explain.main(["302", "-tr", "ADNeXtLinearTrainer", *given]) == 0
    map_zyx = np.abs(read_volume(two.results / RUN / "explanations" / "smooth_grad" / f"{case}.nii.gz").volume_zyx)
    middle = tuple(slice(size // 2 - 3, size // 2 + 3) for size in map_zyx.shape)
    assert map_zyx[middle].mean() > 2 * map_zyx.mean()


def test_images_on_different_grids_and_one_image_twice_are_refused_at_import(two: Workspace, tmp_path, capsys) -> None:
    tree = shutil.copytree(two.source / "bids", tmp_path / "bids")
    write_scan(tree / "sub-01/anat/sub-01_FLAIR.nii.gz", toy_brain(1, has_hole=True, shape=(30, 40, 38)))
    words = ["303", *IMPORT[1:], "--bids", str(tree), "--dry-run"]
    assert import_dataset.main(words) == 2
    told = capsys.readouterr().err
    assert "sub-01_FLAIR.nii.gz has 30 × 40 × 38 voxels of 2 × 2 × 2 mm" in told and "--coregister" in told
    shutil.copyfile(tree / "sub-01/anat/sub-01_T1w.nii.gz", tree / "sub-01/anat/sub-01_FLAIR.nii.gz")
    assert import_dataset.main(words) == 2
    assert "hold the same image, as two channels of sub-01" in capsys.readouterr().err


def test_a_missing_image_is_0_in_the_network_and_noted_in_the_table(
    two: Workspace, tmp_path: Path, monkeypatch
) -> None:
    for variable in ("nnUNet_raw", "nnUNet_preprocessed"):
        monkeypatch.setenv(variable, str(tmp_path / variable))
        (tmp_path / variable).mkdir()
    tree = shutil.copytree(two.source / "bids", tmp_path / "bids")
    (tree / "sub-03/anat/sub-03_FLAIR.nii.gz").unlink()
    words = [*IMPORT, "--bids", str(tree)]
    assert import_dataset.main(words) == 2
    assert import_dataset.main([*words, "--missing-channel", "zero"]) == 0
    table = pd.read_csv(tmp_path / "nnUNet_raw" / DATASET / "subjects.csv").set_index("case_id")
    assert table["has_FLAIR"].tolist() == [int(case != "sub-03") for case in table.index]
    report = read_json(tmp_path / "nnUNet_raw" / DATASET / "import_report.json")
    assert report["channels"] == {"T1": PEOPLE, "FLAIR": PEOPLE - 1}
    preset = two.source / "preset.json"
    assert plan_and_preprocess.main(["-d", "302", "-np", "1", "--preset", str(preset)]) == 0
    image_czyx, _ = read_case(tmp_path / "nnUNet_preprocessed" / DATASET / "ADNeXtPlans_3d_fullres", "sub-03")
    assert image_czyx[0].any() and not image_czyx[1].any()
