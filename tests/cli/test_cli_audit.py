"""`adnext_audit`, the gate in `adnext_train`, and runs on permuted labels, through the commands."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

from adnext_plugin.cli import audit, train
from adnext_plugin.cohort import Cohort
from adnext_plugin.evaluation.subjects.fold_files import read_folds
from adnext_plugin.run_folder import RunFolder
from adnext_plugin.splits.folds import ensure_splits
from adnext_plugin.stamps import OTHER_PEOPLE, PEOPLE_NOT_KNOWN
from adnext_plugin.subjects import permute_targets, read_dataset

DATASET = "Dataset301_Toy"
RUN = Path(DATASET) / "ADNeXtTrainer_T__ADNeXtPlans__3d_fullres"
TRAIN = ["301", "3d_fullres", "0", "-tr", "ADNeXtTrainer_T", "-device", "cpu", "--set", "epochs=1"]


@pytest.fixture
def own_copy(toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The preprocessed toy dataset in a folder of its own."""
    preprocessed = tmp_path / "preprocessed"
    shutil.copytree(toy.preprocessed, preprocessed)
    monkeypatch.setenv("nnUNet_preprocessed", str(preprocessed))
    return preprocessed / DATASET


def _separate_the_repeated_subject(folder: Path) -> None:
    """Give the second session of sub00 an id and a fold of its own, and the first one's image."""
    table = pd.read_csv(folder / "subjects.csv", dtype=str, keep_default_na=False)
    first, second = table.index[table["subject_id"] == "sub00"]
    table.loc[second, "subject_id"] = "somebody_else"
    table.to_csv(folder / "subjects.csv", index=False)
    images = folder / "ADNeXtPlans_3d_fullres"
    for suffix in (".b2nd", ".pkl"):
        names = [f"{table.loc[row, 'case_id']}{suffix}" for row in (first, second)]
        shutil.copy(images / names[0], images / names[1])
    (folder / "splits_final.json").unlink(missing_ok=True)


def test_a_clean_dataset_passes(toy, tmp_path, capsys) -> None:
    report = tmp_path / "audit.json"
    assert audit.main(["301", "-o", str(report)]) == 0
    assert "a person on both sides of a fold: none" in capsys.readouterr().out
    assert [check["leaks"] for check in json.loads(report.read_text())["checks"]] == [[], [], []]


def test_training_stops_at_a_leak_unless_told_why_not_and_says_so_in_its_results(own_copy, toy, capsys) -> None:
    _separate_the_repeated_subject(own_copy)
    assert audit.main(["301"]) == 1
    assert "look like one person (1.00)" in capsys.readouterr().out
    assert train.main(TRAIN) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 1 and "--skip-audit REASON" in errors[0]
    assert not list(toy.results.rglob("*.pth"))
    assert train.main([*TRAIN, "--skip-audit", " "]) == 2
    assert train.main([*TRAIN, "--skip-audit", "twins"]) == 0
    summary = json.loads((toy.results / RUN / "fold_0" / "validation" / "summary.json").read_text())
    assert summary["warning"] == "AUDIT SKIPPED"


def test_a_fold_file_with_a_subject_on_both_sides_is_a_finding(own_copy, capsys) -> None:
    task, subjects = read_dataset(own_copy)
    splits = ensure_splits(own_copy, subjects, task)
    twice = subjects.loc[subjects["subject_id"] == "sub00", "case_id"].tolist()
    for part in ("train", "selection", "val"):
        splits[0][part] = [case for case in splits[0][part] if case not in twice]
    splits[0]["train"].append(twice[0])
    splits[0]["val"].append(twice[1])
    (own_copy / "splits_final.json").write_text(json.dumps(splits))
    assert audit.main(["301"]) == 1
    assert "'sub00' is in both" in capsys.readouterr().out


def test_permuted_runs_learn_and_hold_out_the_same_dealt_labels_apart_from_results(toy) -> None:
    for fold in "0123":
        arguments = ["301", "3d_fullres", fold, *TRAIN[3:], "--permute", "5", "--protocol", "paper"]
        assert train.main(arguments) == 0
    assert not (toy.results / DATASET).exists()
    folder = toy.preprocessed / DATASET
    task, subjects = read_dataset(folder)
    run = RunFolder(toy.results / "permuted_5" / RUN)
    files = read_folds(run, Cohort.open(folder), "")
    assert "PERMUTED" in files.warning and "OPTIMISTIC" in files.warning
    dealt = permute_targets(subjects, task, 5)
    pd.testing.assert_frame_equal(files.cohort.subjects, dealt)
    by_subject = dealt.groupby("subject_id")[task.target]
    assert (by_subject.nunique() == 1).all()
    before = subjects.groupby("subject_id")[task.target].first()
    assert sorted(by_subject.first()) == sorted(before)
    assert 0 < (by_subject.first() == before).mean() < 1


