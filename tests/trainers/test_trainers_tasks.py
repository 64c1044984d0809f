"""Three classes, and a number, through the commands; and both on people of another dataset."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import PRESET, Workspace, empty_workspace, toy_brain, write_scan
from scipy.special import softmax
from sklearn.metrics import mean_absolute_error, roc_auc_score

from adnext_plugin.cli import evaluate, import_dataset, plan_and_preprocess, predict, train

STAGES = ("CN", "MCI", "AD")
SETTINGS = {"learning_rate": 3e-3, "batch_size": 4, "augmentation": "none"}
TRAINER = ["-tr", "ADNeXtTrainer_T_Small", "-device", "cpu"]


def _write_people(source: Path, first: int, people: int) -> Path:
    """Brains with no hole, a bright one or a dark one, and a severity that falls with brightness."""
    lines = ["subject,path,stage,severity,age,sex"]
    for index in range(first, first + people):
        stage = index % 3
        brain = toy_brain(index, has_hole=stage > 0)
        if stage == 1:
            brain = np.where(brain == 30, 170, brain).astype(np.float32)
        write_scan(source / f"p{index:02d}.nii.gz", brain)
        lines.append(f"p{index:02d},p{index:02d}.nii.gz,{STAGES[stage]},{50 + (0, -10, 10)[stage]},{60 + index},M")
    table = source / f"from_{first}.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Datasets 311 (stages), 312 (severity), and 313 and 314, the same of other people; 315 is prepared otherwise."""
    workspace = empty_workspace(tmp_path_factory.mktemp("tasks"))
    own, others = _write_people(workspace.source, 0, 18), _write_people(workspace.source, 30, 9)
    stages = ["--target", "stage", "--label-map", *(f"{name}={name}" for name in STAGES)]
    severity = ["--regress", "severity"]
    preset = workspace.source / "preset.json"
    preset.write_text(json.dumps(PRESET))
    with pytest.MonkeyPatch.context() as monkeypatch:
        workspace.use(monkeypatch)
        for number, name, table, target in (
            ("311", "Stages", own, stages),
            ("312", "Severity", own, severity),
            ("313", "OtherStages", others, stages),
            ("314", "OtherSeverity", others, severity),
            ("315", "Coarse", others, stages),
        ):
            assert import_dataset.main([number, name, "--table", str(table), *target, "-np", "1"]) == 0
            options = ["--no-splits"] if table == others else []
            options += ["--spacing", "3", "3", "3"] if name == "Coarse" else []
            assert plan_and_preprocess.main(["-d", number, "-np", "1", "--preset", str(preset), *options]) == 0
    return workspace


