"""Scores, intervals and baselines against scikit-learn, slow loops and worked cases."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    mean_absolute_error,
    r2_score,
    recall_score,
    roc_auc_score,
)

from adnext_plugin.cohort import Cohort
from adnext_plugin.evaluation.scores.areas import binary_auc
from adnext_plugin.evaluation.scores.panel import all_scores, fold_scores
from adnext_plugin.evaluation.studies.baselines import covariates, cross_validate, knows_nothing, voxels
from adnext_plugin.evaluation.studies.crossval import evaluate
from adnext_plugin.evaluation.subjects.predictions import (
    SubjectPredictions,
    per_subject,
    youden_threshold,
)
from adnext_plugin.evaluation.subjects.values import values_per_subject
from adnext_plugin.evaluation.uncertainty.intervals import estimates, gain, resamples_of
from adnext_plugin.splits.drawing import make_splits
from adnext_plugin.task import Task

TASK = Task(name="AD", target="diagnosis", classes=("CN", "AD"))


def _predictions(seed: int, people: int = 80, classes: int = 2, folds: int = 4) -> SubjectPredictions:
    generator = np.random.default_rng(seed)
    targets = np.arange(people) % classes
    # rounded, so that there are ties
    logits = generator.normal(size=(people, classes)).round(1)
    logits[np.arange(people), targets] += 1
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return SubjectPredictions(
        subject_ids=np.array([f"s{index}" for index in range(people)]),
        targets=targets,
        folds=generator.permutation(np.arange(people) % folds),
        probabilities=probabilities,
        thresholds=np.full(people, 0.4),
        classes=("CN", "MCI", "AD")[:classes] if classes > 2 else ("CN", "AD"),
    )


def _drawn(predictions: SubjectPredictions, resamples: int, seed: int = 0) -> np.ndarray:
    return np.concatenate(list(resamples_of(predictions, resamples, seed).blocks()))


def _ones(predictions: SubjectPredictions) -> np.ndarray:
    return np.ones((1, len(predictions.targets)))


@pytest.mark.parametrize("seed", range(5))
def test_scores_of_two_classes_are_scikit_learns(seed: int) -> None:
    it = _predictions(seed)
    scores = {name: value[0] for name, value in all_scores(it, _ones(it)).items()}
    called, thresholded = it.probabilities.argmax(axis=1), it.probabilities[:, 1] >= 0.4
    by_fold = [roc_auc_score(it.targets[it.folds == fold], it.probabilities[it.folds == fold, 1]) for fold in range(4)]
    expected = {
        "auc_pooled": roc_auc_score(it.targets, it.probabilities[:, 1]),
        "auc_mean_of_folds": np.mean(by_fold),
        "accuracy": accuracy_score(it.targets, called),
        "balanced_accuracy": balanced_accuracy_score(it.targets, called),
        "sensitivity": recall_score(it.targets, called),
        "specificity": recall_score(it.targets, called, pos_label=0),
        "accuracy_at_selection_threshold": accuracy_score(it.targets, thresholded),
        "balanced_accuracy_at_selection_threshold": balanced_accuracy_score(it.targets, thresholded),
        "sensitivity_at_selection_threshold": recall_score(it.targets, thresholded),
        "specificity_at_selection_threshold": recall_score(it.targets, thresholded, pos_label=0),
    }
    assert scores == pytest.approx(expected, abs=1e-12)


def test_scores_of_three_classes_are_scikit_learns_one_against_the_rest() -> None:
    it = _predictions(0, classes=3)
    scores = {name: value[0] for name, value in all_scores(it, _ones(it)).items()}
    assert scores["auc_pooled"] == pytest.approx(roc_auc_score(it.targets, it.probabilities, multi_class="ovr"))
    assert scores["balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(it.targets, it.probabilities.argmax(axis=1))
    )
    assert "sensitivity" not in scores
    of_mci = [roc_auc_score(it.targets[rows] == 1, it.probabilities[rows, 1]) for rows in _rows_of_folds(it)]
    assert scores["auc_of_MCI_mean_of_folds"] == pytest.approx(np.mean(of_mci))
    recalls = recall_score(it.targets, it.probabilities.argmax(axis=1), average=None)
    assert [scores[f"recall_of_{name}"] for name in it.classes] == pytest.approx(recalls.tolist())
    assert scores["auc_mean_of_folds"] == pytest.approx(
        np.mean([scores[f"auc_of_{name}_mean_of_folds"] for name in it.classes])
    )


def _rows_of_folds(predictions: SubjectPredictions) -> list[np.ndarray]:
    return [predictions.folds == fold for fold in range(4)]


def test_the_auc_of_many_resamples_at_once_equals_a_loop_over_them() -> None:
    it = _predictions(1, people=40)
    weights = _drawn(it, 30, seed=3)
    found = binary_auc(it.targets == 1, it.probabilities[:, 1], weights)
    for row, value in zip(weights.astype(int), found, strict=True):
        drawn = np.repeat(np.arange(40), row)
        assert value == pytest.approx(roc_auc_score(it.targets[drawn], it.probabilities[drawn, 1]), abs=1e-12)


def test_resamples_keep_the_size_of_every_class_and_not_of_its_folds() -> None:
    it = _predictions(2)
    weights = _drawn(it, 50)
    for target in range(2):
        members = it.targets == target
        assert (weights[:, members].sum(axis=1) == members.sum()).all()
        assert weights[:, members & (it.folds == 0)].sum(axis=1).std() > 1
    assert weights.std() > 0.5
    assert np.array_equal(weights, _drawn(it, 50))


def test_perfect_separation_and_an_absent_class_have_sensible_answers() -> None:
    perfect = np.array([0.1, 0.2, 0.8, 0.9])
    labels = np.array([False, False, True, True])
    assert binary_auc(labels, perfect, np.ones((1, 4)))[0] == 1
    assert binary_auc(labels, -perfect, np.ones((1, 4)))[0] == 0
    assert binary_auc(labels, np.zeros(4), np.ones((1, 4)))[0] == 0.5
    assert np.isnan(binary_auc(np.ones(4, dtype=bool), perfect, np.ones((1, 4)))[0])
    it = _predictions(0)
    one_class = SubjectPredictions(**{**vars(it), "folds": np.where(it.targets == 1, 0, it.folds)})
    found = estimates(one_class, resamples_of(one_class, 100))
    assert found["auc_mean_of_folds"].value is None
    assert found["auc_pooled"].value is not None


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    covered = 0
    truth = 0.7602  # of two unit normals one apart: Phi(1 / sqrt(2))
    for seed in range(120):
        generator = np.random.default_rng(seed)
        targets = np.arange(100) % 2
        scores = generator.normal(size=100) + targets
        it = SubjectPredictions(
            subject_ids=np.arange(100),
            targets=targets,
            folds=np.zeros(100, dtype=int),
            probabilities=np.stack([-scores, scores], axis=1),
            thresholds=np.zeros(100),
            classes=TASK.classes,
        )
        interval = estimates(it, resamples_of(it, 300, seed))["auc_pooled"]
        covered += interval.low <= truth <= interval.high
    assert 0.88 <= covered / 120 <= 0.99


def test_a_network_compared_with_itself_differs_by_nothing() -> None:
    it = _predictions(0)
    nothing = {"value": 0, "low": None, "high": None, "note": "the two order the subjects alike"}
    assert vars(gain(it, it, resamples_of(it, 100))) == nothing


@pytest.mark.parametrize(
    ("scores", "labels", "threshold"),
    [
        ([0.1, 0.3, 0.6, 0.9], [0, 0, 1, 1], 0.45),  # halfway between the classes
        ([0.2, 0.8], [1, 1], 0.5),  # only one class to choose on
        ([0.1, 0.4, 0.5, 0.7], [0, 1, 0, 1], 0.6),  # of two equally good ones the less extreme
    ],
)
def test_the_threshold_is_youdens(scores: list[float], labels: list[int], threshold: float) -> None:
    assert youden_threshold(np.array(labels, dtype=bool), np.array(scores)) == pytest.approx(threshold)


def test_several_scans_of_a_subject_count_as_one_prediction() -> None:
    rows = [
        # fold, part, subject, target, probability of AD
        (0, "val", "a", "AD", 0.9),
        (0, "val", "a", "AD", 0.5),
        (0, "val", "b", "CN", 0.2),
        (0, "selection", "c", "CN", 0.3),
        (0, "selection", "d", "AD", 0.6),
    ]
    table = pd.DataFrame(rows, columns=["fold", "part", "subject_id", "target", "prob_AD"])
    it = per_subject(table.assign(prob_CN=1 - table["prob_AD"]), TASK)
    assert it.subject_ids.tolist() == ["a", "b"]
    np.testing.assert_allclose(it.probabilities[:, 1], [0.7, 0.2])
    np.testing.assert_allclose(it.thresholds, 0.45)


def _cohort(people: int = 120) -> pd.DataFrame:
    generator = np.random.default_rng(0)
    diagnosis = np.where(np.arange(people) % 2 == 1, "AD", "CN")
    ids = [f"s{index:03d}" for index in range(people)]
    age = 70 + 8 * (diagnosis == "AD") + generator.normal(0, 6, people)
    age[::10] = np.nan
    sex = generator.choice(["M", "F"], people)
    return pd.DataFrame(
        {"case_id": ids, "subject_id": ids, "session_id": "", "diagnosis": diagnosis, "age": age, "sex": sex}
    )


def _with_folds(subjects: pd.DataFrame, task: Task) -> Cohort:
    return Cohort(task=task, subjects=subjects, splits=make_splits(subjects, task), folder=Path("Dataset001_Made"))


def test_baselines_find_what_is_there_and_nothing_where_there_is_nothing() -> None:
    subjects = _cohort()
    cohort = _with_folds(subjects, TASK)
    generator = np.random.default_rng(1)
    is_patient = (subjects["diagnosis"] == "AD").to_numpy()
    volumes = {
        case: generator.normal(size=(17, 16, 16)) + 0.5 * sick
        for case, sick in zip(subjects["case_id"], is_patient, strict=True)
    }
    tables = {
        baseline.name: cross_validate(baseline, cohort)
        for baseline in (
            knows_nothing(cohort),
            covariates(cohort, ["age", "sex"]),
            covariates(cohort, ["sex"]),
            voxels(cohort, volumes.__getitem__, (4.0, 4.0, 4.0)),
        )
    }
    weights = np.ones((1, len(subjects)))
    aucs = {
        name: all_scores(per_subject(table, TASK), weights)["auc_mean_of_folds"][0] for name, table in tables.items()
    }
    assert aucs["majority"] == 0.5
    assert 0.65 < aucs["age+sex"] < 0.95
    assert 0.3 < aucs["sex"] < 0.65
    assert aucs["voxels (L2, 6 mm)"] > 0.95
    for table in tables.values():
        assert sorted(table.loc[table["part"] == "val", "case_id"]) == sorted(subjects["case_id"])
        np.testing.assert_allclose(table[["prob_CN", "prob_AD"]].sum(axis=1), 1)


def test_a_network_better_than_its_baseline_is_said_to_be() -> None:
    cohort = _with_folds(_cohort(), TASK)
    table = cross_validate(covariates(cohort, ["age"]), cohort)
    evaluation, _ = evaluate(table, [knows_nothing(cohort)], cohort, resamples=200)
    found = evaluation.baselines[0].gain_of_network
    assert found.low > 0 and found.value == pytest.approx(evaluation.scores["auc_mean_of_folds"].value - 0.5)
    assert [fold.subjects for fold in evaluation.folds] == [30] * 4
    by_fold = [fold.scores["accuracy"] for fold in evaluation.folds]
    over = evaluation.means_of_folds["accuracy"]
    assert (over.mean, over.standard_deviation) == pytest.approx((np.mean(by_fold), np.std(by_fold, ddof=1)))


def test_on_real_subjects_brain_volume_beats_age_and_sex(real_data) -> None:
    table = pd.read_csv(real_data / "oasis1" / "oasis1.csv")
    table = table[(table["Age"] >= 60) & (table["session"] == "MR1")]
    subjects = pd.DataFrame(
        {
            "case_id": table["ID"],
            "subject_id": table["subject_id"],
            "session_id": "",
            "diagnosis": np.where(table["CDR"] > 0, "AD", "CN"),
            "age": table["Age"],
            "sex": table["M/F"],
            "nWBV": table["nWBV"],
        }
    )
    cohort = _with_folds(subjects, TASK)
    aucs = [
        roc_auc_score(found.loc[found["part"] == "val", "target"] == "AD", found.loc[found["part"] == "val", "prob_AD"])
        for found in (
            cross_validate(covariates(cohort, columns), cohort) for columns in (["age", "sex"], ["age", "sex", "nWBV"])
        )
    ]
    assert 0.5 < aucs[0] < 0.65 and 0.68 < aucs[1] < 0.79


AGE = Task(name="Age", kind="regression", target="age", derived_from=("age",))


def test_predicted_numbers_are_scored_per_subject_as_scikit_learn_does() -> None:
    subjects = _cohort().assign(age=np.linspace(20, 90, 120))
    generator = np.random.default_rng(5)
    rows = []
    for fold, parts in enumerate(make_splits(subjects, AGE)):
        for part in ("val", "selection"):
            for case in parts[part]:
                age = subjects.set_index("case_id").loc[case, "age"]
                # a network that is unsure: halfway to the mean
                rows += [(fold, part, case, age, 0.5 * age + 27 + generator.normal(0, 3)) for _ in range(2)]
    table = pd.DataFrame(rows, columns=["fold", "part", "subject_id", "target", "prediction"])
    it = values_per_subject(table)
    assert len(it.targets) == 120
    scores = {name: value[0] for name, value in all_scores(it, _ones(it)).items()}
    assert scores["mae"] == pytest.approx(mean_absolute_error(it.targets, it.values))
    assert scores["r2"] == pytest.approx(r2_score(it.targets, it.values))
    assert scores["bias_slope"] == pytest.approx(np.polyfit(it.targets, it.values - it.targets, 1)[0])
    assert scores["bias_slope"] == pytest.approx(-0.5, abs=0.05)
    assert abs(scores["bias_slope_after_correction"]) < 0.05
    assert fold_scores(it.of_fold(2))["mae"] == pytest.approx(
        mean_absolute_error(it.targets[it.folds == 2], it.values[it.folds == 2])
    )


def test_baselines_of_a_regression_and_the_gain_over_them_in_years() -> None:
    generator = np.random.default_rng(0)
    subjects = _cohort().assign(age=generator.uniform(20, 90, 120))
    subjects["nWBV"] = 0.9 - 0.002 * subjects["age"] + generator.normal(0, 0.01, 120)
    cohort = _with_folds(subjects, AGE)
    for fold in cohort.splits:
        ages = subjects.set_index("case_id")["age"]
        assert abs(ages[fold["val"]].mean() - ages.mean()) < 3  # folds are balanced by quantile
    table = cross_validate(covariates(cohort, ["nWBV"]), cohort)
    evaluation, _ = evaluate(table, [knows_nothing(cohort)], cohort, resamples=200)
    assert evaluation.primary_score == "mae"
    assert evaluation.scores["mae"].value < 6 and evaluation.baselines[0].scores["mae"].value > 15
    found = evaluation.baselines[0].gain_of_network
    assert found.low > 5
    assert found.value == pytest.approx(evaluation.baselines[0].scores["mae"].value - evaluation.scores["mae"].value)
