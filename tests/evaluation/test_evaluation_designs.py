"""Repeated cross-validation and a fixed hold-out are scored as what they are, beside scikit-learn's answers."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm, t
from sklearn.metrics import mean_absolute_error, precision_score, roc_auc_score

from adnext_plugin.cohort import Cohort
from adnext_plugin.evaluation.scores.table import BUILT_IN
from adnext_plugin.evaluation.studies.baselines import knows_nothing
from adnext_plugin.evaluation.studies.crossval import describe_design, evaluate, of_subjects, scores_for
from adnext_plugin.evaluation.subjects.fold_files import with_repeats
from adnext_plugin.splits.drawing import make_splits
from adnext_plugin.splits.folds import check_splits
from adnext_plugin.task import Task

CLASSES = Task(name="AD", target="diagnosis", classes=("CN", "AD"))
AGE = Task(name="Age", kind="regression", target="age")
PEOPLE = 48


def _subjects() -> pd.DataFrame:
    generator = np.random.default_rng(3)
    names = [f"s{number:02d}" for number in range(PEOPLE)]
    return pd.DataFrame(
        {
            "case_id": [f"{name}_M00" for name in names],
            "subject_id": names,
            "session_id": "M00",
            "diagnosis": np.where(np.arange(PEOPLE) % 3 == 0, "AD", "CN"),
            "age": generator.uniform(50, 90, PEOPLE),
        }
    )


def _cohort(task: Task, repeats: int) -> Cohort:
    subjects = _subjects()
    splits = [fold for seed in range(repeats) for fold in make_splits(subjects, task, folds=4, seed=seed)]
    check_splits(splits, subjects, "here")
    return Cohort(task=task, subjects=subjects, splits=splits, folder=Path("Dataset001_Of_Numbers"))


def _table(cohort: Cohort, seed: int = 0) -> pd.DataFrame:
    """Predictions that are right by half, others in every fold."""
    generator = np.random.default_rng(seed)
    tables = []
    for fold, parts in enumerate(cohort.splits):
        for part in ("val", "selection"):
            rows = cohort.rows(parts[part]).reset_index()
            table = rows[["case_id", "subject_id", "session_id"]].assign(fold=fold, part=part)
            noise = generator.normal(size=len(rows))
            if cohort.task.kind == "regression":
                table = table.assign(target=rows["age"], prediction=rows["age"] + 5 * noise)
            else:
                chance = 1 / (1 + np.exp(-(1.2 * (rows["diagnosis"] == "AD") + noise - fold / 4)))
                table = table.assign(target=rows["diagnosis"], prob_CN=1 - chance, prob_AD=chance)
            tables.append(table)
    return with_repeats(pd.concat(tables, ignore_index=True), cohort)


def _held_out(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["part"] == "val"]


def _area(rows: pd.DataFrame) -> float:
    return float(roc_auc_score(rows["target"] == "AD", rows["prob_AD"]))


def test_scores_of_a_repeated_cross_validation_are_means_of_its_repeats() -> None:
    cohort = _cohort(CLASSES, 3)
    assert cohort.repeats == ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11))
    table = _table(cohort)
    found, network = evaluate(table, [knows_nothing(cohort)], cohort, resamples=200)
    design = describe_design(network, cohort)
    assert design is not None and (design.kind, design.held_out, design.subjects) == (
        "repeated cross-validation",
        PEOPLE,
        PEOPLE,
    )
    repeats = [rows for _, rows in _held_out(table).groupby("repeat")]
    assert [len(rows) for rows in repeats] == [PEOPLE] * 3 and found.subjects == PEOPLE
    expected = {
        "auc_mean_of_folds": [np.mean([_area(fold) for _, fold in rows.groupby("fold")]) for rows in repeats],
        "auc_pooled": [_area(rows) for rows in repeats],
        "ppv": [precision_score(rows["target"] == "AD", rows["prob_AD"] >= 0.5) for rows in repeats],
        "accuracy": [((rows["prob_AD"] >= 0.5) == (rows["target"] == "AD")).mean() for rows in repeats],
    }
    for name, values in expected.items():
        assert found.scores[name].value == pytest.approx(np.mean(values), abs=1e-12), name
        assert [one.scores[name] for one in design.repeats] == pytest.approx(values, abs=1e-12), name
    assert len(found.folds) == 12 and found.folds[7].scores["auc"] == pytest.approx(
        _area(_held_out(table)[_held_out(table)["fold"] == 7]), abs=1e-12
    )
    assert expected["auc_pooled"] != pytest.approx([_area(_held_out(table))] * 3, abs=1e-3)  # of all rows in one


def test_the_interval_of_a_repeated_cross_validation_resamples_people() -> None:
    cohort = _cohort(CLASSES, 3)
    table = _table(cohort)
    found, _ = evaluate(table, [knows_nothing(cohort)], cohort, resamples=1000)
    scores = _held_out(table).pivot(index=["target", "subject_id"], columns="repeat", values="prob_AD")
    patients, controls = scores.loc["AD"].to_numpy(), scores.loc["CN"].to_numpy()
    assert (patients.shape, controls.shape) == ((16, 3), (32, 3))
    generator = np.random.default_rng(1)
    drawn = []
    for _ in range(3000):  # people, with their predictions in all repeats
        these, those = patients[generator.integers(16, size=16)], controls[generator.integers(32, size=32)]
        drawn.append((these[:, None] > those[None]).mean())
    assert found.scores["auc_pooled"].value == pytest.approx((patients[:, None] > controls[None]).mean(), abs=1e-12)
    estimate = found.scores["auc_pooled"]
    # percentiles that lie as much farther out as 16 patients ask for
    tail = norm.cdf(-t.ppf(0.975, 15) * np.sqrt(16 / 15))
    assert estimate.high - estimate.low == pytest.approx(np.ptp(np.quantile(drawn, [tail, 1 - tail])), rel=0.1)
    assert estimate.low == pytest.approx(np.quantile(drawn, tail), abs=0.025)
    gain = found.baselines[0].gain_of_network
    assert gain.value == pytest.approx(found.scores["auc_mean_of_folds"].value - 0.5, abs=1e-12)
    assert gain.low < gain.value < gain.high


@pytest.mark.parametrize("task", [CLASSES, AGE])
def test_repeats_that_say_the_same_make_nothing_surer(task: Task) -> None:
    once = _cohort(task, 1)
    twice = Cohort(task=task, subjects=once.subjects, splits=[*once.splits, *once.splits], folder=once.folder)
    table = _table(once)
    doubled = pd.concat([table, table.assign(fold=table["fold"] + 4)], ignore_index=True)
    alone, _ = evaluate(table, [knows_nothing(once)], once, resamples=300)
    both, _ = evaluate(with_repeats(doubled, twice), [knows_nothing(twice)], twice, resamples=300)
    assert both.subjects == alone.subjects == PEOPLE
    for name, one in alone.scores.items():
        assert both.scores[name].value == pytest.approx(one.value, abs=1e-12), name
    names = ["mae", "r2", "bias_slope"] if task is AGE else ["average_precision_mean_of_folds", "mcc", "log_loss"]
    for name in names:  # those that have resamples in both
        assert (both.scores[name].low, both.scores[name].high) == pytest.approx(
            (alone.scores[name].low, alone.scores[name].high), abs=1e-12
        ), name
    if task is CLASSES:  # in closed form once, by resamples here: the width must not shrink by the square root of 2
        widths = [one.scores["auc_mean_of_folds"] for one in (alone, both)]
        first, second = (one.high - one.low for one in widths)
        assert 0.85 < second / first < 1.25
        assert both.details == alone.details  # of the first repeat


def test_a_fixed_hold_out_is_scored_on_those_held_out_and_says_how_many() -> None:
    for task in (CLASSES, AGE):
        cohort = _cohort(task, 1)
        cohort = Cohort(task=task, subjects=cohort.subjects, splits=cohort.splits[:1], folder=cohort.folder)
        check_splits(list(cohort.splits), cohort.subjects, "here")
        assert cohort.is_hold_out and cohort.repeats == ((0,),)
        table = _table(cohort)
        scores = scores_for(cohort, BUILT_IN)
        found, network = evaluate(table, [knows_nothing(cohort)], cohort, resamples=100, scores=scores)
        rows = _held_out(table)
        design = describe_design(network, cohort, scores)
        assert design is not None and design.kind == "fixed hold-out" and design.repeats == ()
        assert (design.held_out, design.subjects) == (len(rows), PEOPLE) and len(rows) == PEOPLE // 4
        assert "repeat" not in table and found.subjects == len(rows) and len(found.folds) == 1
        assert "auc_pooled" not in found.scores and found.means_of_folds == {}
        assert all("auc_pooled" not in baseline.scores for baseline in found.baselines)
        if task is CLASSES:
            assert found.scores["auc_mean_of_folds"].value == pytest.approx(_area(rows), abs=1e-12)
        else:
            expected = mean_absolute_error(rows["target"], rows["prediction"])
            assert found.scores["mae"].value == pytest.approx(expected, abs=1e-12)


def test_one_cross_validation_is_what_it_was() -> None:
    cohort = _cohort(CLASSES, 1)
    table = _table(cohort)
    _, network = evaluate(table, [knows_nothing(cohort)], cohort, resamples=100)
    assert describe_design(network, cohort) is None and "repeat" not in table
    assert of_subjects(table, CLASSES).repeats is None and scores_for(cohort, BUILT_IN) == BUILT_IN