@pytest.fixture(autouse=True)
def _use(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.use(monkeypatch)


def _train(dataset: str, epochs: int) -> None:
    settings = [word for key, value in {"epochs": epochs, **SETTINGS}.items() for word in ("--set", f"{key}={value}")]
    assert train.main([dataset, "3d_fullres", "cv", *TRAINER, *settings]) == 0


def _run(workspace: Workspace, dataset: str) -> Path:
    return workspace.results / dataset / "ADNeXtTrainer_T_Small__ADNeXtPlans__3d_fullres"


def test_three_classes_are_learned_and_each_is_reported(workspace, capsys) -> None:
    _train("311", epochs=12)
    run = _run(workspace, "Dataset311_Stages")
    metrics = json.loads((run / "crossval_results" / "metrics.json").read_text())
    table = pd.read_csv(run / "crossval_results" / "predictions.csv")
    by_fold = [roc_auc_score(rows["target"] == "MCI", rows["prob_MCI"]) for _, rows in table.groupby("fold")]
    assert metrics["scores"]["auc_of_MCI_mean_of_folds"]["value"] == pytest.approx(np.mean(by_fold), abs=1e-12)
    assert metrics["scores"]["auc_mean_of_folds"]["value"] > 0.8
    assert metrics["scores"]["balanced_accuracy"]["value"] > 0.6
    output = capsys.readouterr().out
    assert "recall of AD" in output and "age" in output

    _check_external_classes(workspace, run, capsys)


def _predict_raw(workspace: Workspace, run: Path, dataset: str) -> dict[str, dict]:
    """What `adnext_predict` says of a dataset's scans as they were imported, by case."""
    output = run / "new"
    source = str(workspace.raw / dataset)
    assert predict.main(["-i", source, "-o", str(output), "-m", str(run), "-device", "cpu", "-np", "1"]) == 0
    scans = json.loads((output / "predictions.json").read_text())["scans"]
    return {scan["case_id"]: scan for scan in scans}


def _check_external_classes(workspace: Workspace, run: Path, capsys) -> None:
    external = ["311", "-tr", "ADNeXtTrainer_T_Small", "--external", "313", "-device", "cpu", "--recalibrate"]
    assert evaluate.main([*external, "intercept"]) == 2
    assert "is for two classes; use temperature" in capsys.readouterr().err
    assert evaluate.main(external[:-1]) == 0
    folder = run / "external" / "Dataset313_OtherStages"
    metrics = json.loads((folder / "metrics.json").read_text())
    table = pd.read_csv(folder / "predictions.csv")
    assert len(table) == metrics["subjects"] == 9 and metrics["networks"] == 4
    np.testing.assert_allclose(table[[f"prob_{name}" for name in STAGES]].sum(axis=1), 1)
    called = np.array(STAGES)[table[[f"prob_{name}" for name in STAGES]].to_numpy().argmax(axis=1)]
    assert metrics["scores"]["accuracy"]["value"] == pytest.approx((called == table["target"]).mean())
    assert metrics["scores"]["auc"]["value"] > 0.8
    scans = _predict_raw(workspace, run, folder.name)
    by_fold = np.array([list(scans[case]["logits_by_fold"].values()) for case in table["case_id"]])
    probabilities = table[[f"prob_{name}" for name in STAGES]]
    temperatures = np.array(metrics["temperatures"])[None, :, None]
    np.testing.assert_allclose(softmax(by_fold / temperatures, axis=2).mean(axis=1), probabilities, atol=1e-5)
    of_scans = [[scans[case]["probabilities"][name] for name in STAGES] for case in table["case_id"]]
    np.testing.assert_allclose(of_scans, probabilities, atol=1e-5)
    capsys.readouterr()
    for other, message in (
        ("311", "show a scan that the networks were trained on"),
        ("314", "is for regression of severity, but the model for classification of CN, MCI, AD; give scans"),
        ("315", "prepared differently"),
    ):
        assert evaluate.main(["311", "-tr", "ADNeXtTrainer_T_Small", "--external", other]) == 2
        assert message in capsys.readouterr().err


def test_a_number_is_learned_in_its_own_unit(workspace, capsys) -> None:
    _train("312", epochs=12)
    run = _run(workspace, "Dataset312_Severity")
    metrics = json.loads((run / "crossval_results" / "metrics.json").read_text())
    table = pd.read_csv(run / "crossval_results" / "predictions.csv")
    mae = mean_absolute_error(table["target"], table["prediction"])
    assert metrics["scores"]["mae"]["value"] == pytest.approx(mae, abs=1e-9)
    # always saying the mean is 6.7 off
    assert mae < 5 and metrics["baselines"][0]["scores"]["mae"]["value"] > 6
    assert (run / "crossval_results" / "predicted.png").read_bytes().startswith(b"\x89PNG")
    assert "MAE" in capsys.readouterr().out
    arguments = ["312", "-tr", "ADNeXtTrainer_T_Small", "--external", "314", "-device", "cpu"]
    assert evaluate.main([*arguments, "--baseline", "age"]) == 0
    external = json.loads((run / "external" / "Dataset314_OtherSeverity" / "metrics.json").read_text())
    assert external["scores"]["mae"]["value"] < 5
    # fitted on the 18 people of 312, asked about the 9 of 314
    errors = {one["name"]: one["scores"]["mae"]["value"] for one in external["baselines"]}
    assert list(errors) == ["mean", "age+sex", "age", "voxels (L2, 6 mm)"]
    assert errors["mean"] == pytest.approx(20 / 3)
    gains = {one["name"]: one["gain_of_network"]["value"] for one in external["baselines"]}
    assert gains["mean"] == pytest.approx(20 / 3 - external["scores"]["mae"]["value"])
    assert "fitted where it was trained" in capsys.readouterr().out
    scans = _predict_raw(workspace, run, "Dataset314_OtherSeverity")
    table = pd.read_csv(run / "external" / "Dataset314_OtherSeverity" / "predictions.csv")
    found = [scans[case]["prediction"] for case in table["case_id"]]
    np.testing.assert_allclose(found, table["prediction"], rtol=1e-5)
