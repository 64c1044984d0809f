"""A cohort is opened in one place: task, people and folds that fit each other."""

import json
import shutil

import pandas as pd
import pytest

from adnext_plugin.cohort import Cohort
from adnext_plugin.errors import AdnextError, PathsError, SplitError, TableError
from adnext_plugin.plan import Plan, configuration_of, plan_of, plans_with, read_plan
from adnext_plugin.splits.folds import splits_hash
from adnext_plugin.subjects import permute_targets


@pytest.fixture
def folder(toy, tmp_path):
    """The toy dataset's tables, without volumes, to be broken."""
    copy = tmp_path / "Dataset301_Toy"
    copy.mkdir()
    for name in ("dataset.json", "subjects.csv", "splits_final.json"):
        shutil.copy(toy.preprocessed / "Dataset301_Toy" / name, copy)
    return copy


def test_a_cohort_is_what_lies_in_the_folder(folder) -> None:
    cohort = Cohort.open(folder)
    assert (cohort.name, cohort.task.classes, len(cohort.subjects)) == ("Dataset301_Toy", ("CN", "AD"), 17)
    assert cohort.splits == json.loads((folder / "splits_final.json").read_text())
    assert cohort.splits_sha256 == splits_hash(list(cohort.splits))
    assert list(cohort.rows(["sub03_M00", "sub01_M00"])["subject_id"]) == ["sub03", "sub01"]
    # sub00 comes twice; the first of its scans stands for it
    assert list(cohort.people["case_id"]) == [f"sub{index:02d}_M00" for index in range(16)]


def test_folds_are_drawn_once_where_there_are_none(folder) -> None:
    before = Cohort.open(folder).splits
    (folder / "splits_final.json").unlink()
    assert Cohort.open(folder).splits == before
    assert json.loads((folder / "splits_final.json").read_text()) == before


def test_a_permuted_cohort_has_dealt_out_targets_and_the_same_folds(folder) -> None:
    cohort = Cohort.open(folder)
    assert cohort.permuted(None) is cohort
    dealt = cohort.permuted(3)
    pd.testing.assert_frame_equal(dealt.subjects, permute_targets(cohort.subjects, cohort.task, 3))
    assert not dealt.subjects.equals(cohort.subjects) and dealt.splits_sha256 == cohort.splits_sha256


@pytest.mark.parametrize(
    ("break_it", "error", "message"),
    [
        (lambda folder: (folder / "dataset.json").unlink(), PathsError, "dataset.json does not exist"),
        (lambda folder: (folder / "dataset.json").write_text("{}"), AdnextError, "has no 'adnext' block"),
        (
            lambda folder: (folder / "subjects.csv").write_text("case_id,subject_id,session_id\na,a,\n"),
            TableError,
            "has no column 'diagnosis'",
        ),
        (lambda folder: (folder / "splits_final.json").write_text("[[]]"), SplitError, "is not a list of folds"),
    ],
)
def test_a_folder_that_is_no_cohort_is_refused_in_one_line(folder, break_it, error, message) -> None:
    break_it(folder)
    with pytest.raises(error, match=message) as found:
        Cohort.open(folder)
    assert "\n" not in str(found.value)


def test_a_plan_is_read_with_what_its_configuration_inherits(tmp_path) -> None:
    plan = Plan(training={"epochs": 3})
    plans = plans_with(
        {"configurations": {"small": {"spacing": [2, 2, 2]}, "stock": {"spacing": [1, 1, 1]}}}, "small", plan
    )
    plans["configurations"]["child"] = {"inherits_from": "small", "batch_size": 2}
    assert configuration_of(plans, "child", "plans")["spacing"] == [2, 2, 2]
    assert plan_of(plans, "child", "plans") == plan_of(plans, "small", "plans") == plan
    # what nnU-Net planned has no block of ours
    assert plan_of(plans, "stock", "plans") == Plan(prepared_by="nnunet")
    (tmp_path / "plans.json").write_text(json.dumps(plans))
    assert read_plan(tmp_path / "plans.json", "child") == plan


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"configurations": {"3d_fullres": {}}}, "no configuration '3d_fulres'; did you mean '3d_fullres'"),
        ({"configurations": {"3d_fulres": {"inherits_from": "3d_fulres"}}}, "missing or a circle"),
        ({"configurations": {"3d_fulres": {"inherits_from": "gone"}}}, "'gone', which is missing"),
        (
            {"configurations": {"3d_fulres": {"adnext": {"trainnig": {}}}}},
            "unknown key 'trainnig'; did you mean 'training'",
        ),
        ({"plans": {}}, "is not a plans file"),
        ([], "does not hold an object of JSON"),
    ],
)
def test_plans_that_cannot_be_read_are_refused_in_one_line_that_names_the_file(tmp_path, content, message) -> None:
    path = tmp_path / "plans.json"
    path.write_text(json.dumps(content))
    with pytest.raises(AdnextError, match=message) as found:
        read_plan(path, "3d_fulres")
    assert str(path) in str(found.value) and "\n" not in str(found.value)
