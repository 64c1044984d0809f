"""Folds: nobody on two sides, everybody held out once, classes and strata shared out evenly."""

import json

import numpy as np
import pandas as pd
import pytest

from adnext_plugin.errors import SplitError
from adnext_plugin.splits.design import is_hold_out, repeats_of
from adnext_plugin.splits.drawing import Scheme, draw, make_splits
from adnext_plugin.splits.folds import check_splits, ensure_splits, require_every_class, splits_hash, take_fraction
from adnext_plugin.task import Task

TASK = Task(name="AD", target="diagnosis", classes=("CN", "AD"))


def _cohort(seed: int, people: int = 61) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    rows = []
    for subject in range(people):
        person = {
            "subject_id": f"s{subject:03d}",
            "diagnosis": "AD" if generator.random() < 0.35 else "CN",
            "sex": generator.choice(["M", "F", ""]),
            "site": generator.choice(["one", "two", "three"], p=[0.6, 0.3, 0.1]),
            "age": generator.choice([np.nan, generator.uniform(50, 90)], p=[0.1, 0.9]),
        }
        for session in range(generator.integers(1, 4)):
            rows.append({**person, "case_id": f"s{subject:03d}_{session}", "session_id": str(session)})
    return pd.DataFrame(rows)


@pytest.mark.parametrize("seed", range(12))
def test_any_cohort_is_split_by_subject_and_evenly_by_class_and_site(seed: int) -> None:
    subjects = _cohort(seed)
    splits = make_splits(subjects, TASK)
    check_splits(splits, subjects, "here")
    people = subjects.drop_duplicates("subject_id").set_index("subject_id")
    subject_of = subjects.set_index("case_id")["subject_id"]
    held_out = [people.loc[subject_of[fold["val"]].unique()] for fold in splits]
    for name in TASK.classes:
        counts = [(fold["diagnosis"] == name).sum() for fold in held_out]
        assert max(counts) - min(counts) <= 1
        for site in people["site"].unique():
            counts = [((fold["diagnosis"] == name) & (fold["site"] == site)).sum() for fold in held_out]
            assert max(counts) - min(counts) <= 1
    for fold in splits:
        selected = people.loc[subject_of[fold["selection"]].unique(), "diagnosis"]
        trained = people.loc[subject_of[fold["train"]].unique(), "diagnosis"]
        assert set(selected) == set(trained) == set(TASK.classes)
        assert 0.15 < len(selected) / (len(selected) + len(trained)) < 0.27
    # the order of the rows must not matter, the seed must
    shuffled = subjects.sample(frac=1, random_state=seed)
    assert make_splits(shuffled, TASK) == splits
    assert make_splits(subjects, TASK, seed=1) != splits


def test_a_subject_whose_diagnosis_changes_stays_in_one_piece() -> None:
    subjects = _cohort(0)
    subjects.loc[subjects["subject_id"] == "s003", "diagnosis"] = (["CN", "AD", "AD"] * 3)[
        : (subjects["subject_id"] == "s003").sum()
    ]
    check_splits(make_splits(subjects, TASK), subjects, "here")


def test_folds_are_written_once_and_read_ever_after(tmp_path) -> None:
    subjects = _cohort(0)
    splits = ensure_splits(tmp_path, subjects, TASK)
    written = (tmp_path / "splits_final.json").read_bytes()
    assert ensure_splits(tmp_path, subjects.sample(frac=1, random_state=0), TASK) == splits
    assert (tmp_path / "splits_final.json").read_bytes() == written


def test_a_file_of_nnunets_own_gets_a_selection_part_and_is_left_alone(tmp_path) -> None:
    subjects = _cohort(0)
    ours = make_splits(subjects, TASK)
    stock = [{"train": fold["train"] + fold["selection"], "val": fold["val"]} for fold in ours]
    (tmp_path / "splits_final.json").write_text(json.dumps(stock))
    found = ensure_splits(tmp_path, subjects, TASK)
    check_splits(found, subjects, "here")
    assert [sorted(fold["train"] + fold["selection"]) for fold in found] == [sorted(fold["train"]) for fold in stock]
    assert json.loads((tmp_path / "splits_final.json").read_text()) == stock


