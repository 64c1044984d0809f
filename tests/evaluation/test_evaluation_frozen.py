"""Probes of frozen features find what is in them and no more; repeated scans are compared by the textbook's formula."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from adnext_plugin.cohort import Cohort
from adnext_plugin.evaluation.studies.frozen import ENCODER, probe_column
from adnext_plugin.evaluation.studies.reliability import intraclass_correlation, reliability
from adnext_plugin.evaluation.studies.tissues import tissue_litres
from adnext_plugin.splits.drawing import make_splits
from adnext_plugin.task import Task

PEOPLE = 80


def _cohort() -> tuple[Cohort, dict[str, np.ndarray]]:
    """People of whom one encoder knows age and sex, another nothing."""
    generator = np.random.default_rng(0)
    sex, age = generator.integers(2, size=PEOPLE), generator.uniform(20, 90, PEOPLE)
    ids = [f"s{index:02d}" for index in range(PEOPLE)]
    subjects = pd.DataFrame({"case_id": ids, "subject_id": ids, "session_id": "M0", "group": "ab"[0]})
    subjects = subjects.assign(
        group=np.where(np.arange(PEOPLE) % 2, "a", "b"), sex=np.where(sex, "M", "F"), age=age, site="", rare="x"
    )
    subjects.loc[:3, "sex"] = ""
    subjects.loc[:4, "rare"] = "y"
    task = Task(name="Some", target="group", classes=("a", "b"))
    features = generator.normal(size=(PEOPLE, 12))
    knowing = features + np.outer(sex, np.eye(12)[0] * 4) + np.outer((age - 55) / 20, np.eye(12)[1] * 3)
    cohort = Cohort(task=task, subjects=subjects, splits=make_splits(subjects, task), folder=Path("Dataset999_Some"))
    return cohort, {ENCODER: knowing, "random encoder": features}


def test_words_are_told_from_features_that_hold_them_and_not_from_others() -> None:
    cohort, features = _cohort()
    found = probe_column(cohort, "sex", features, [("age", "sex")], resamples=200)
    assert (found.kind, found.classes, found.subjects) == ("classification", ("F", "M"), PEOPLE - 4)
    assert found.score == "auc_mean_of_folds"
    assert found.models[ENCODER].value > 0.9 and found.gains["random encoder"].low > 0
    assert found.models["random encoder"].low < 0.5 < found.models["random encoder"].high
    # of age and sex, what is asked for is left out
    assert list(found.models) == [ENCODER, "random encoder", "age", "majority"]


def test_numbers_are_told_with_their_error_beside_that_of_the_mean() -> None:
    cohort, features = _cohort()
    found = probe_column(cohort, "age", features, [("age", "sex")], resamples=200)
    assert (found.kind, found.subjects, found.score) == ("regression", PEOPLE, "mae")
    assert found.models[ENCODER].value < 8 < 15 < found.models["mean"].value
    assert found.gains["mean"].value == pytest.approx(found.models["mean"].value - found.models[ENCODER].value)
    assert list(found.models) == [ENCODER, "random encoder", "sex", "mean"]


@pytest.mark.parametrize(("column", "people"), [("site", 0), ("rare", PEOPLE)])
def test_what_is_known_of_too_few_is_not_asked(column: str, people: int) -> None:
    cohort, features = _cohort()
    found = probe_column(cohort, column, features, resamples=200)
    assert (found.kind, found.subjects, found.models) == ("too few", people, {})


def test_intraclass_correlation_is_that_of_a_one_way_analysis_of_variance() -> None:
    first, second = np.array([9.0, 6, 8, 7, 10]), np.array([8.0, 5, 9, 7, 12])
    both = np.stack([first, second], axis=1)
    between = 2 * ((both.mean(axis=1) - both.mean()) ** 2).sum() / 4
    within = ((both - both.mean(axis=1, keepdims=True)) ** 2).sum() / 5
    expected = (between - within) / (between + within)
    found = intraclass_correlation(np.stack([first, first, first * 0], 1), np.stack([second, first, first * 0], 1))
    assert found[:2] == pytest.approx([expected, 1]) and np.isnan(found[2])


def test_people_are_recognised_by_features_that_are_theirs() -> None:
    generator = np.random.default_rng(0)
    own = generator.normal(size=(30, 20))
    again = own[:12] + 0.2 * generator.normal(size=(12, 20))
    subjects = [f"s{index:02d}" for index in range(30)] + [f"s{index:02d}" for index in range(12)]
    cases = [f"{subject}_1" for subject in subjects[:30]] + [f"{subject}_2" for subject in subjects[30:]]
    stable = reliability(np.concatenate([own, again]), subjects, cases)
    noise = reliability(generator.normal(size=(42, 20)), subjects, cases)
    assert stable.people == 12 and stable.low > 0.85 and stable.share_recognised == 1
    # variances of 1 and 0.04: 1 / 1.02 but for chance
    assert stable.median_icc == pytest.approx(1 / 1.02, abs=0.03)
    assert noise.median_icc < 0.35 and noise.share_recognised < 0.4
    assert reliability(own[:6], subjects[:6], cases[:6]) is None


def test_tissues_are_told_apart_by_brightness() -> None:
    volume = np.zeros((10, 10, 10))
    volume[:5], volume[5:8], volume[8:9] = 2.0, 1.0, -2.0
    noisy = volume + np.where(volume != 0, np.random.default_rng(0).normal(0, 0.05, volume.shape), 0)
    litres = tissue_litres(noisy, (10.0, 10.0, 10.0))
    np.testing.assert_allclose(litres, [0.1, 0.3, 0.5, 0.9, 8 / 9])
    assert tissue_litres(np.zeros((4, 4, 4)), (1, 1, 1)).tolist() == [0] * 5
