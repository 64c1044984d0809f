"""`adnext_probe` as a user runs it, on toy brains of two cohorts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Workspace, empty_workspace, toy_brain, write_scan

from adnext_plugin.cli import import_dataset, plan_and_preprocess, pretrain, probe
from adnext_plugin.files import read_json

PRESET = {
    "preprocessing": {"input_size_voxels": [32] * 3, "spacing_mm": [2.5] * 3},
    "pretraining": {"epochs": 1, "warmup_epochs": 0, "batch_size": 4},
}
TRAINER = "ADNeXtProxyTrainer_T_Small"
COHORTS = {"Probed": (311, range(24)), "Others": (312, range(100, 108))}


@pytest.fixture(scope="module")
def two_cohorts(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """24 people to probe, five of them with two scans, and 8 others whom an encoder was trained on."""
    workspace = empty_workspace(tmp_path_factory.mktemp("probe"))
    preset = workspace.source / "preset.json"
    preset.write_text(json.dumps(PRESET))
    with pytest.MonkeyPatch.context() as monkeypatch:
        workspace.use(monkeypatch)
        for name, (number, people) in COHORTS.items():
            lines = ["subject,session,path,diagnosis,age,sex"]
            visits = [(person, 0) for person in people] + [(person, 12) for person in people[:5] if number == 311]
            for person, month in visits:
                path, group = f"p{person}_{month}.nii.gz", ("CN", "AD")[person % 2]
                write_scan(workspace.source / path, toy_brain(person + 1000 * month, has_hole=group == "AD"))
                lines.append(f"p{person:03d},M{month:02d},{path},{group},{40 + person % 50},{'MF'[person // 2 % 2]}")
            table = workspace.source / f"{name}.csv"
            table.write_text("\n".join(lines) + "\n")
            arguments = [str(number), name, "--table", str(table), "--target", "diagnosis", "-np", "1"]
            assert import_dataset.main([*arguments, "--label-map", "CN=CN", "AD=AD"]) == 0
            assert plan_and_preprocess.main(["-d", str(number), "-np", "1", "--preset", str(preset)]) == 0
        for number in (311, 312):
            assert pretrain.main([str(number), "3d_fullres", "-tr", TRAINER, "-device", "cpu"]) == 0
    return workspace


@pytest.fixture
def cohorts(two_cohorts: Workspace, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Those people, in use."""
    two_cohorts.use(monkeypatch)
    return replace(two_cohorts)


def _weights(workspace: Workspace, dataset: str) -> str:
    run = workspace.results / dataset / f"{TRAINER}__ADNeXtPlans__3d_fullres"
    return str(run / "fold_all" / "checkpoint_final.pth")


def test_an_encoder_is_probed_beside_a_random_one_tissues_and_columns(cohorts, tmp_path: Path, capsys) -> None:
    weights, output = _weights(cohorts, "Dataset312_Others"), tmp_path / "probe.json"
    arguments = ["311", "-tr", "ADNeXtTrainer_T_Small", "-pretrained_weights", weights, "--resamples", "200"]
    assert probe.main([*arguments, "-o", str(output), "-device", "cpu"]) == 0
    found = read_json(output)
    assert (found["network"], found["features"], found["dataset"]) == ("adnext_t", 128, "Dataset311_Probed")
    columns = {one["column"]: one for one in found["columns"]}
    assert list(columns) == ["diagnosis", "age", "sex"]
    models = {"encoder", "random encoder", "tissue volumes"}
    assert set(columns["diagnosis"]["models"]) == models | {"age+sex", "majority"}
    assert set(columns["age"]["models"]) == models | {"sex", "mean"}
    # holes in the brain are dark tissue
    assert columns["diagnosis"]["models"]["tissue volumes"]["value"] > 0.9
    assert columns["diagnosis"]["gains"]["majority"]["value"] == pytest.approx(
        columns["diagnosis"]["models"]["encoder"]["value"] - 0.5
    )
    assert {one["people"] for one in found["reliability"].values()} == {5} and set(found["reliability"]) == models
    printed = capsys.readouterr().out
    assert "dropped (head." in printed and "the encoder's gain" in printed
    assert "test-retest of 5 people, random encoder: median ICC" in printed


def test_without_weights_a_random_encoder_is_probed_the_same_under_one_seed(cohorts, tmp_path: Path) -> None:
    arguments = ["311", "-tr", "ADNeXtTrainer_T_Small", "--columns", "diagnosis", "--resamples", "100"]
    found = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        output = tmp_path / f"{name}.json"
        assert probe.main([*arguments, "--seed", str(seed), "-o", str(output), "-device", "cpu"]) == 0
        found.append(read_json(output)["reliability"]["encoder"]["median_icc"])
    assert found[0] == found[1] != found[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--columns", "agee"], "no column 'agee'; did you mean 'age'?"),
        (["--baseline", "age,nwbv"], "no column 'nwbv'"),
        (["-tr", "nnUNetTrainer"], "nnUNetTrainer is nnU-Net's own and has no encoder to probe"),
        (["-tr", "ADNeXtTrainer_B", "-pretrained_weights", "OTHERS"], "use weights of the same network"),
        (["-pretrained_weights", "OWN"], "features of people whom an encoder was trained on look better"),
        (["-pretrained_weights", "fold_{fold}/x.pth"], "one encoder is probed at a time"),
        (["-pretrained_weights", "nowhere.pth"], "nowhere.pth does not exist"),
        (["--resamples", "5"], "--resamples must be at least 100"),
    ],
)
def test_what_cannot_be_probed_is_one_line(cohorts, capsys, arguments: list[str], message: str) -> None:
    named = {"OTHERS": _weights(cohorts, "Dataset312_Others"), "OWN": _weights(cohorts, "Dataset311_Probed")}
    arguments = [named.get(word, word) for word in arguments]
    trainer = [] if "-tr" in arguments else ["-tr", "ADNeXtTrainer_T_Small"]
    assert probe.main(["311", *trainer, *arguments, "-device", "cpu"]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and message in lines[0]
