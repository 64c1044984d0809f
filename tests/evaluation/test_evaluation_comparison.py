"""Comparisons of runs: known winners, ties, degenerate folds, and the words that go with them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ttest_1samp
from sklearn.metrics import roc_auc_score

from adnext_plugin.evaluation.studies.comparison import bootstrap_p, compare, corrected_resampled_t
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions
from adnext_plugin.evaluation.uncertainty.bootstrap import tail
from adnext_plugin.evaluation.uncertainty.delong import paired_test
from adnext_plugin.evaluation.uncertainty.intervals import resamples_of


def _runs(*gains: float, people: int = 160, classes: int = 2) -> dict[str, SubjectPredictions]:
    """Runs on the same subjects; a larger gain is a better network."""
    generator = np.random.default_rng(0)
    targets = np.arange(people) % classes
    runs = {}
    for number, gain in enumerate(gains):
        logits = generator.normal(size=(people, classes)) + gain * np.eye(classes)[targets]
        runs[f"run{number}"] = SubjectPredictions(
            subject_ids=np.array([f"s{index}" for index in range(people)]),
            targets=targets,
            folds=np.arange(people) // classes % 4,
            probabilities=np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True),
            thresholds=np.full(people, 0.5),
            classes=("CN", "AD", "FTD")[:classes],
        )
    return runs


def _compare(runs: dict[str, SubjectPredictions]):
    return compare(runs, resamples_of(next(iter(runs.values())), 500), 1 / 3)


def test_a_clearly_better_run_is_found_by_every_test() -> None:
    runs = _runs(2.0, 0.2)
    found = _compare(runs)
    (pair,) = found.pairs
    tests = pair.tests
    assert tests.auc_difference.low > 0
    assert max(tests.p.delong, tests.p.bootstrap, tests.p.mcnemar) < 0.01 and tests.p.corrected_t < 0.05
    assert pair.conclusion.startswith("run0 orders subjects like these better than run1.")
    assert "when trained on other subjects" not in pair.conclusion
    assert found.subjects_by_class == (80, 80)
    for run in found.runs:
        it = runs[run.name]
        rows = [it.folds == fold for fold in range(4)]
        expected = [roc_auc_score(it.targets[row], it.probabilities[row, 1]) for row in rows]
        assert run.auc_by_fold == pytest.approx(expected)
        # three ways to the same number
        assert run.auc_mean_of_folds.value == pytest.approx(run.delong.value) == pytest.approx(np.mean(expected))
        assert (run.delong.low, run.delong.high) == (run.auc_mean_of_folds.low, run.auc_mean_of_folds.high)
    one, other = (runs[name] for name in ("run0", "run1"))
    assert tests.delong == paired_test(one.targets == 1, one.probabilities[:, 1], other.probabilities[:, 1], one.folds)


def test_runs_that_cannot_be_told_apart_are_not_called_equal() -> None:
    (pair,) = _compare(_runs(0.8, 0.75)).pairs
    assert "cannot be told apart with this cohort, which is no proof that they are equal" in pair.conclusion
    assert f"would show a difference of {pair.tests.detectable_difference:.3f}" in pair.conclusion
    assert 0.03 < pair.tests.detectable_difference < 0.3


def test_a_run_and_its_copy_differ_by_nothing_even_if_perfect() -> None:
    for gain in (0.5, 50.0):
        runs = _runs(gain)
        (pair,) = _compare({**runs, "copy": runs["run0"]}).pairs
        assert vars(pair.tests.p) == {"delong": 1, "bootstrap": 1, "mcnemar": 1, "corrected_t": 1}
        assert (pair.tests.auc_difference.value, pair.tests.auc_difference.high) == (0, None)
        assert pair.conclusion.startswith("run0 and copy order the subjects alike: nothing here tells them apart")
        assert pair.tests.detectable_difference is None


def test_p_values_of_several_pairs_are_corrected_and_conclusions_follow_the_corrected_ones() -> None:
    found = _compare(_runs(1.1, 0.6, 0.55))
    for test in ("delong", "bootstrap", "mcnemar", "corrected_t"):
        plain = [getattr(pair.tests.p, test) for pair in found.pairs]
        corrected = [getattr(pair.p_holm, test) for pair in found.pairs]
        assert min(corrected) == pytest.approx(min(1, 3 * min(plain)))
        assert all(more >= less for more, less in zip(corrected, plain, strict=True))
    for pair in found.pairs:
        assert ("cannot be told apart" in pair.conclusion) == (pair.p_holm.delong >= 0.05)


def test_three_classes_have_a_bootstrap_and_no_delong() -> None:
    found = _compare(_runs(2.0, 0.3, people=180, classes=3))
    (pair,) = found.pairs
    assert pair.tests.delong is None and pair.tests.detectable_difference is None and found.detectable_area is None
    assert pair.tests.p.bootstrap < 0.01 and pair.conclusion.startswith("run0 orders")
    assert found.subjects_by_class == (60, 60, 60)


def test_a_fold_without_a_class_is_said_to_allow_no_comparison_by_area() -> None:
    runs = {
        name: replace(it, folds=np.where(it.targets == 1, np.maximum(it.folds, 1), it.folds))
        for name, it in _runs(1.0, 0.5).items()
    }
    found = _compare(runs)
    (pair,) = found.pairs
    assert found.runs[0].auc_by_fold[0] is None and found.runs[0].auc_mean_of_folds.value is None
    assert (pair.tests.p.delong, pair.tests.p.bootstrap, pair.tests.p.corrected_t) == (None, None, None)
    assert pair.tests.p.mcnemar is not None
    assert pair.conclusion == "run0 and run1 cannot be compared by area: a fold lacks a class."


def test_the_corrected_t_is_students_with_the_larger_variance() -> None:
    differences = np.array([0.05, 0.02, 0.08, 0.01])
    plain = ttest_1samp(differences, 0)
    assert corrected_resampled_t(differences, 0.0).p == pytest.approx(plain.pvalue)
    found = corrected_resampled_t(differences, 1 / 3)
    # (1/4 + 1/3) / (1/4) times the variance
    assert found.standard_error == pytest.approx(differences.std(ddof=1) / 2 * np.sqrt(7 / 3))
    assert found.p > plain.pvalue
    assert corrected_resampled_t(np.zeros(4), 1 / 3).p == 1
    assert corrected_resampled_t(np.full(4, 0.1), 1 / 3).p is None
    assert corrected_resampled_t(np.array([0.1]), 1 / 3).p is None


def test_the_bootstraps_p_is_small_just_where_the_interval_leaves_out_0() -> None:
    drawn, many = np.arange(1, 2001) / 2000, 10**6
    assert bootstrap_p(drawn - 0.02, many) < 0.05 < bootstrap_p(drawn - 0.03, many)
    assert bootstrap_p(drawn, many) == pytest.approx(2 / 2001, rel=1e-3)
    assert bootstrap_p(np.full(5, np.nan), many) is None
    # of few people the interval is wider, and p larger
    assert bootstrap_p(drawn - 0.02, 10) > 0.05 and bootstrap_p(drawn, 7) is None
    limit = tail(10)
    assert bootstrap_p(drawn - limit + 0.002, 10) < 0.05 < bootstrap_p(drawn - limit - 0.002, 10)


def test_runs_on_too_few_people_are_not_tested_and_the_reason_is_said() -> None:
    (pair,) = _compare(_runs(2.0, 0.2, people=14)).pairs
    assert (pair.tests.p.delong, pair.tests.p.bootstrap, pair.tests.auc_difference.low) == (None, None, None)
    assert pair.conclusion.endswith("cannot be compared by area: 7 subjects, of a class or in all, are fewer than 8.")
