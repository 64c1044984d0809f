"""Who is trained on, chosen on and held out, and where a voxel lies: leaks and swapped ends that must be noticed."""

import json

import numpy as np
import pandas as pd
import pytest

from adnext_plugin.images import Volume
from adnext_plugin.importing.people.identities import Moment
from adnext_plugin.importing.sources.table import TableOptions, read_table_source
from adnext_plugin.importing.tables.joining import join_table
from adnext_plugin.importing.tables.kinds import read_table
from adnext_plugin.preprocessing.grid.geometry import pad_crop
from adnext_plugin.pretraining.fill_in import fill_in
from adnext_plugin.splits.drawing import make_splits
from adnext_plugin.splits.folds import ensure_splits, take_fraction
from adnext_plugin.subjects import permute_targets
from adnext_plugin.task import Task
from adnext_plugin.training.covariates import CovariateScale

TASK = Task(name="AD", target="diagnosis", classes=("CN", "AD"))
AGE = Task(name="Age", kind="regression", target="age", derived_from=("age",))


def _cohort(controls: int, patients: int, scans: int = 1) -> pd.DataFrame:
    rows = [
        (f"s{subject:03d}_{scan}", f"s{subject:03d}", str(scan), "CN" if subject < controls else "AD", 50.0 + subject)
        for subject in range(controls + patients)
        for scan in range(scans)
    ]
    return pd.DataFrame(rows, columns=["case_id", "subject_id", "session_id", "diagnosis", "age"])


def test_the_smallest_share_still_has_a_subject_of_every_class_with_all_scans() -> None:
    subjects = _cohort(40, 6, scans=2)
    chosen = subjects[subjects["case_id"].isin(take_fraction(list(subjects["case_id"]), subjects, TASK, 0.01))]
    assert chosen.groupby("diagnosis")["subject_id"].nunique().to_dict() == {"AD": 1, "CN": 1}
    assert len(chosen) == 4


def test_a_share_is_of_the_training_part_and_that_large() -> None:
    subjects = _cohort(40, 20)
    cases = list(subjects["case_id"])[::2]
    chosen = take_fraction(cases, subjects, TASK, 0.3)
    assert set(chosen) <= set(cases) and len(chosen) == 9  # 6 of 20 and 3 of 10


@pytest.mark.parametrize("task", [TASK, AGE])
def test_a_fifth_of_those_who_are_not_held_out_is_for_selection(task: Task, tmp_path) -> None:
    subjects = _cohort(100, 100)
    splits = make_splits(subjects, task)
    assert [tuple(len(fold[part]) for part in ("train", "selection", "val")) for fold in splits] == 4 * [(120, 30, 50)]
    stock = [{"train": fold["train"] + fold["selection"], "val": fold["val"]} for fold in splits]
    (tmp_path / "splits_final.json").write_text(json.dumps(stock))
    drawn = ensure_splits(tmp_path, subjects, task)
    assert [len(fold["selection"]) for fold in drawn] == 4 * [30]
    assert all(fold["val"] == own["val"] for fold, own in zip(drawn, splits, strict=True))


def test_selection_is_of_nobody_who_is_held_out_or_trained_on() -> None:
    for fold in make_splits(_cohort(30, 30, scans=2), TASK):
        people = [{case.split("_")[0] for case in fold[part]} for part in ("train", "selection", "val")]
        assert sum(map(len, people)) == len(set.union(*people)) == 60


def test_covariates_of_others_are_put_on_the_scale_of_those_trained_on() -> None:
    trained_on, others = pd.DataFrame({"age": [50.0, 70.0]}), pd.DataFrame({"age": [90.0, np.nan]})
    scale = CovariateScale.of(trained_on, ("age",), TASK)
    np.testing.assert_allclose(scale.apply(others), [[3.0], [0.0]])


