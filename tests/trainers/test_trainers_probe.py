"""Linear probes as trainers: the optimum of the last layer, and files as of any run."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Workspace
from sklearn.linear_model import LogisticRegression, RidgeCV

from adnext_plugin.cli import import_dataset, plan_and_preprocess, pretrain, train
from adnext_plugin.cohort import Cohort
from adnext_plugin.data.store import CaseStore
from adnext_plugin.evaluation.studies.linear_voxels import inner_folds
from adnext_plugin.networks.build import build_network
from adnext_plugin.networks.with_covariates import WithCovariates
from adnext_plugin.plan import NetworkSettings
from adnext_plugin.trainers.linear import REGIONS_OF_AD
from adnext_plugin.trainers.probe import ADNeXtProbeTrainer
from adnext_plugin.trainers.variants.anatomy import VOLUMES
from adnext_plugin.trainers.variants.small import OPTIONS
from adnext_plugin.training.weights import read_checkpoint

DATASET, TRAINER = "Dataset301_Toy", "ADNeXtProbeTrainer_T_Small"
BOTTLENECK = 'bottleneck=["age","sex"]'
TOLD = ["--set", 'covariates=["age","sex"]']


@pytest.fixture(scope="module")
def taught_once(toy_workspace: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder that was taught age and sex by the training people of fold 0."""
    results = tmp_path_factory.mktemp("taught")
    with pytest.MonkeyPatch.context() as monkeypatch:
        toy_workspace.with_results(results).use(monkeypatch)
        options = ["-device", "cpu", "--set", "epochs=2", "--set", "batch_size=4", "--set", "warmup_epochs=0"]
        assert pretrain.main(["301", "3d_fullres", "0", "-tr", "ADNeXtProxyTrainer_T_Small", *options]) == 0
    (found,) = results.rglob("checkpoint_final.pth")
    return found


@pytest.fixture
def weights(taught_once: Path, tmp_path: Path) -> Path:
    """A copy of it, to be lost."""
    return Path(shutil.copy(taught_once, tmp_path / "encoder.pth"))


def _train(weights: Path, *options: str, trainer: str = TRAINER) -> int:
    words = ["301", "3d_fullres", "0", "-tr", trainer, "-device", "cpu", "-pretrained_weights", str(weights)]
    return train.main([*words, *options])


def _run(toy: Workspace, trainer: str = TRAINER) -> Path:
    return toy.results / DATASET / f"{trainer}__ADNeXtPlans__3d_fullres"


def _predictions(run: Path) -> pd.DataFrame:
    return pd.read_csv(run / "fold_0" / "validation" / "predictions.csv").set_index("case_id")


def _cohort(toy: Workspace) -> tuple[Cohort, pd.DataFrame, dict[str, torch.Tensor]]:
    """Its people, with sex as a number, and their images (1, C, Z, Y, X)."""
    cohort = Cohort.open(toy.preprocessed / DATASET)
    people = cohort.subjects.set_index("case_id")
    people["sex"] = people["sex"].map({"F": 0.0, "M": 1.0})
    store = CaseStore(cohort.folder / "ADNeXtPlans_3d_fullres", list(people.index), (32, 32, 32))
    images = {case: torch.from_numpy(store[place].astype(np.float32))[None] for place, case in enumerate(store.cases)}
    return cohort, people, images


@torch.no_grad()
def _both_ways(network: torch.nn.Module, images: dict[str, torch.Tensor]) -> pd.DataFrame:
    """Means of features of scans and of their mirror images, as the network's answers are means of both."""
    pooled = {
        case: torch.stack([network.head.pool(network.encoder(one)) for one in (image, image.flip(-1))]).mean(0)[0]
        for case, image in images.items()
    }
    return pd.DataFrame.from_dict({case: values.double().numpy() for case, values in pooled.items()}, orient="index")


