"""Linear models as trainers: the numbers they must come to, and the files that every run leaves."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Workspace
from nnunetv2.run.run_training import get_trainer_from_args
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression

from adnext_plugin.cli import audit, export, install, predict, train
from adnext_plugin.cohort import Cohort
from adnext_plugin.data.store import CaseStore
from adnext_plugin.errors import SettingsError
from adnext_plugin.evaluation.studies import kernel_fit, linear_voxels
from adnext_plugin.evaluation.studies.baselines import cross_validate, voxels
from adnext_plugin.evaluation.studies.kernel_fit import fit_classes
from adnext_plugin.evaluation.studies.linear_voxels import inner_folds
from adnext_plugin.evaluation.studies.smoothing import Smoothing
from adnext_plugin.explanations.method import load_explanation
from adnext_plugin.files import read_json
from adnext_plugin.paths import hook_dir
from adnext_plugin.prediction.from_run import read_run
from adnext_plugin.prediction.model import FoldNetwork
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.settings import LinearSettings
from adnext_plugin.trainers.linear import REGIONS_OF_AD, ADNeXtLinearTrainer
from adnext_plugin.trainers.linear_fit import VoxelKernel, mask_of
from adnext_plugin.training.weights import read_checkpoint

DATASET = "Dataset301_Toy"
RUN = "{}__ADNeXtPlans__3d_fullres"
SHAPE = (12, 10, 11)


def _images(count: int = 9) -> np.ndarray:
    """Two channels, each empty near its border."""
    generator = np.random.default_rng(1)
    images = generator.normal(1, 1, size=(count, 2, *SHAPE)).astype(np.float32)
    images[:, 0, :2], images[:, 1, :, :3] = 0, 0
    images[: count // 3, 0, 2] = 0
    return images


def _read(images: np.ndarray):
    return lambda cases: (images[int(case)] for case in cases)


@pytest.mark.parametrize("fwhm_mm", [0.0, 5.0])
def test_weights_of_voxels_answer_as_the_model_of_products(fwhm_mm: float) -> None:
    images, covariates = _images(), np.random.default_rng(2).normal(size=(9, 2))
    cases, others = [str(index) for index in range(6)], images[6:]
    mask = mask_of(_read(images), cases, 0.6, [0, 1])
    smoothing = Smoothing.of(fwhm_mm, (2.0, 2.0, 2.5))
    kernel = VoxelKernel(_read(images), cases, mask, smoothing, covariates[:6])
    in_blocks = VoxelKernel(_read(images), cases, mask, smoothing, covariates[:6], bytes_at_once=1)
    gram = kernel.gram()
    np.testing.assert_allclose(in_blocks.gram(), gram, rtol=1e-12)

    points = mask[:, *smoothing.kept].sum()
    seen = np.stack(
        [[smoothing(channel * inside) for channel, inside in zip(image, mask, strict=True)] for image in images]
    )
    products = np.einsum("nczyx,mczyx->nm", seen.astype(float), seen[:6].astype(float)) / points
    products += covariates @ covariates[:6].T
    np.testing.assert_allclose(gram, products[:6], rtol=1e-6)

    lighter = VoxelKernel(_read(images), cases, mask, smoothing, covariates[:6], image_weight=0.25)
    of_covariates = covariates[:6] @ covariates[:6].T
    np.testing.assert_allclose(lighter.gram() - of_covariates, (gram - of_covariates) / 4, atol=1e-12)

    people, targets = np.arange(6).astype(str), np.array([0, 1, 2] * 2)
    asked = {"classifier": "logistic", "weighting": "none", "folds": 2, "seed": 0}
    model = fit_classes(gram, targets, people, **asked)
    expected = products[6:] @ model.dual.T + model.offset
    for one in (kernel, in_blocks):
        found = one.weights(model)
        assert not found.weights_kczyx[:, ~mask].any() and found.weights_kczyx[:, mask].all()
        outputs = np.einsum("kczyx,nczyx->nk", found.weights_kczyx, others.astype(float))
        outputs += covariates[6:] @ found.covariate_weights.T + found.offset
        np.testing.assert_allclose(outputs, expected, rtol=1e-6, atol=1e-7)


def test_the_mask_has_what_is_filled_in_enough_scans_of_the_channels_asked_for() -> None:
    images = _images()
    cases = [str(index) for index in range(9)]
    half = mask_of(_read(images), cases, 0.5, [0, 1])
    assert not half[0, :2].any() and half[0, 2:].all() and not half[1, :, :3].any() and half[1, :, 3:].all()
    assert not mask_of(_read(images), cases, 0.9, [0, 1])[0, 2].any()
    second = mask_of(_read(images), cases, 0.0, [1])
    assert not second[0].any() and second[1].all()
    with pytest.raises(SettingsError, match="no voxel is filled in 100%"):
        mask_of(_read(images * 0), cases, 1.0, [0, 1])


def test_covariates_alone_are_fitted_as_scikit_learn_does_and_images_weigh_nothing() -> None:
    images, covariates = _images(), np.random.default_rng(3).normal(size=(9, 3))
    cases, mask = [str(index) for index in range(9)], np.ones((2, *SHAPE), bool)
    kernel = VoxelKernel(_read(images), cases, mask, Smoothing.of(0.0, (1, 1, 1)), covariates, image_weight=0.0)
    targets = np.array([0, 1, 1] * 3)
    asked = {"classifier": "logistic", "weighting": "none", "folds": 3, "seed": 0}
    model = fit_classes(kernel.gram(), targets, np.arange(9).astype(str), **asked)
    found = kernel.weights(model)
    assert not found.weights_kczyx.any()
    expected = LogisticRegression(C=model.strength, tol=1e-10, max_iter=10_000).fit(covariates, targets)
    outputs = covariates @ found.covariate_weights.T + found.offset
    decisions = expected.decision_function(covariates)
    np.testing.assert_allclose(outputs[:, 1] - outputs[:, 0], decisions, rtol=1e-3, atol=1e-4)


def test_regions_are_asked_for_and_once_measured_are_all_that_is_looked_at(
    toy_workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    toy_workspace.use(monkeypatch)
    shutil.copytree(toy_workspace.preprocessed / DATASET, tmp_path / "preprocessed" / DATASET)
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    words = ["301", "3d_fullres", "0", "-tr", "ADNeXtRegionsTrainer", "-device", "cpu"]
    assert train.main(words) == 2
    assert f"run adnext_regions -d {DATASET}" in capsys.readouterr().err
    people = Cohort.open(tmp_path / "preprocessed" / DATASET).subjects
    is_ad = (people["diagnosis"] == "AD").to_numpy()
    # volumes that tell the classes apart, as adnext_regions would write them
    table = people[["case_id"]].assign(**{REGIONS_OF_AD[0]: 1.0 + is_ad, REGIONS_OF_AD[1]: 2.0})
    table.to_csv(tmp_path / "preprocessed" / DATASET / "regions.csv", index=False)
    assert train.main(words) == 0
    run = tmp_path / "results" / DATASET / RUN.format("ADNeXtRegionsTrainer") / "fold_0"
    found = pd.read_csv(run / "validation" / "predictions.csv")
    assert ((found["prob_AD"] > 0.5) == (found["target"] == "AD")).all()
    weights = read_checkpoint(run / "checkpoint_final.pth")["network_weights"]
    images = [value for name, value in weights.items() if name.endswith("head.weight") and value.ndim > 2]
    assert images and not any(value.any() for value in images)


@pytest.fixture(scope="module")
def linear_run(toy_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """All folds on the toy dataset with covariates, exported."""
    workspace = toy_workspace.with_results(tmp_path_factory.mktemp("linear"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        workspace.use(monkeypatch)
        options = ["-device", "cpu", "--set", 'covariates=["age","sex"]']
        assert train.main(["301", "3d_fullres", "cv", "-tr", "ADNeXtLinearTrainer", *options]) == 0
        run = workspace.results / DATASET / RUN.format("ADNeXtLinearTrainer")
        assert export.main([str(run), "-o", str(workspace.results / "linear.zip"), "-device", "cpu"]) == 0
    return workspace


@pytest.fixture
def run(linear_run: Workspace, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its folder, in use."""
    linear_run.use(monkeypatch)
    return linear_run.results / DATASET / RUN.format("ADNeXtLinearTrainer")


