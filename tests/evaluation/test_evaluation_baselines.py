"""Baselines of columns of words, and baselines asked about people of another dataset."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.metrics import mean_absolute_error, roc_auc_score
from sklearn.preprocessing import OneHotEncoder

from adnext_plugin.cohort import Cohort
from adnext_plugin.errors import TableError
from adnext_plugin.evaluation.scores.panel import all_scores
from adnext_plugin.evaluation.studies.baselines import (
    Baseline,
    covariates,
    cross_validate,
    knows_nothing,
    predict_others,
    regions,
    voxels,
)
from adnext_plugin.evaluation.studies.external import compare_with_baselines, judge_baseline
from adnext_plugin.evaluation.subjects.predictions import per_subject
from adnext_plugin.evaluation.subjects.values import values_per_subject
from adnext_plugin.evaluation.uncertainty.intervals import resamples_of
from adnext_plugin.splits.drawing import make_splits
from adnext_plugin.task import Task

TASK = Task(name="AD", target="diagnosis", classes=("CN", "AD"))
AGE = Task(name="Age", kind="regression", target="age", derived_from=("age",))


def _people(people: int = 80, first: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(first)
    ids = [f"s{index:03d}" for index in range(first, first + people)]
    is_patient = np.arange(people) % 2 == 1
    frame = pd.DataFrame({"case_id": ids, "subject_id": ids, "session_id": ""})
    frame["diagnosis"] = np.where(is_patient, "AD", "CN")
    frame["vendor"] = np.where(is_patient, "Siemens", "GE")  # a perfect confound
    frame["apoe"] = np.where(is_patient, "3/4", np.where(np.arange(people) % 4 == 0, "3/3", ""))
    frame["score"] = (is_patient + generator.normal(0, 1, people)).astype(str)  # numbers as text
    frame["age"] = generator.uniform(50, 90, people)
    return frame


def _cohort(subjects: pd.DataFrame, task: Task = TASK) -> Cohort:
    return Cohort(task=task, subjects=subjects, splits=make_splits(subjects, task), folder=Path("Dataset001_Made"))


def _area(cohort: Cohort, *columns: str) -> float:
    it = per_subject(cross_validate(covariates(cohort, columns), cohort), TASK)
    return float(all_scores(it, np.ones((1, len(it.targets))))["auc_mean_of_folds"][0])


@pytest.mark.parametrize("column", ["vendor", "apoe"])
def test_a_column_of_words_tells_what_it_knows(column: str) -> None:
    assert _area(_cohort(_people()), column) == 1


def test_numbers_that_are_written_as_text_stay_numbers_and_mixed_columns_are_words() -> None:
    subjects = _people()
    cohort = _cohort(subjects)
    as_numbers = _cohort(subjects.assign(score=subjects["score"].astype(float)))
    pd.testing.assert_frame_equal(
        cross_validate(covariates(cohort, ["score"]), cohort), cross_validate(covariates(as_numbers, ["score"]), cohort)
    )
    mixed = subjects.assign(grade=np.where(subjects["diagnosis"] == "AD", "2", "none"))
    assert _area(_cohort(mixed), "grade", "age") == 1


def test_words_are_those_of_the_training_part_and_another_word_says_nothing() -> None:
    subjects = _people().assign(vendor=[f"scanner {index % 8}" for index in range(80)])
    cohort = _cohort(subjects)
    held_out = subjects["case_id"].isin(cohort.splits[0]["val"])
    subjects.loc[held_out, "vendor"] = "never seen"
    table = cross_validate(covariates(cohort, ["vendor"]), cohort)
    found = table[(table["fold"] == 0) & (table["part"] == "val")]["prob_AD"]
    train = subjects[subjects["case_id"].isin(cohort.splits[0]["train"])]
    encoder = OneHotEncoder().fit(train[["vendor"]])
    model = LogisticRegression(class_weight="balanced", max_iter=1000)
    model.fit(encoder.transform(train[["vendor"]]), train["diagnosis"] == "AD")
    assert set(encoder.categories_[0]) == {f"scanner {index}" for index in range(8)}
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-model.intercept_[0])))


def test_words_that_are_as_many_as_people_are_refused() -> None:
    subjects = _people().assign(note=[f"free text {index}" for index in range(80)])
    with pytest.raises(TableError, match=r"'note' of subjects.csv has 80 different values of 80 people.*'free text 0'"):
        covariates(_cohort(subjects), ["note"])
    odd = _people().assign(mmse=[str(index / 2) for index in range(80)])
    odd.loc[3, "mmse"] = "refused"
    with pytest.raises(TableError, match="not all are numbers, such as 'refused'"):
        covariates(_cohort(odd), ["mmse"])


def test_other_people_are_predicted_by_what_the_whole_cohort_taught() -> None:
    own, others = _people(), _people(40, first=200)
    found = predict_others(covariates(_cohort(own), ["score", "vendor"]), _cohort(own), others, TASK)
    assert list(found["case_id"]) == list(others["case_id"]) and set(found["part"]) == {"val"}
    assert roc_auc_score(found["target"] == "AD", found["prob_AD"]) == 1
    never = predict_others(covariates(_cohort(own), ["vendor"]), _cohort(own), others.assign(vendor="Philips"), TASK)
    assert never["prob_AD"].nunique() == 1

    class Counting(LogisticRegression):
        seen = 0

        def fit(self, features, targets):
            type(self).seen = len(targets)
            return super().fit(features, targets)

    baseline = Baseline(
        name="x", model=Counting(), features=np.zeros((80, 1)), see=lambda rows: np.zeros((len(rows), 1))
    )
    predict_others(baseline, _cohort(own), others, TASK)
    assert Counting.seen == 80
    with pytest.raises(ValueError, match="cannot see other people"):
        predict_others(Baseline(name="x", model=Counting(), features=np.zeros((80, 1))), _cohort(own), others, TASK)


def test_voxels_of_others_are_seen_by_their_own_reader() -> None:
    own, others = _people(), _people(40, first=200)
    generator = np.random.default_rng(0)

    def reader(people: pd.DataFrame):
        sick = dict(zip(people["case_id"], people["diagnosis"] == "AD", strict=True))
        return lambda case: generator.normal(size=(16, 16, 16)) + 0.6 * sick[case]

    cohort = _cohort(own)
    baseline = voxels(cohort, reader(own), (4.0, 4.0, 4.0), reader(others))
    found = predict_others(baseline, cohort, others, TASK)
    assert roc_auc_score(found["target"] == "AD", found["prob_AD"]) > 0.95


def test_baselines_of_others_are_called_by_the_mean_of_their_folds_thresholds_and_networks_gain_over_them() -> None:
    own, others = _people(), _people(40, first=200)
    cohort = _cohort(own)
    baseline = covariates(cohort, ["score"])
    judged = judge_baseline(baseline, cohort, others, TASK)
    by_fold = per_subject(cross_validate(baseline, cohort), TASK)
    expected = np.mean([by_fold.thresholds[by_fold.folds == fold][0] for fold in range(4)])
    np.testing.assert_allclose(judged.thresholds, expected)
    network = judge_baseline(covariates(cohort, ["vendor"]), cohort, others, TASK)
    nothing, of_score = compare_with_baselines(
        network, [knows_nothing(cohort), baseline], cohort, others, TASK, resamples_of(network, 100)
    )
    assert nothing.name == "majority" and nothing.scores["auc"].value == 0.5
    assert nothing.gain_of_network.value == 0.5
    area = roc_auc_score(judged.targets, judged.probabilities[:, 1])
    assert of_score.scores["auc"].value == pytest.approx(area)
    assert of_score.gain_of_network.value == pytest.approx(1 - area) and of_score.gain_of_network.low > 0


def test_a_number_is_predicted_for_others_in_its_unit() -> None:
    own, others = (_people(count, first).assign(size=0.0) for count, first in ((80, 0), (40, 200)))
    for frame in (own, others):
        frame["size"] = 100 - frame["age"] + np.random.default_rng(1).normal(0, 1, len(frame))
    cohort = _cohort(own, AGE)
    baseline = covariates(cohort, ["size"])
    judged = judge_baseline(baseline, cohort, others, AGE)
    model = RidgeCV(np.logspace(-2, 4, 13))
    scaled = (own[["size"]] - own["size"].mean()) / own["size"].std(ddof=0)
    model.fit(scaled.to_numpy(), own["age"])
    expected = model.predict(((others[["size"]] - own["size"].mean()) / own["size"].std(ddof=0)).to_numpy())
    np.testing.assert_allclose(judged.values, expected)
    (found,) = compare_with_baselines(judged, [knows_nothing(cohort)], cohort, others, AGE, resamples_of(judged, 100))
    error = mean_absolute_error(others["age"], np.full(40, own["age"].mean()))
    assert found.scores["mae"].value == pytest.approx(error)
    assert found.gain_of_network.value == pytest.approx(error - mean_absolute_error(others["age"], judged.values))
    assert len(values_per_subject(cross_validate(baseline, cohort)).values) == 80


def _with_regions(subjects: pd.DataFrame, noise: float = 1.0) -> pd.DataFrame:
    generator = np.random.default_rng(5)
    is_patient = (subjects["diagnosis"] == "AD").to_numpy()
    atrophy = is_patient + generator.normal(0, 0.5, len(subjects))
    return subjects.assign(
        **{f"part{index}_ml_per_l": atrophy + generator.normal(0, noise, len(subjects)) for index in range(18)}
    )


def test_regions_are_weighed_together_under_a_penalty_that_training_people_choose() -> None:
    cohort = _cohort(_with_regions(_people()))
    columns = [name for name in cohort.subjects if name.startswith("part")]
    model = regions(cohort, columns, ["age"])
    assert model.name == "regions+age"
    table = cross_validate(model, cohort)
    it = per_subject(table, TASK)
    area = float(all_scores(it, np.ones((1, len(it.targets))))["auc_mean_of_folds"][0])
    assert area > max(_area(cohort, name) for name in columns) and area > 0.85
    # what is held out does not matter to what is learned
    subjects = cohort.subjects.copy()
    held_out = subjects["case_id"].isin(cohort.splits[0]["val"])
    subjects.loc[held_out, columns] *= -5
    once = replace(cohort, subjects=subjects, splits=cohort.splits[:1])
    other = cross_validate(regions(once, columns, ["age"]), once)
    here, there = (one[(one["fold"] == 0) & (one["part"] == "selection")] for one in (table, other))
    np.testing.assert_array_equal(here["prob_AD"], there["prob_AD"])


def test_a_case_without_regions_counts_as_the_median_of_training_people() -> None:
    subjects = _with_regions(_people())
    columns = [name for name in subjects if name.startswith("part")]
    gone = subjects["case_id"] == subjects["case_id"][3]
    subjects.loc[gone, columns] = np.nan
    cohort = _cohort(subjects)
    fold = next(index for index, parts in enumerate(cohort.splits) if subjects["case_id"][3] in parts["val"])
    cohort = replace(cohort, splits=[cohort.splits[fold]])
    table = cross_validate(regions(cohort, columns, []), cohort)
    middle = subjects[subjects["case_id"].isin(cohort.splits[0]["train"])][columns].median()
    filled = subjects.copy()
    filled.loc[gone, columns] = middle.to_numpy()
    other = replace(cohort, subjects=filled)
    expected = cross_validate(regions(other, columns, []), other)
    chosen = (table["part"] == "val") & (table["case_id"] == subjects["case_id"][3])
    np.testing.assert_allclose(table[chosen]["prob_AD"], expected[chosen]["prob_AD"])