def _taught(weights: Path) -> torch.nn.Module:
    """The network of the pre-training, with a number for age and two for sex."""
    network = build_network(NetworkSettings(name="adnext_t", options=OPTIONS), 1, 3, (32, 32, 32))
    network.load_state_dict(read_checkpoint(weights)["network_weights"])
    return network.eval()


def _expected(
    cohort: Cohort, seen: pd.DataFrame, targets: pd.Series, weights: np.ndarray, strength: float
) -> tuple[LogisticRegression, pd.DataFrame]:
    """scikit-learn's own answer to what the trainer fits, and what it sees of everybody."""
    train_cases = cohort.splits[0]["train"]
    scaled = (seen - seen.loc[train_cases].mean()) / seen.loc[train_cases].std(ddof=0) * weights
    cases = sorted([*train_cases, *cohort.splits[0]["selection"]])
    model = LogisticRegression(C=strength, class_weight="balanced", tol=1e-10, max_iter=50_000)
    return model.fit(scaled.loc[cases], targets[cases]), scaled


@pytest.mark.parametrize("is_confined", [False, True])
def test_the_last_layer_is_the_optimum_that_scikit_learn_finds(toy: Workspace, weights: Path, is_confined) -> None:
    assert _train(weights, *TOLD, *(["--set", BOTTLENECK] if is_confined else [])) == 0
    (cohort, people, images), taught = _cohort(toy), _taught(weights)
    if is_confined:
        with torch.no_grad():
            answers = {case: taught(image)[0].double().numpy() for case, image in images.items()}
        seen, share = pd.DataFrame.from_dict(answers, orient="index"), 1.0
    else:
        seen = _both_ways(taught, images)
        share = 1 / seen.shape[1] ** 0.5
    share_of = np.concatenate([np.full(seen.shape[1], share), np.ones(2)])
    seen = pd.concat([seen, people[["age", "sex"]].set_axis(["told age", "told sex"], axis=1)], axis=1)
    seen.columns = seen.columns.map(str)
    targets = (people["diagnosis"] == "AD").astype(int)
    checkpoint = read_checkpoint(_run(toy) / "fold_0" / "checkpoint_final.pth")
    strength = checkpoint["adnext"]["further"]["strength"]
    model, scaled = _expected(cohort, seen, targets, share_of, strength)
    found = _predictions(_run(toy))
    held_out = cohort.splits[0]["val"]
    logits = (found["logit_AD"] - found["logit_CN"])[held_out]
    np.testing.assert_allclose(logits, model.decision_function(scaled.loc[held_out]), rtol=2e-3, atol=2e-3)
    # of people whom it was fitted on besides, others answer
    cases = sorted([*cohort.splits[0]["train"], *cohort.splits[0]["selection"]])
    ids = people.loc[cases, "subject_id"].to_numpy()
    checked = 0
    for train_rows, test_rows in inner_folds(targets[cases].to_numpy(), ids, seed=42):
        rows = scaled.loc[cases].iloc[train_rows]
        model.fit(rows, targets[rows.index])
        for case in set(scaled.loc[cases].index[test_rows]) & set(cohort.splits[0]["selection"]):
            logit = found.loc[case, "logit_AD"] - found.loc[case, "logit_CN"]
            assert logit == pytest.approx(model.decision_function(scaled.loc[[case]])[0], rel=2e-3, abs=2e-3)
            checked += 1
    assert checked
    # the encoder is as it came
    encoder = {name: value for name, value in taught.state_dict().items() if name.startswith("encoder.")}
    own = checkpoint["network_weights"]
    assert all(torch.equal(own[f"network.{name}"], value) for name, value in encoder.items())


