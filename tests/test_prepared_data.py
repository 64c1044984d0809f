"""A run belongs to the data that it was trained on: no command mixes it with others, or writes over its results."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import blosc2
import numpy as np
import pandas as pd
import pytest
from conftest import PRESET, Trained

from adnext_plugin.cli import audit, compare, evaluate, explain, export, plan_and_preprocess, report, train
from adnext_plugin.errors import OtherDataError
from adnext_plugin.prepared_data import CACHE_FILE, PreparedData, digests_of_volumes, refuse_other_data
from adnext_plugin.project_key import KEY_FILE
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.trained_on import differences, read_trained_on

DATASET = "Dataset301_Toy"
IMAGES = "ADNeXtPlans_3d_fullres"
RUN = ["301", "-tr", "ADNeXtTrainer_T"]
TRAIN = ["301", "3d_fullres", "0", "-tr", "ADNeXtTrainer_T", "-device", "cpu"]
COMMANDS: dict[str, Callable[[], int]] = {
    "evaluate": lambda: evaluate.main([*RUN, "--resamples", "100"]),
    "evaluate --baseline": lambda: evaluate.main([*RUN, "--baseline", "age", "--resamples", "100"]),
    "evaluate --probe": lambda: evaluate.main([*RUN, "--probe", "sex", "--resamples", "100"]),
    "report": lambda: report.main(RUN),
    "explain": lambda: explain.main([*RUN, "-m", "grad_cam", "--checks", "0", "-device", "cpu"]),
    "explain --feature-diversity": lambda: explain.main([*RUN, "--feature-diversity", "-device", "cpu"]),
    "train --val": lambda: train.main([*TRAIN, "--val"]),
    "train --c": lambda: train.main([*TRAIN, "--c", "--set", "epochs=2"]),
    "train anew": lambda: train.main([*TRAIN, "--set", "epochs=1"]),
    "train cv --c": lambda: train.main(["301", "3d_fullres", "cv", *TRAIN[3:], "--c"]),
    "train cv --seeds": lambda: train.main(["301", "3d_fullres", "cv", *TRAIN[3:], "--c", "--seeds", "2"]),
}


@pytest.fixture
def finished(trained_once: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trained:
    """A copy of a finished run, and of the preprocessed data that it was trained on, in use."""
    theirs = trained_once.workspace
    workspace = replace(theirs, results=tmp_path / "results", preprocessed=tmp_path / "preprocessed")
    shutil.copytree(theirs.results, workspace.results, ignore=shutil.ignore_patterns("checkpoint_latest.pth"))
    shutil.copytree(theirs.preprocessed, workspace.preprocessed)
    workspace.use(monkeypatch)
    return Trained.beneath(workspace)


def _files(folder: Path) -> dict[str, str]:
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()}


def _refused(finished: Trained, names: list[str], expected: str, capsys: pytest.CaptureFixture) -> None:
    before = _files(finished.workspace.results)
    for name in names:
        capsys.readouterr()
        assert COMMANDS[name]() == 2, name
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and "was trained on other data than Dataset301_Toy holds now" in lines[0], (name, lines)
        assert expected in lines[0] and "another name (-p NAME)" in lines[0], (name, lines)
        assert _files(finished.workspace.results) == before, name


def _change_label(folder: Path) -> str:
    table = pd.read_csv(folder / "subjects.csv", dtype=str, keep_default_na=False)
    row = table.index[table["subject_id"] == "sub05"][0]
    table.loc[row, "diagnosis"] = "CN" if table.loc[row, "diagnosis"] == "AD" else "AD"
    table.to_csv(folder / "subjects.csv", index=False)
    return str(table.loc[row, "case_id"])


def test_planning_again_with_another_spacing_stops_every_command_on_the_run(finished, capsys) -> None:
    preset = finished.workspace.results.parent / "coarse.json"
    settings = {**PRESET, "preprocessing": {**PRESET["preprocessing"], "spacing_mm": [4.0, 4.0, 4.0]}}
    preset.write_text(json.dumps(settings))
    assert plan_and_preprocess.main(["-d", "301", "-np", "1", "--preset", str(preset)]) == 0
    expected = "spacing_mm was [2.5, 2.5, 2.5] and is [4.0, 4.0, 4.0]; 17 of 17 prepared volumes differ, the first is"
    _refused(finished, list(COMMANDS), expected, capsys)
    assert audit.main(["301", "-tr", "ADNeXtTrainer_T"]) == 1
    assert "spacing_mm was" in capsys.readouterr().out
    bundle = finished.workspace.results.parent / "other.zip"
    assert export.main([str(finished.run), "-o", str(bundle), "-device", "cpu"]) == 2
    assert "spacing_mm was" in capsys.readouterr().err and not bundle.exists()

    # under another name both live, and the first goes on once its own data are back
    preset.write_text(json.dumps(PRESET))
    assert plan_and_preprocess.main(["-d", "301", "-np", "1", "--preset", str(preset)]) == 0
    assert evaluate.main([*RUN, "--resamples", "100"]) == 0


def test_a_changed_label_is_named_and_stops_every_command(finished, capsys) -> None:
    case = _change_label(finished.workspace.preprocessed / DATASET)
    expected = f"1 of 17 labels (diagnosis) differ, the first is '{case}'"
    _refused(finished, ["evaluate", "train --val", "train --c", "train anew", "train cv --c"], expected, capsys)
    twin = finished.run.with_name("Twin__ADNeXtPlans__3d_fullres")
    shutil.copytree(finished.run, twin)
    assert compare.main(["301", "ADNeXtTrainer_T", "Twin"]) == 2
    assert expected in capsys.readouterr().err


def test_changed_folds_stop_every_command(finished, capsys) -> None:
    path = finished.workspace.preprocessed / DATASET / "splits_final.json"
    splits = json.loads(path.read_text())
    path.write_text(json.dumps(splits[1:] + splits[:1]))
    _refused(finished, ["evaluate", "train --val", "train --c"], "of 17 cases are in another part of the fold", capsys)
    path.write_text(json.dumps(splits))
    assert COMMANDS["evaluate"]() == 0
    moved = splits[0]["train"].pop()
    splits[0]["selection"].append(moved)
    path.write_text(json.dumps(splits))
    expected = f"1 of 17 cases are in another part of the fold, the first is '{moved}'"
    _refused(finished, ["evaluate", "train --val"], expected, capsys)


def test_a_rewritten_volume_stops_every_command_and_a_copied_one_does_not(finished, capsys) -> None:
    images = finished.workspace.preprocessed / DATASET / IMAGES
    path = sorted(images.glob("*.b2nd"))[3]
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    assert COMMANDS["evaluate"]() == 0
    volume = blosc2.open(str(path), mode="r")[:]
    volume[0, 16, 16, 16] += np.float16(1)
    path.write_bytes(blosc2.asarray(np.ascontiguousarray(volume)).to_cframe())
    expected = f"1 of 17 prepared volumes differ, the first is '{path.stem}'"
    _refused(finished, ["evaluate", "train --val", "train --c"], expected, capsys)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            lambda table: table.assign(age=table["age"].where(table["subject_id"] != "sub03", "99")),
            "differ in age, sex",
        ),
        (
            lambda table: table.assign(subject_id=table["subject_id"].replace("sub07", "somebody")),
            "1 of 17 cases are of another subject",
        ),
    ],
)
def test_changed_covariates_and_subjects_are_noticed(finished, change, expected, capsys) -> None:
    path = finished.workspace.preprocessed / DATASET / "subjects.csv"
    change(pd.read_csv(path, dtype=str, keep_default_na=False)).to_csv(path, index=False)
    _refused(finished, ["evaluate", "train --val"], expected, capsys)


def test_results_are_not_written_over_by_those_of_other_columns(finished, capsys) -> None:
    for fold in RunFolder(finished.run).folds():  # as if the network had been told nothing
        content = json.loads(fold.trained_on_file.read_text())
        fold.trained_on_file.write_text(json.dumps({**content, "covariates": []}))
    path = finished.workspace.preprocessed / DATASET / "subjects.csv"
    table = pd.read_csv(path, dtype=str, keep_default_na=False)
    table.assign(age="70").to_csv(path, index=False)
    before = _files(finished.run)
    assert COMMANDS["evaluate"]() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds results on other data" in line and "differ in age, sex" in line and "move the folder away" in line
    assert _files(finished.run) == before
    (finished.run / "crossval_results").rename(finished.workspace.results / "earlier")
    assert COMMANDS["evaluate"]() == 0


def test_of_a_run_from_before_it_is_said_once_that_nothing_could_be_checked(finished, capsys) -> None:
    run = RunFolder(finished.run)
    for fold in run.folds():
        fold.trained_on_file.unlink()
    assert COMMANDS["evaluate"]() == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "could not be checked" in line]
    assert len(lines) == 1 and lines[0].startswith("warning: ") and "fold_0" in lines[0]
    assert COMMANDS["train --val"]() == 0
    assert capsys.readouterr().out.count("could not be checked") == 1
    assert not run.fold(0).trained_on_file.exists()  # nobody knows, so nobody says so


def test_the_record_names_nobody_and_no_label(trained) -> None:
    text = RunFolder(trained.run).fold(0).trained_on_file.read_text()
    record = read_trained_on(RunFolder(trained.run).fold(0).trained_on_file)
    assert json.loads(text)["format"] == "adnext_trained_on" and json.loads(text)["format_version"] == 1
    labels = {one.label for one in record.cases.values()}
    assert len(labels) == 17  # each made with its case, so that nobody sees who is alike
    assert record.covariates == ("age", "sex") and record.fold == 0
    splits = json.loads((trained.workspace.preprocessed / DATASET / "splits_final.json").read_text())
    for part in ("train", "selection", "val"):
        assert sorted(case for case, one in record.cases.items() if one.part == part) == sorted(splits[0][part])


def test_without_the_projects_key_all_but_people_and_labels_is_compared(finished, capsys) -> None:
    (finished.workspace.preprocessed / KEY_FILE).unlink()
    _change_label(finished.workspace.preprocessed / DATASET)
    run = RunFolder(finished.run)
    data = PreparedData.open(finished.workspace.preprocessed / DATASET, "ADNeXtPlans", "3d_fullres")
    told: list[str] = []
    refuse_other_data(run.folds(), data, told.append)
    assert len(told) == 1 and "could not compare subjects and labels" in told[0]
    images = finished.workspace.preprocessed / DATASET / IMAGES
    first = sorted(images.glob("*.b2nd"))[0]
    first.write_bytes(first.read_bytes() + b"\0")
    data = PreparedData.open(finished.workspace.preprocessed / DATASET, "ADNeXtPlans", "3d_fullres")
    with pytest.raises(OtherDataError, match="1 of 17 prepared volumes differ"):
        refuse_other_data(run.folds(), data, told.append)


def test_cases_that_come_or_go_are_counted(finished) -> None:
    then = read_trained_on(RunFolder(finished.run).fold(0).trained_on_file)
    first, *_, last = sorted(then.cases)
    fewer = replace(then, cases={case: one for case, one in then.cases.items() if case not in (first, last)})
    assert differences(then, fewer) == (f"2 of 17 cases are gone, the first is '{first}'",)
    assert differences(fewer, then) == (f"2 of 17 cases are new, the first is '{first}'",)
    assert differences(then, then) == ()


def test_volumes_are_read_once_and_again_where_the_file_is_another(tmp_path, monkeypatch) -> None:
    images, cache = tmp_path / "images", tmp_path / CACHE_FILE
    images.mkdir()
    for name in "ab":
        (images / f"{name}.b2nd").write_bytes(name.encode() * 100)
    found = digests_of_volumes(images, ["a", "b", "absent"], cache)
    assert found == {name: sha256(name.encode() * 100).hexdigest()[:32] for name in "ab"}
    stored = json.loads(cache.read_text())
    stored["images"]["a"][2] = "from the cache"
    cache.write_text(json.dumps(stored))
    assert digests_of_volumes(images, "ab", cache) == {**found, "a": "from the cache"}
    os.utime(images / "a.b2nd", ns=(1, 1))
    assert digests_of_volumes(images, "ab", cache) == found
    for damage in ("{", "[]", '{"images": {"a": 3}}', '{"images": {"a": [1]}}'):
        cache.write_text(damage)
        assert digests_of_volumes(images, "ab", cache) == found