def test_checkpoints_whose_scales_are_not_of_the_training_part_are_found(toy, capsys) -> None:
    assert train.main([*TRAIN, "--set", 'covariates=["age"]']) == 0
    arguments = ["301", "-tr", "ADNeXtTrainer_T"]
    assert audit.main(arguments) == 0
    assert "statistics from outside the training part: none  (2 numbers of 1 folds)" in capsys.readouterr().out
    path = toy.results / RUN / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["adnext"]["covariate_scale"]["means"] = (67.5,)
    torch.save(checkpoint, path)
    assert audit.main(arguments) == 1
    assert "mean of age is 67.5 in the checkpoint" in capsys.readouterr().out


def test_weights_that_have_seen_held_out_people_are_refused_and_found_later(toy, capsys) -> None:
    assert train.main(TRAIN) == 0
    weights = str(toy.results / RUN / "fold_0" / "checkpoint_final.pth")
    assert audit.main(["301", "-tr", "ADNeXtTrainer_T"]) == 0
    assert "a held-out person seen by fold_0: none" in capsys.readouterr().out
    # fold 0's network was trained on everybody whom fold 1 holds out
    other = [*TRAIN[:2], "1", *TRAIN[3:], "-pretrained_weights", weights]
    assert train.main(other) == 2
    assert "is held out and was seen by fold_0/checkpoint_final.pth (same id)" in capsys.readouterr().err
    assert not (toy.results / RUN / "fold_1").exists()
    assert train.main([*other, "--skip-audit", "to see it found"]) == 0
    capsys.readouterr()
    assert audit.main(["301", "-tr", "ADNeXtTrainer_T"]) == 1
    output = capsys.readouterr().out
    assert "a held-out person seen by fold_0: none" in output and "a held-out person seen by fold_1: FOUND" in output


def _spoilt(weights: Path, **changes: object) -> str:
    """A copy of weights that say something else of whom they have seen."""
    checkpoint = torch.load(weights, weights_only=True)
    corpus = checkpoint["adnext"].pop("pretraining_data")
    if changes:
        checkpoint["adnext"]["pretraining_data"] = {**corpus, **changes}
    torch.save(checkpoint, weights.with_name("spoilt.pth"))
    return str(weights.with_name("spoilt.pth"))


def test_equal_ids_of_other_people_and_weights_that_say_nothing_are_stamped(toy, tmp_path, capsys) -> None:
    assert train.main(TRAIN) == 0
    weights = tmp_path / "first.pth"
    (toy.results / RUN / "fold_0" / "checkpoint_final.pth").rename(weights)
    other = [*TRAIN[:2], "1", *TRAIN[3:], "-pretrained_weights"]
    summary = toy.results / RUN / "fold_1" / "validation" / "summary.json"
    reason = ["--other-people", "another hospital"]
    assert train.main([*other, str(weights), *reason]) == 2  # the images are the same
    assert "(same image)" in capsys.readouterr().err
    assert train.main([*other, _spoilt(weights, images=[])]) == 2
    assert "(same id)" in (error := capsys.readouterr().err) and "--other-people REASON" in error
    assert train.main([*other, _spoilt(weights, images=[]), *reason]) == 0
    assert json.loads(summary.read_text())["warning"] == OTHER_PEOPLE
    capsys.readouterr()
    assert audit.main(["301", "-tr", "ADNeXtTrainer_T"]) == 0
    shutil.rmtree(toy.results / RUN / "fold_1")
    assert train.main([*other, _spoilt(weights)]) == 0
    assert "seen by" in (said := capsys.readouterr().out) and ": not known (nothing: it does not say" in said
    assert json.loads(summary.read_text())["warning"] == PEOPLE_NOT_KNOWN
    assert audit.main(["301", "-tr", "ADNeXtTrainer_T"]) == 0
    assert "a held-out person seen by fold_1: not known" in capsys.readouterr().out


def test_weights_can_be_those_of_the_same_fold(toy, tmp_path, capsys) -> None:
    for fold in "01":
        assert train.main([*TRAIN[:2], fold, *TRAIN[3:]]) == 0
        (toy.results / RUN / f"fold_{fold}" / "checkpoint_final.pth").rename(tmp_path / f"fold_{fold}.pth")
    of_each_fold = ["-pretrained_weights", str(tmp_path / "fold_{fold}.pth")]
    capsys.readouterr()
    assert train.main([*TRAIN[:2], "1", *TRAIN[3:], *of_each_fold]) == 0
    assert "Weights from fold_1.pth" in capsys.readouterr().out
    assert audit.main(["301", "-tr", "ADNeXtTrainer_T"]) == 0
    for fold in "23":
        shutil.copy(tmp_path / "fold_0.pth", tmp_path / f"fold_{fold}.pth")
    capsys.readouterr()
    assert audit.main(["301", *of_each_fold]) == 1
    output = capsys.readouterr().out
    for fold, found in enumerate(["none", "none", "FOUND", "FOUND"]):
        assert f"/fold_{fold}.pth: {found}" in output
    (tmp_path / "fold_1.pth").unlink()
    assert train.main([*TRAIN[:2], "cv", *TRAIN[3:], *of_each_fold]) == 2
    assert f"{tmp_path / 'fold_1.pth'} does not exist" in capsys.readouterr().err