def _spoil(splits: list[dict], how: str, subjects: pd.DataFrame) -> list[dict]:
    repeated = subjects[subjects["subject_id"].duplicated(keep=False)]["case_id"]
    in_train = next(case for case in splits[0]["train"] if case in set(repeated))
    if how == "two sides":
        splits[0]["train"].remove(in_train)
        splits[0]["val"].append(in_train)
    elif how == "unknown":
        splits[1]["train"].append("nobody")
    elif how == "missing":
        del splits[2]["selection"]
    elif how == "twice":
        splits[0]["train"].append(in_train)
    elif how == "left out":
        splits[3]["train"].pop()
    elif how == "fold missing":
        splits.pop()
    return splits


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("two sides", "is in both train and val"),
        ("unknown", "case 'nobody' is not in subjects.csv"),
        ("missing", "fold 2 has no 'selection'"),
        ("twice", "listed 2 times"),
        ("left out", "fold 3: case .* is listed 0 times"),
        ("fold missing", "held out in 0 folds"),
    ],
)
def test_folds_that_do_not_fit_the_data_are_refused(how: str, message: str) -> None:
    subjects = _cohort(0)
    with pytest.raises(SplitError, match=message):
        check_splits(_spoil(make_splits(subjects, TASK), how, subjects), subjects, "here")


def test_too_few_subjects_of_a_class_are_counted_out() -> None:
    subjects = _cohort(0)
    few = subjects[(subjects["diagnosis"] == "CN") | subjects["subject_id"].isin(["s001", "s002", "s003"])]
    patients = few.loc[few["diagnosis"] == "AD", "subject_id"].nunique()
    assert patients < 4
    with pytest.raises(SplitError, match=f"class 'AD' has {patients} subjects, fewer than 4 folds need"):
        make_splits(few, TASK)


@pytest.mark.parametrize("people", [4, 6, 11, 13, 14, 20])
def test_however_few_people_with_a_number_as_target_some_are_trained_on(people: int) -> None:
    subjects = pd.DataFrame({"case_id": [f"c{index:02}" for index in range(people)], "age": np.arange(people) + 50.0})
    subjects["subject_id"] = subjects["case_id"]
    splits = make_splits(subjects, Task(name="Age", kind="regression", target="age"))
    check_splits(splits, subjects, "folds")
    for fold in splits:
        assert fold["selection"] and len(fold["train"]) >= len(fold["selection"])


def test_a_fold_that_trains_on_nobody_is_refused() -> None:
    subjects = pd.DataFrame({"case_id": ["a", "b"], "subject_id": ["a", "b"]})
    with pytest.raises(SplitError, match="fold 0 trains on nobody"):
        check_splits([{"train": [], "selection": ["a"], "val": ["b"]}], subjects, "a.json")


def test_the_hash_sees_the_folds_not_their_order_of_cases() -> None:
    splits = make_splits(_cohort(0), TASK)
    reordered = [{part: fold[part][::-1] for part in ("val", "train", "selection")} for fold in splits]
    assert splits_hash(reordered) == splits_hash(splits)
    assert splits_hash(splits[::-1]) != splits_hash(splits)


def test_shares_of_the_training_subjects_are_nested_whole_people_of_every_class() -> None:
    subjects = _cohort(0)
    cases = make_splits(subjects, TASK)[0]["train"]
    quarter, half = (set(take_fraction(cases, subjects, TASK, share)) for share in (0.25, 0.5))
    assert quarter < half < set(cases) == set(take_fraction(cases, subjects, TASK, 1.0))
    subject_of = subjects.set_index("case_id")["subject_id"]
    rows = subjects[subjects["subject_id"].isin(subject_of[list(quarter)])]
    assert set(rows["case_id"]) == quarter  # with all their sessions
    everyone = subjects[subjects["case_id"].isin(cases)].drop_duplicates("subject_id")["diagnosis"].value_counts()
    assert (rows.drop_duplicates("subject_id")["diagnosis"].value_counts() == (everyone / 4).round()).all()