def test_a_linear_run_leaves_what_every_run_leaves_and_is_finished(run: Path, capsys) -> None:
    metrics = read_json(run / "crossval_results" / "metrics.json")
    assert metrics["scores"]["auc_mean_of_folds"]["value"] > 0.9
    for fold in range(4):
        folder = run / f"fold_{fold}"
        for name in ("run.json", "trained_on.json", "progress.png", "validation/predictions.csv"):
            assert (folder / name).is_file(), name
        summary = read_json(folder / "validation" / "summary.json")
        assert summary["evaluated_checkpoint"] == "checkpoint_final.pth" and summary["protocol"] == "honest"
        notes = read_checkpoint(folder / "checkpoint_final.pth")["adnext"]
        assert notes["further"]["strength"] > 0 and list(notes["covariate_scale"]["names"]) == ["age", "sex"]
    before = (run / "fold_0" / "checkpoint_final.pth").read_bytes()
    options = ["-device", "cpu", "--set", 'covariates=["age","sex"]']
    assert train.main(["301", "3d_fullres", "0", "-tr", "ADNeXtLinearTrainer", *options]) == 0
    assert "finished already" in capsys.readouterr().out
    assert (run / "fold_0" / "checkpoint_final.pth").read_bytes() == before
    assert audit.main(["301", "-tr", "ADNeXtLinearTrainer"]) == 0


