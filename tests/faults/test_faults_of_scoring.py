"""Who is scored, by what was chosen on whom: leaks and swapped roles in the evaluation that must be noticed.

`benchmarks/planted_faults.py` plants each of them and runs these tests.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import roc_auc_score

from adnext_plugin.cohort import Cohort
from adnext_plugin.evaluation.scores.calibration import Temperature
from adnext_plugin.evaluation.scores.panel import all_scores
from adnext_plugin.evaluation.studies.baselines import Baseline, cross_validate
from adnext_plugin.evaluation.studies.comparison import compare
from adnext_plugin.evaluation.studies.details import calibrate, describe_classifier
from adnext_plugin.evaluation.studies.external import judge_external
from adnext_plugin.evaluation.studies.recalibration import recalibrate
from adnext_plugin.evaluation.studies.seeds import spread_over_seeds
from adnext_plugin.evaluation.studies.subgroups import describe_subgroups
from adnext_plugin.evaluation.subjects.bias_correction import fit_bias_correction
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions, per_subject, subject_means
from adnext_plugin.evaluation.subjects.values import SubjectValues, values_per_subject
from adnext_plugin.evaluation.uncertainty.detectable import detectable_area, detectable_difference
from adnext_plugin.evaluation.uncertainty.intervals import gain, resamples_of
from adnext_plugin.splits.drawing import make_splits
from adnext_plugin.task import Task

TASK = Task(name="AD", target="diagnosis", classes=("CN", "AD"))
AGE = Task(name="Age", kind="regression", target="age", derived_from=("age",))


def _classified(targets: np.ndarray, positive: np.ndarray, threshold: float = 0.5, folds=None) -> SubjectPredictions:
    people = len(targets)
    return SubjectPredictions(
        subject_ids=np.array([f"s{index:03d}" for index in range(people)]),
        targets=targets,
        folds=np.zeros(people, dtype=int) if folds is None else folds,
        probabilities=np.stack([1 - positive, positive], axis=1),
        thresholds=np.full(people, threshold),
        classes=TASK.classes,
    )


def _numbers(truth: np.ndarray, said: np.ndarray) -> SubjectValues:
    ids, folds = np.arange(len(truth)), np.arange(len(truth)) % 4
    return SubjectValues(subject_ids=ids, targets=truth, folds=folds, values=said, corrected=said)


def _of_parts(slope: dict[tuple[int, str], float]) -> pd.DataFrame:
    """Ages whose predictions are too high by a share of the age, another one in every fold and part; no noise."""
    ages = np.linspace(20, 80, 7)
    rows = [
        (fold, part, f"f{fold}-{part}-{age:.0f}", age, age + share * age)
        for (fold, part), share in slope.items()
        for age in ages
    ]
    return pd.DataFrame(rows, columns=["fold", "part", "subject_id", "target", "prediction"])


SLOPES = {(0, "val"): 0.5, (0, "selection"): 0.1, (1, "val"): -0.5, (1, "selection"): -0.3}


def test_the_age_bias_is_corrected_by_what_the_selection_part_of_the_same_fold_shows() -> None:
    judged = values_per_subject(_of_parts(SLOPES))
    expected = judged.values - np.where(judged.folds == 0, 0.1, -0.3) * judged.targets
    np.testing.assert_allclose(judged.corrected, expected)


def test_other_peoples_age_bias_is_corrected_by_the_mean_over_folds_of_their_selection_parts() -> None:
    theirs = _of_parts({(0, "val"): 0.25})
    judged = judge_external(theirs, _of_parts(SLOPES), [None, None], AGE)
    np.testing.assert_allclose(judged.corrected, judged.values - (0.1 - 0.3) / 2 * judged.targets)


def test_the_error_of_a_bias_is_the_prediction_less_the_truth() -> None:
    line = fit_bias_correction(np.array([20.0, 40, 60]), np.array([25.0, 40, 55]))
    assert (line.slope, line.intercept) == pytest.approx((-0.25, 10))
    np.testing.assert_allclose(line.corrected(np.array([80.0]), np.array([70.0])), 80)


class Memory(BaseEstimator, ClassifierMixin):
    """Knows the answers of those it was fitted to by heart, and shrugs at everybody else."""

    def fit(self, features: np.ndarray, targets: np.ndarray) -> "Memory":
        self.known_, self.classes_ = dict(zip(features[:, 0], targets, strict=True)), np.unique(targets)
        return self

    def predict_proba(self, features: np.ndarray) -> np.ndarray:
        known = [self.known_.get(face) for face in features[:, 0]]
        return np.array([[0.5 if one is None else float(one == name) for name in self.classes_] for one in known])

    def predict(self, features: np.ndarray) -> np.ndarray:
        return np.array([float(self.known_.get(face, np.nan)) for face in features[:, 0]])


def _cohort(task: Task, people: int = 60) -> Cohort:
    ids = [f"s{index:03d}" for index in range(people)]
    diagnosis = np.where(np.arange(people) % 2, "AD", "CN")
    frame = pd.DataFrame({"case_id": ids, "subject_id": ids, "session_id": "", "diagnosis": diagnosis})
    subjects = frame.assign(age=np.linspace(50, 90, people)).sample(frac=1, random_state=0)
    return Cohort(task=task, subjects=subjects, splits=make_splits(subjects, task), folder=Path("Dataset001_Made"))


@pytest.mark.parametrize("task", [TASK, AGE])
def test_a_baseline_that_learns_by_heart_has_met_nobody_it_is_asked_about(task: Task) -> None:
    cohort = _cohort(task)
    faces = np.arange(len(cohort.subjects), dtype=float)[:, None]
    table = cross_validate(Baseline(name="memory", model=Memory(), features=faces), cohort)
    assert set(table["part"]) == {"val", "selection"}
    if task is AGE:
        assert table["prediction"].isna().all()
    else:
        assert (table["prob_AD"] == 0.5).all()


def test_a_baseline_says_of_each_case_what_it_thinks_of_that_case() -> None:
    cohort = _cohort(TASK)
    faces = (cohort.subjects["diagnosis"] == "AD").to_numpy(dtype=float)[:, None]
    table = cross_validate(Baseline(name="sees all", model=Memory(), features=faces), cohort)
    assert (table["prob_AD"] == (table["target"] == "AD")).all()
    for fold, rows in table.groupby("fold"):
        for part in ("val", "selection"):
            assert sorted(rows.loc[rows["part"] == part, "case_id"]) == cohort.splits[fold][part]


def test_other_people_are_called_by_the_mean_of_the_folds_thresholds() -> None:
    table = pd.DataFrame({"fold": 0, "part": "val", "subject_id": ["a", "b"], "target": ["CN", "AD"]})
    table = table.assign(prob_CN=[0.6, 0.4], prob_AD=[0.4, 0.6])
    judged = judge_external(table, table[:0], [0.2, 0.3, 0.7], TASK)
    np.testing.assert_allclose(judged.thresholds, 0.4)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 4.0])
def test_a_threshold_moves_with_the_probabilities_that_a_temperature_changes(temperature: float) -> None:
    positive = np.linspace(0.01, 0.99, 99)
    scale = Temperature(value=temperature)
    after = scale.probabilities(np.log(np.stack([1 - positive, positive], axis=1)))[:, 1]
    for threshold in (0.0995, 0.4005, 0.8505):
        np.testing.assert_array_equal(after >= scale.threshold(threshold), positive >= threshold)
    assert scale.threshold(0.8) == pytest.approx(1 / (1 + 0.25 ** (1 / temperature)))


def test_seeds_together_are_called_by_the_mean_of_their_thresholds() -> None:
    targets = np.array([0, 0, 0, 0, 1, 1, 1, 1])
    positive = np.array([0.1, 0.3, 0.3, 0.5, 0.3, 0.5, 0.7, 0.9])
    runs = {seed: _classified(targets, positive, threshold) for seed, threshold in ((1, 0.2), (2, 0.6))}
    together = spread_over_seeds(runs).together
    assert together["specificity_at_selection_threshold"].value == 0.75  # 0.25 at 0.2, 1 at 0.6
    assert together["sensitivity_at_selection_threshold"].value == 0.75  # 1 at 0.2, 0.5 at 0.6


def test_a_birthday_opens_the_next_age_band() -> None:
    ages = np.repeat([39.99, 40.0, 59.99, 60.0, 69.99, 70.0, 79.99, 80.0], 20)
    targets = np.arange(len(ages)) % 2
    it = _classified(targets, np.random.default_rng(0).random(len(ages)))
    table = pd.DataFrame({"case_id": it.subject_ids, "subject_id": it.subject_ids, "age": ages})
    bands = [group for group in describe_subgroups(it, table, 20) if group.column == "age"]
    expected = {"0 to 39": 20, "40 to 59": 40, "60 to 69": 40, "70 to 79": 40, "80 and over": 20}
    assert {group.value: sum(group.subjects_by_class) for group in bands} == expected


def _few_against_many() -> tuple[dict[str, SubjectPredictions], int, int]:
    """Two runs on 24 patients and 200 controls, in four folds."""
    generator = np.random.default_rng(3)
    targets = np.repeat([1, 0], [24, 200])
    folds = np.arange(224) % 4
    shared = generator.normal(size=224)
    logits = {name: shared + generator.normal(size=224) + pull * targets for name, pull in (("a", 1.2), ("b", 0.9))}
    return {name: _classified(targets, 1 / (1 + np.exp(-it)), 0.3, folds) for name, it in logits.items()}, 24, 200


def test_what_a_cohort_of_few_patients_and_many_controls_can_show_counts_each_in_their_role() -> None:
    runs, positives, negatives = _few_against_many()
    found = compare(runs, resamples_of(runs["a"], 50), 1 / 3)
    tests = found.pairs[0].tests
    weaker = min(np.mean(run.auc_by_fold) for run in found.runs)
    expected = detectable_difference(weaker, positives, negatives, tests.delong.correlation)
    swapped = detectable_difference(weaker, negatives, positives, tests.delong.correlation)
    assert tests.detectable_difference == pytest.approx(expected)
    assert abs(expected - swapped) > 1e-3
    assert found.detectable_area == pytest.approx(detectable_area(positives, negatives))
    assert abs(detectable_area(positives, negatives) - detectable_area(negatives, positives)) > 1e-3


def test_networks_disagree_where_their_own_thresholds_say_so() -> None:
    runs, *_ = _few_against_many()
    runs["b"] = replace(runs["b"], thresholds=np.full(224, 0.8))
    right = {name: (run.probabilities[:, 1] >= run.thresholds) == (run.targets == 1) for name, run in runs.items()}
    found = compare(runs, resamples_of(runs["a"], 50), 1 / 3).pairs[0].tests.mcnemar
    assert found.only_first == (right["a"] & ~right["b"]).sum()
    assert found.only_second == (right["b"] & ~right["a"]).sum() != found.only_first


def _table_of_folds(stretch: dict[int, float], shift: float = 0.0) -> pd.DataFrame:
    """Two folds; `selection` says its logits stretched by fold and shifted, `val` as they are."""
    generator = np.random.default_rng(7)
    tables = []
    for fold, factor in stretch.items():
        for part, times, more in (("val", 1.0, 0.0), ("selection", factor, shift)):
            logits = generator.normal(size=600)
            is_patient = generator.random(600) < 1 / (1 + np.exp(-logits))
            positive = 1 / (1 + np.exp(-(times * logits + more)))
            ids = [f"f{fold}{part}{index:03d}" for index in range(600)]
            frame = pd.DataFrame({"fold": fold, "part": part, "subject_id": ids})
            frame["target"] = np.where(is_patient, "AD", "CN")
            tables.append(frame.assign(prob_CN=1 - positive, prob_AD=positive))
    return pd.concat(tables, ignore_index=True)


def test_each_folds_temperature_is_what_its_own_selection_part_asks_for() -> None:
    table = _table_of_folds({0: 3.0, 1: 0.4})
    network = per_subject(table, TASK)
    calibrated, temperatures = calibrate(subject_means(table, TASK), network, TASK)
    assert [one.value for one in temperatures] == pytest.approx([3.0, 0.4], rel=0.3)
    before = network.probabilities[:, 1] >= network.thresholds
    np.testing.assert_array_equal(calibrated.probabilities[:, 1] >= calibrated.thresholds, before)
    for fold, temperature in enumerate(temperatures):
        rows = network.folds == fold
        expected = temperature.probabilities(np.log(network.probabilities[rows]))
        np.testing.assert_allclose(calibrated.probabilities[rows], expected)


def test_thresholds_are_chosen_on_the_selection_part_of_the_same_fold() -> None:
    table = _table_of_folds({0: 1.0, 1: 1.0}, shift=2.0)
    table.loc[table["fold"] == 1, ["prob_CN", "prob_AD"]] = table.loc[
        table["fold"] == 1, ["prob_AD", "prob_CN"]
    ].to_numpy()
    table["target"] = np.where(table["fold"] == 0, table["target"], table["target"].map({"AD": "CN", "CN": "AD"}))
    network = per_subject(table, TASK)
    # where selection is told 2 more in log-odds (2 less in fold 1), its best threshold is too
    odds = np.log(network.thresholds / (1 - network.thresholds))
    assert odds[network.folds == 0].mean() == pytest.approx(2, abs=0.7)
    assert odds[network.folds == 1].mean() == pytest.approx(-2, abs=0.7)
    details = describe_classifier(
        table, network, TASK, resamples_of(network, 20), sensitivity=0.9, prevalences=()
    ).binary
    reached = []
    for fold in (0, 1):
        means = table[table["fold"] == fold]
        chosen_on = means[means["part"] == "selection"]
        limit = chosen_on.loc[chosen_on["target"] == "AD", "prob_AD"].quantile(0.1)
        held_out = means[(means["part"] == "val") & (means["target"] == "AD")]
        reached.append((held_out["prob_AD"] >= limit).to_numpy())
    assert details.at_sensitivity["sensitivity"].value == pytest.approx(np.concatenate(reached).mean(), abs=0.02)
    assert details.at_sensitivity["sensitivity"].value < 0.85  # chosen on the held out it would be 0.9


def test_recalibration_asks_other_people_than_those_it_changes() -> None:
    it = _classified(np.arange(100) % 2, np.random.default_rng(0).random(100))
    found = recalibrate(it, "logistic", resamples_of(it, 20))
    # of noise, what is fitted elsewhere cannot gain here
    assert found.recalibrated["log_loss"].value > np.log(2) - 1e-6


def test_a_gain_is_ours_over_theirs_and_of_the_same_people() -> None:
    targets = np.arange(80) % 2
    ours, theirs = _classified(targets, 0.2 + 0.6 * targets), _classified(targets, np.full(80, 0.5))
    assert gain(ours, theirs, resamples_of(ours, 20)).value == 0.5
    truth = np.linspace(50, 90, 40)
    near, far = _numbers(truth, truth + 1), _numbers(truth, truth + 3)
    assert gain(near, far, resamples_of(near, 20)).value == 2
    with pytest.raises(ValueError, match="same subjects"):
        gain(ours, replace(theirs, subject_ids=theirs.subject_ids[::-1]), resamples_of(ours, 20))


def test_the_pooled_area_sets_folds_against_each_other_and_the_mean_does_not() -> None:
    targets, folds = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    it = _classified(targets, np.array([0.1, 0.2, 0.8, 0.9]), folds=folds)
    scores = {name: float(value[0]) for name, value in all_scores(it, np.ones((1, 4))).items()}
    assert scores["auc_mean_of_folds"] == 1
    assert scores["auc_pooled"] == roc_auc_score(targets, it.probabilities[:, 1]) == 0.75