def _single(folds: list[dict], subjects: pd.DataFrame) -> list[dict]:
    """Folds that share the held-out people out in another way."""
    return make_splits(subjects, TASK, folds=len(folds), seed=9)


@pytest.mark.parametrize(
    ("design", "repeats"),
    [
        (lambda splits, again: splits, ((0, 1, 2, 3),)),
        (lambda splits, again: splits + again, ((0, 1, 2, 3), (4, 5, 6, 7))),
        (lambda splits, again: splits + again + splits, ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11))),
        (lambda splits, again: splits[2:3], ((0,),)),
    ],
)
def test_repeats_and_one_hold_out_are_known_by_who_is_held_out(design, repeats) -> None:
    subjects = _cohort(0)
    splits = make_splits(subjects, TASK)
    chosen = design(splits, _single(splits, subjects))
    check_splits(chosen, subjects, "here")
    assert repeats_of(chosen) == repeats and is_hold_out(chosen) == (len(chosen) == 1)


@pytest.mark.parametrize(
    ("design", "message"),
    [
        (lambda splits, again, two: splits[:3], "held out in 0 folds instead of one"),
        (lambda splits, again, two: splits + again[:3], "list all folds of one repeat after those of another"),
        (lambda splits, again, two: [splits[0], *again, *splits[1:]], "held out in 2 folds instead of one"),
        (lambda splits, again, two: [splits[0], splits[0]], "held out in"),
        (lambda splits, again, two: splits + two, r"the repeats have \[4, 2\] folds"),
        (
            lambda splits, again, two: [{**splits[0], "train": splits[0]["train"] + splits[0]["val"], "val": []}],
            "nobody",
        ),
        (
            lambda splits, again, two: [*splits, {**again[0], "train": again[0]["train"] + again[0]["val"][:1]}],
            "fold 4: .* in both train and val|fold 4: subject",
        ),
    ],
)
def test_what_is_neither_repeated_nor_one_hold_out_is_refused(design, message: str) -> None:
    subjects = _cohort(0)
    splits = make_splits(subjects, TASK)
    two = make_splits(subjects, TASK, folds=2, seed=5)
    with pytest.raises(SplitError, match=message):
        check_splits(design(splits, _single(splits, subjects), two), subjects, "here")


def test_a_class_that_nobody_is_trained_on_is_named() -> None:
    subjects = _cohort(0)
    train = make_splits(subjects, TASK)[2]["train"]
    require_every_class(train, subjects, TASK, "The training part of fold 2")
    controls = subjects.loc[subjects["case_id"].isin(train) & (subjects["diagnosis"] == "CN"), "case_id"].tolist()
    message = f"The training part of fold 2 has no case of class 'AD', only {len(controls)} of CN"
    with pytest.raises(SplitError, match=message):
        require_every_class(controls, subjects, TASK, "The training part of fold 2")
    with pytest.raises(SplitError, match="no case of class 'CN', only nobody"):
        require_every_class([], subjects, TASK, "Fold 0")
    require_every_class([], subjects, Task(name="Age", kind="regression", target="age"), "Fold 0")