def test_a_shared_linear_model_answers_on_raw_scans_as_its_fold_did(
    run: Path, linear_run: Workspace, tmp_path: Path
) -> None:
    assert install.main([str(linear_run.results / "linear.zip"), "--into", str(tmp_path)]) == 0
    where = ["-i", str(linear_run.source / "table.csv"), "-o", str(tmp_path / "out"), "-device", "cpu", "-np", "1"]
    assert predict.main([*where, "-m", str(tmp_path / "linear"), "--folds", "2"]) == 0
    found = pd.read_csv(tmp_path / "out" / "predictions.csv").set_index("case_id")
    own = pd.read_csv(run / "fold_2" / "validation" / "predictions.csv").set_index("case_id")
    temperature = read_json(run / "crossval_results" / "metrics.json")["details"]["temperatures"][2]["value"]
    expected = softmax(own[["logit_CN", "logit_AD"]].to_numpy() / temperature, axis=1)[:, 1]
    np.testing.assert_allclose(found.loc[own.index, "prob_AD"], expected, atol=1e-4)


def test_maps_of_a_linear_model_are_its_weights(run: Path) -> None:
    model = read_run(RunFolder(run), ["1"])
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 32)).astype(np.float32)
    row = pd.DataFrame({"age": [70.0], "sex": ["F"]})
    found = load_explanation("smooth_grad")(FoldNetwork(model, 0, "cpu").explained(row), image, "AD")
    weights = model.folds[0].weights["network.head.weight"]
    expected = (weights[1] - weights[0])[0].numpy()
    np.testing.assert_allclose(np.abs(found), np.abs(expected), rtol=1e-4, atol=1e-8)
    assert (expected != 0).mean() > 0.1


def test_without_a_mask_it_is_the_voxel_baseline_and_a_fitted_selection_is_answered_by_others(
    toy: Workspace, monkeypatch
) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    monkeypatch.setattr(kernel_fit, "STRENGTHS", linear_voxels.STRENGTHS)
    run = _trained(monkeypatch, mask_share=0, seed=0)
    table = pd.read_csv(run / "validation" / "predictions.csv").set_index("case_id")
    cohort = Cohort.open(toy.preprocessed / DATASET)
    store = CaseStore(cohort.folder / "ADNeXtPlans_3d_fullres", list(cohort.subjects["case_id"]), (32, 32, 32))
    images = {case: store[index][0] for index, case in enumerate(store.cases)}
    baseline = cross_validate(voxels(cohort, images.__getitem__, (2.5, 2.5, 2.5)), cohort)
    expected = baseline[baseline["fold"] == 0].set_index("case_id").loc[table.index]
    assert (expected["part"] == table["part"]).all() and set(table["part"]) == {"val", "selection"}
    np.testing.assert_allclose(table["prob_AD"], expected["prob_AD"], atol=5e-3)

    other = _trained(monkeypatch, mask_share=0, seed=0, learn_from_selection=True)
    both = pd.read_csv(other / "validation" / "predictions.csv").set_index("case_id").loc[table.index]
    assert not np.allclose(both["prob_AD"], table["prob_AD"], atol=1e-3)
    parts = cohort.splits[0]
    cases = sorted([*parts["train"], *parts["selection"]])
    rows = cohort.subjects.set_index("case_id").loc[cases]
    targets = (rows["diagnosis"] == "AD").to_numpy().astype(int)
    smoothing = Smoothing.of(6.0, (2.5, 2.5, 2.5))
    seen = np.stack([smoothing(images[case]).ravel() for case in cases]).astype(float)
    strength = read_checkpoint(other / "checkpoint_final.pth")["adnext"]["further"]["strength"]
    seen /= seen.shape[1] ** 0.5
    expected_ones = {}
    for train_rows, test_rows in inner_folds(targets, rows["subject_id"].to_numpy(), seed=0):
        direct = LogisticRegression(C=strength, class_weight="balanced", max_iter=20_000, tol=1e-9)
        shares = direct.fit(seen[train_rows], targets[train_rows]).predict_proba(seen[test_rows])[:, 1]
        expected_ones |= {cases[row]: share for row, share in zip(test_rows, shares, strict=True)}
    chosen = [case for case in parts["selection"] if case in expected_ones]
    assert chosen
    np.testing.assert_allclose(both.loc[chosen, "prob_AD"], [expected_ones[case] for case in chosen], atol=5e-3)


