"""Z-scores of regions: what is normal comes from normal people of the training part, for an age and a sex."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adnext_plugin.cohort import Cohort
from adnext_plugin.evaluation.studies.normative import deviations
from adnext_plugin.splits.drawing import make_splits
from adnext_plugin.task import Task

TASK = Task(name="AD", target="diagnosis", classes=("CN", "AD"))


def _cohort(people: int = 240) -> Cohort:
    """A volume that falls with age, faster later, is larger in men, and is smaller by three deviations in patients."""
    generator = np.random.default_rng(0)
    ids = [f"s{index:03d}" for index in range(people)]
    frame = pd.DataFrame({"case_id": ids, "subject_id": ids, "session_id": ""})
    frame["diagnosis"] = np.where(np.arange(people) % 3 == 0, "AD", "CN")
    frame["age"] = generator.uniform(50, 90, people)
    frame["sex"] = np.where(generator.random(people) < 0.5, "F", "M")
    normal = 10 - (frame["age"] - 50) ** 2 / 800 + 2 * (frame["sex"] == "M")
    frame["volume"] = normal - 1.5 * (frame["diagnosis"] == "AD") + generator.normal(0, 0.5, people)
    return Cohort(task=TASK, subjects=frame, splits=make_splits(frame, TASK), folder=Path("Dataset001_Made"))


def test_normal_people_are_about_zero_at_every_age_and_patients_as_far_away_as_they_are() -> None:
    cohort = _cohort()
    found = deviations(cohort, ["volume"]).set_index("case_id")
    assert sorted(found.index) == sorted(cohort.subjects["case_id"])
    normal = found[found["target"] == "CN"]["volume"]
    assert normal.mean() == pytest.approx(0, abs=0.15) and normal.std() == pytest.approx(1, abs=0.15)
    assert found[found["target"] == "AD"]["volume"].mean() == pytest.approx(-3, abs=0.3)
    people = cohort.subjects.set_index("case_id").loc[normal.index]
    assert abs(np.corrcoef(normal, people["age"])[0, 1]) < 0.15
    assert abs(normal[people["sex"] == "M"].mean() - normal[people["sex"] == "F"].mean()) < 0.3


def test_what_is_normal_is_learned_from_the_training_part_alone() -> None:
    cohort = _cohort()
    before = deviations(cohort, ["volume"])
    patients = cohort.subjects["case_id"][cohort.subjects["diagnosis"] == "AD"]
    kept = next(case for case in cohort.splits[0]["val"] if case not in set(patients))
    strange = {*cohort.splits[0]["val"], *cohort.splits[0]["selection"], *patients} - {kept}
    changed = cohort.subjects.copy()
    changed.loc[changed["case_id"].isin(strange), "volume"] = 100.0
    after = deviations(Cohort(task=TASK, subjects=changed, splits=cohort.splits, folder=cohort.folder), ["volume"])
    first = [table[table["fold"] == 0].set_index("case_id")["volume"] for table in (before, after)]
    assert first[0][kept] == first[1][kept] and (first[0].drop(kept) < first[1].drop(kept)).all()


def test_unknown_ages_are_means_unmeasured_cases_stay_unknown_and_few_normal_people_give_nothing() -> None:
    cohort = _cohort()
    gaps = cohort.subjects.copy()
    gaps.loc[0, "age"], gaps.loc[1, "volume"] = np.nan, np.nan
    found = deviations(Cohort(task=TASK, subjects=gaps, splits=cohort.splits, folder=cohort.folder), ["volume"])
    by_case = found.set_index("case_id")["volume"]
    assert np.isfinite(by_case["s000"]) and np.isnan(by_case["s001"]) and by_case.notna().sum() == 239
    assert deviations(_cohort(24), ["volume"]) is None
    number = Task(name="Age", kind="regression", target="age", derived_from=("age",))
    assert (
        deviations(Cohort(task=number, subjects=gaps, splits=cohort.splits, folder=cohort.folder), ["volume"]) is None
    )