def test_permuted_labels_are_dealt_to_people_and_stay_the_same_in_number() -> None:
    subjects = _cohort(30, 20, scans=3)
    deals = [permute_targets(subjects, TASK, seed) for seed in range(6)]
    for dealt in deals:
        assert (dealt.groupby("subject_id")["diagnosis"].nunique() == 1).all()
        assert dealt.drop_duplicates("subject_id")["diagnosis"].value_counts().to_dict() == {"CN": 30, "AD": 20}
        assert 0 < (dealt["diagnosis"] != subjects["diagnosis"]).mean() < 1
    assert not deals[0].equals(deals[1])


def test_of_two_visits_equally_near_the_earlier_one_is_taken(tmp_path) -> None:
    visits = ("p1,2010-01-01,CN", "p1,2010-01-21,AD", "p2,2010-01-02,CN", "p2,2010-01-19,AD")
    (tmp_path / "visits.csv").write_text("\n".join(["subject,date,diagnosis", *visits]) + "\n")
    scans = [f"{name},{name}.nii.gz,2010-01-11" for name in ("p1", "p2")]
    (tmp_path / "scans.csv").write_text("\n".join(["subject,path,date", *scans]) + "\n")
    for name in ("p1", "p2"):
        (tmp_path / f"{name}.nii.gz").touch()
    source = read_table_source(TableOptions(table=tmp_path / "scans.csv"))
    joined = join_table(source, read_table(tmp_path / "visits.csv"), by_time=True)
    assert [scan.row["diagnosis"] for scan in joined.scans] == ["CN", "AD"]


def test_a_later_scan_shows_an_older_person() -> None:
    visit, scan = Moment(calendar_day=1000), Moment(calendar_day=1400)
    assert scan.days_after(visit) == 400 and visit.days_after(scan) == -400


def test_an_odd_voxel_too_many_or_too_few_is_at_the_far_end_of_every_axis() -> None:
    line = np.arange(1.0, 6)
    for axis in range(3):
        shape = [1, 1, 1]
        shape[axis] = 5
        volume = line.reshape(shape)
        for size, expected in ((4, [1, 2, 3, 4]), (2, [2, 3]), (8, [0, 1, 2, 3, 4, 5, 0, 0]), (6, [1, 2, 3, 4, 5, 0])):
            wanted = tuple(size if number == axis else 1 for number in range(3))
            np.testing.assert_array_equal(pad_crop(volume, wanted).ravel(), expected)


def test_the_size_of_a_voxel_is_its_edges_however_the_head_lies_in_the_world() -> None:
    edges = np.diag([0.8, 1.2, 3.0])
    turn_x = np.array([[1, 0, 0], [0, np.cos(0.5), -np.sin(0.5)], [0, np.sin(0.5), np.cos(0.5)]])
    turn_z = np.array([[np.cos(1.1), -np.sin(1.1), 0], [np.sin(1.1), np.cos(1.1), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn_x @ turn_z @ edges
    volume = Volume(volume_zyx=np.zeros((2, 2, 2), dtype=np.float32), affine=affine)
    assert volume.spacing_mm == pytest.approx((3.0, 1.2, 0.8))


def test_a_masked_voxel_follows_the_nearer_of_its_neighbours() -> None:
    scan, seen = np.zeros((3, 1, 9)), np.ones((3, 1, 9), dtype=bool)
    scan[:, 0, 0], scan[:, 0, 8] = 8.0, 16.0
    scan[0, 0, 1:8] = scan[2, 0, 1:8] = 100.0
    seen[1, 0, 1:8] = False
    # along x a line from 8 to 16 over a gap of 8, along z 100 on both sides over a gap of 2
    expected = [((8 + x) / 8 + 100 / 2) / (1 / 8 + 1 / 2) for x in range(1, 8)]
    np.testing.assert_allclose(fill_in(scan, seen)[1, 0, 1:8], expected)


def test_a_task_is_named_whole_whatever_its_kind() -> None:
    tasks = (TASK, AGE, Task(name="Scans", kind="unlabelled"))
    assert [task.in_words for task in tasks] == ["classification of CN, AD", "regression of age", "unlabelled data"]