def test_a_finished_probe_is_judged_and_used_without_the_weights_it_began_with(
    toy: Workspace, weights: Path, capsys
) -> None:
    assert _train(weights, *TOLD, "--set", BOTTLENECK) == 0
    assert "what the encoder tells of age, sex and 2 covariates" in capsys.readouterr().out
    run = _run(toy)
    before = _predictions(run)
    shutil.rmtree(run / "fold_0" / "validation")
    kept = weights.rename(weights.with_name("elsewhere.pth"))
    assert train.main(["301", "3d_fullres", "0", "-tr", TRAINER, "-device", "cpu", "--val"]) == 0
    pd.testing.assert_frame_equal(_predictions(run), before)
    kept.rename(weights)
    # it is the plan's own network, with another last layer
    network = WithCovariates(build_network(NetworkSettings(name="adnext_t", options=OPTIONS), 1, 2, (32,) * 3), 2, 2)
    checkpoint = read_checkpoint(run / "fold_0" / "checkpoint_final.pth")
    network.load_state_dict(checkpoint["network_weights"])
    (cohort, people, images), scale = _cohort(toy), checkpoint["adnext"]["covariate_scale"]
    told = (people[list(scale["names"])] - np.array(scale["means"])) / np.array(scale["deviations"])
    with torch.no_grad():
        for case in cohort.splits[0]["val"]:
            covariates = torch.tensor(told.loc[[case]].to_numpy(float)).float()
            outputs = network.eval()(images[case], covariates)[0]
            expected = before.loc[case, ["logit_CN", "logit_AD"]].astype(float)
            np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