def _trained(monkeypatch, **settings) -> Path:
    """Fold 0, as nnU-Net trains it, without further networks of ours."""
    monkeypatch.setenv("ADNEXT_SETTINGS", json.dumps(settings))
    arguments = (DATASET, "3d_fullres", 0, "ADNeXtLinearTrainer", "ADNeXtPlans", False, torch.device("cpu"))
    trainer = get_trainer_from_args(*arguments)
    trainer.run_training()
    trainer.perform_actual_validation()
    return Path(trainer.output_folder)


class _OnGpu(torch.Tensor):
    """Which NumPy cannot read where it is."""

    def numpy(self, **_) -> np.ndarray:
        raise TypeError("can't convert cuda:0 device type tensor to numpy")

    def cpu(self, **_) -> torch.Tensor:
        return self.as_subclass(torch.Tensor)


def test_scans_that_a_gpu_keeps_are_read_from_there(toy: Workspace, monkeypatch) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", str(hook_dir()))
    arguments = (DATASET, "3d_fullres", 0, "ADNeXtLinearTrainer", "ADNeXtPlans", False, torch.device("cpu"))
    trainer = get_trainer_from_args(*arguments)
    trainer.initialize()
    cases = trainer.do_split()[0]
    expected = list(trainer._images(cases))
    batches = list(trainer._loader(list(cases)).batches(epoch=0))
    on_gpu = [batch._replace(images=batch.images.as_subclass(_OnGpu)) for batch in batches]
    monkeypatch.setattr(trainer, "_loader", lambda cases: SimpleNamespace(batches=lambda epoch: on_gpu))
    np.testing.assert_array_equal(list(trainer._images(cases)), expected)


def test_a_channel_that_is_not_there_is_one_line(toy: Workspace, capsys) -> None:
    words = ["301", "3d_fullres", "0", "-tr", "ADNeXtLinearTrainer", "-device", "cpu", "--set", 'channels=["T2"]']
    assert train.main(words) == 2
    assert "the dataset has no channel 'T2'" in capsys.readouterr().err


def test_the_recipe_of_a_plan_is_for_networks_and_what_a_command_says_is_refused() -> None:
    recipe = {"learning_rate": 5e-4, "warmup_epochs": 2, "augmentation": "anatomical", "class_weights": "none"}
    found = ADNeXtLinearTrainer.settings_with((recipe, "plans ADNeXtPlans"))
    assert found == LinearSettings(class_weights="none")
    for name, value in (("learning_rate", 1e-3), ("epochs", 5), ("protocol", "paper"), ("evaluate_with", "best")):
        with pytest.raises(SettingsError, match=f"without epochs and rates, so that {name} can only be"):
            ADNeXtLinearTrainer.settings_with(({name: value}, "--set"))
    for name, value in (
        ("smoothing_mm", -1),
        ("mask_share", 2),
        ("inner_folds", 1),
        ("image_weight", -1),
        ("image_weight", 0),
    ):
        with pytest.raises(SettingsError, match=name):
            ADNeXtLinearTrainer.settings_with(({name: value}, "--set"))