def _families(seed: int) -> pd.DataFrame:
    subjects = _cohort(seed, people=80)
    number = subjects["subject_id"].str[1:].astype(int)
    return subjects.assign(family=number // 3, hospital=np.where(number < 40, "A", np.where(number < 65, "B", "C")))


@pytest.mark.parametrize("seed", range(6))
def test_groups_stay_on_one_side_of_every_fold_of_every_repeat(seed: int) -> None:
    subjects = _families(seed)
    splits = draw(subjects, TASK, Scheme(folds=5, repeats=2, group_by="family"))
    check_splits(splits, subjects, "here")
    assert repeats_of(splits) == ((0, 1, 2, 3, 4), (5, 6, 7, 8, 9)) and splits[0] != splits[5]
    family_of = subjects.set_index("case_id")["family"]
    share = (subjects.drop_duplicates("subject_id")["diagnosis"] == "AD").mean()
    for fold in splits:
        sides = [set(family_of[fold[part]]) for part in ("train", "selection", "val")]
        assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
        held_out = subjects[subjects["case_id"].isin(fold["val"])].drop_duplicates("subject_id")
        assert 10 <= len(held_out) <= 22 and abs((held_out["diagnosis"] == "AD").mean() - share) < 0.2
    assert draw(subjects.sample(frac=1, random_state=1), TASK, Scheme(folds=5, repeats=2, group_by="family")) == splits


def test_each_site_is_held_out_once_and_the_others_are_in_both_other_parts() -> None:
    subjects = _families(3)
    splits = draw(subjects, TASK, Scheme(group_by="hospital", leave_one_out=True))
    check_splits(splits, subjects, "here")
    hospital_of = subjects.set_index("case_id")["hospital"]
    assert [set(hospital_of[fold["val"]]) for fold in splits] == [{"A"}, {"B"}, {"C"}]
    for fold, others in zip(splits, ({"B", "C"}, {"A", "C"}, {"A", "B"}), strict=True):
        assert set(hospital_of[fold["train"]]) == set(hospital_of[fold["selection"]]) == others


def test_the_usual_scheme_draws_the_usual_folds_and_a_repeat_begins_with_them(tmp_path) -> None:
    subjects = _cohort(0)
    usual = make_splits(subjects, TASK)
    assert draw(subjects, TASK, Scheme()) == usual and Scheme.asked(folds=None, leave_one_out=False) is None
    repeated = ensure_splits(tmp_path, subjects, TASK, Scheme.asked(repeats=3))
    assert len(repeated) == 12 and repeated[:4] == usual and check_splits(repeated, subjects, "here") is None
    assert ensure_splits(tmp_path, subjects, TASK) == repeated  # without options, what is there
    assert ensure_splits(tmp_path, subjects, TASK, Scheme(repeats=3)) == repeated
    with pytest.raises(SplitError, match=r"splits_final\.json has other folds than 5, and runs may rest"):
        ensure_splits(tmp_path, subjects, TASK, Scheme(folds=5))
    assert len(json.loads((tmp_path / "splits_final.json").read_text())) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "--folds must be at least 2, got 1"),
        ({"repeats": 0}, "--repeats must be at least 1"),
        ({"leave_one_out": True}, "say by which column with --group-by"),
        ({"leave_one_out": True, "group_by": "hospital", "folds": 3}, "one fold for each group; leave --folds"),
        ({"group_by": "famly"}, "no column 'famly'; did you mean 'family'"),
        ({"group_by": "hospital"}, "'hospital' has 3 values, fewer than 4 folds need; use fewer --folds, or --leave"),
        ({"group_by": "session_id"}, "has 2 values of it; correct subjects.csv|has 3 values of it"),
        ({"group_by": "same"}, "everybody has 'x'"),
        ({"group_by": "gaps"}, "subject 's005' has none; fill it in"),
        ({"folds": 40}, "fewer than 40 folds need; use fewer --folds"),
    ],
)
def test_impossible_schemes_are_one_line(options: dict, message: str) -> None:
    subjects = _families(0).assign(same="x")
    subjects["gaps"] = subjects["family"].astype(str).mask(subjects["subject_id"] == "s005")
    with pytest.raises(SplitError, match=message):
        draw(subjects, TASK, Scheme(**options))