def test_a_number_is_read_off_by_ridge_regression(
    toy_workspace: Workspace, weights: Path, tmp_path: Path, monkeypatch
) -> None:
    for name in ("raw", "preprocessed", "results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"nnUNet_{name}", str(tmp_path / name))
    table = toy_workspace.source / "table.csv"
    assert import_dataset.main(["302", "Age", "--table", str(table), "--regress", "age", "-np", "1"]) == 0
    preset = ["--preset", str(toy_workspace.source / "preset.json")]
    assert plan_and_preprocess.main(["-d", "302", "-np", "1", *preset]) == 0
    words = ["302", "3d_fullres", "0", "-tr", TRAINER, "-device", "cpu", "-pretrained_weights", str(weights)]
    assert train.main([*words, "--other-people", "a test"]) == 0
    (run,) = tmp_path.glob(f"results/Dataset302_Age/{TRAINER}*/fold_0")
    found = pd.read_csv(run / "validation" / "predictions.csv").set_index("case_id")
    cohort = Cohort.open(tmp_path / "preprocessed" / "Dataset302_Age")
    store = CaseStore(cohort.folder / "ADNeXtPlans_3d_fullres", list(cohort.subjects["case_id"]), (32, 32, 32))
    images = {case: torch.from_numpy(store[place].astype(np.float32))[None] for place, case in enumerate(store.cases)}
    seen, ages = _both_ways(_taught(weights), images), cohort.subjects.set_index("case_id")["age"].astype(float)
    train_cases = cohort.splits[0]["train"]
    scaled = (seen - seen.loc[train_cases].mean()) / seen.loc[train_cases].std(ddof=0) / seen.shape[1] ** 0.5
    cases = sorted([*train_cases, *cohort.splits[0]["selection"]])
    strength = read_checkpoint(run / "checkpoint_final.pth")["adnext"]["further"]["strength"]
    # outputs are in deviations of the training people, as penalties are
    deviation = ages[train_cases].std(ddof=0)
    model = RidgeCV(alphas=[1 / strength]).fit(scaled.loc[cases], ages[cases] / deviation)
    held_out = cohort.splits[0]["val"]
    np.testing.assert_allclose(
        found.loc[held_out, "prediction"], model.predict(scaled.loc[held_out]) * deviation, rtol=1e-3
    )


def test_what_cannot_be_probed_is_one_line(toy: Workspace, weights: Path, tmp_path: Path, capsys) -> None:
    def says(code: int) -> str:
        assert code == 2
        return capsys.readouterr().err

    assert "name its checkpoint" in says(train.main(["301", "3d_fullres", "0", "-tr", TRAINER, "-device", "cpu"]))
    assert "tells nothing of 'ages'; did you mean 'age'" in says(_train(weights, "--set", 'bottleneck=["ages"]'))
    checkpoint = torch.load(weights, weights_only=True)
    plain = tmp_path / "plain.pth"
    torch.save({"network_weights": checkpoint["network_weights"]}, plain)
    untaught = ["--other-people", "a test", "--set", BOTTLENECK]
    assert "was not taught by the objective proxy" in says(_train(plain, *untaught))
    assert "without epochs and rates, so that learning_rate" in says(_train(weights, "--set", "learning_rate=1e-3"))


@pytest.mark.parametrize("is_confined", [False, True])
def test_a_network_with_two_last_layers_is_refused(
    toy: Workspace, weights: Path, tmp_path: Path, install, capsys, is_confined
) -> None:
    code = (
        "from adnext_plugin.plan import NetworkSettings\n"
        "from adnext_plugin.trainers.probe import ADNeXtProbeTrainer\n"
        "class ProbeOfNiT(ADNeXtProbeTrainer):\n"
        "    '''Of a network with two heads.'''\n"
        "    network_settings = NetworkSettings(name='nit')\n"
        "    takes_network_options = False\n"
    )
    install("two_heads", code, {"adnext.trainers": {"ProbeOfNiT": "two_heads:ProbeOfNiT"}})
    network = build_network(NetworkSettings(name="nit"), 1, 3, (32, 32, 32))
    block = torch.load(weights, weights_only=True)["adnext"]  # as if it had been taught age and sex
    torch.save({"network_weights": network.state_dict(), "adnext": block}, tmp_path / "nit.pth")
    confined = ["--set", BOTTLENECK] if is_confined else []
    assert _train(tmp_path / "nit.pth", "--other-people", "a test", *confined, trainer="ProbeOfNiT") == 2
    assert "network nit does not end in one linear layer" in capsys.readouterr().err


def test_anatomy_is_taught_and_then_read_off_by_the_names_of_trainers(
    toy_workspace: Workspace, tmp_path: Path, monkeypatch, capsys
) -> None:
    toy_workspace.with_results(tmp_path / "results").use(monkeypatch)
    shutil.copytree(toy_workspace.preprocessed / DATASET, tmp_path / "preprocessed" / DATASET)
    monkeypatch.setenv("nnUNet_preprocessed", str(tmp_path / "preprocessed"))
    words = ["301", "3d_fullres", "0", "-device", "cpu"]
    short = ["--set", "epochs=1", "--set", "warmup_epochs=0", "--set", "batch_size=4"]
    teach = [*words, "-tr", "ADNeXtProxyTrainer_T_Anatomy", *short]
    assert pretrain.main(teach) == 2
    assert "run adnext_regions" in capsys.readouterr().err
    people = Cohort.open(tmp_path / "preprocessed" / DATASET).subjects
    volumes = {name: np.random.default_rng(number).uniform(1, 2, len(people)) for number, name in enumerate(VOLUMES)}
    people[["case_id"]].assign(**volumes).to_csv(tmp_path / "preprocessed" / DATASET / "regions.csv", index=False)
    assert pretrain.main(teach) == 0
    (weights,) = tmp_path.rglob("ADNeXtProxyTrainer_T_Anatomy__*/fold_0/checkpoint_final.pth")
    assert train.main([*words, "-tr", "ADNeXtTrainer_T_Anatomy", "-pretrained_weights", str(weights)]) == 0
    told = " and ".join([", ".join(REGIONS_OF_AD), "2 covariates"])
    assert f"what the encoder tells of {told}" in capsys.readouterr().out


def test_what_a_probe_begins_with_takes_no_memory_of_a_gpu(tmp_path: Path) -> None:
    torch.save({"network_weights": {"weight": torch.ones(2)}}, tmp_path / "first.pth")
    trainer = ADNeXtProbeTrainer.__new__(ADNeXtProbeTrainer)
    trainer.device, trainer._first_weights = torch.device("meta"), lambda: tmp_path / "first.pth"
    assert trainer._first["network_weights"]["weight"].is_cpu
