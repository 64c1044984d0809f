"""Subgroups: each holds its own people, is scored like them, and says nothing where they are few."""

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from adnext_plugin.evaluation.scores.within_site import describe_within_site, within_site_auc
from adnext_plugin.evaluation.studies.subgroups import describe_subgroups
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions
from adnext_plugin.evaluation.subjects.values import SubjectValues
from adnext_plugin.evaluation.uncertainty.intervals import resamples_of


def test_subgroups_hold_their_own_people_and_small_ones_say_nothing() -> None:
    generator = np.random.default_rng(0)
    ids = np.array([f"s{index:03d}" for index in range(200)])
    targets = np.arange(200) % 2
    positive = 1 / (1 + np.exp(-generator.normal(targets)))
    predictions = SubjectPredictions(
        subject_ids=ids,
        targets=targets,
        folds=np.arange(200) % 4,
        probabilities=np.stack([1 - positive, positive], axis=1),
        thresholds=np.full(200, 0.5),
        classes=("CN", "AD"),
    )
    age = np.where(np.arange(200) < 19, 39.9, 71.0)
    age[150:] = np.nan
    sex = np.where(np.arange(200) < 80, "F", "M")
    table = pd.DataFrame({"case_id": ids, "subject_id": ids, "age": age, "sex": sex, "site": "one"})
    shuffled = table.sample(frac=1, random_state=0)
    found = {(group.column, group.value): group for group in describe_subgroups(predictions, shuffled)}
    assert list(found) == [("all", "everybody"), ("sex", "F"), ("sex", "M"), ("age", "0 to 39"), ("age", "70 to 79")]
    women = found["sex", "F"]
    assert women.subjects_by_class == (40, 40)
    assert women.score.value == pytest.approx(roc_auc_score(targets[:80], positive[:80]))
    assert women.score.low < women.score.value < women.score.high
    assert found["age", "0 to 39"].subjects_by_class == (10, 9)
    assert found["age", "0 to 39"].score is None
    assert sum(found["age", "70 to 79"].subjects_by_class) == 131


def test_a_quantity_is_scored_by_its_error() -> None:
    ids = np.array([f"s{index:02d}" for index in range(40)])
    truth = np.arange(40.0)
    error = np.where(np.arange(40) < 20, 1.0, 3.0)
    folds = np.arange(40) % 2
    values = SubjectValues(subject_ids=ids, targets=truth, folds=folds, values=truth + error, corrected=truth + error)
    table = pd.DataFrame({"case_id": ids, "subject_id": ids, "sex": np.where(np.arange(40) < 20, "F", "M")})
    everybody, women, men = describe_subgroups(values, table, resamples=100)
    assert (everybody.score.value, women.score.value, men.score.value) == (2, 1, 3)


def _of_sites() -> tuple[SubjectPredictions, np.ndarray]:
    """Sites that differ in their share of patients, and a network that sees the site and nothing else, with ties."""
    generator = np.random.default_rng(0)
    sites = np.array(["a", "b", "c", ""])[generator.integers(0, 4, 120)]
    likely = pd.Series(sites).map({"a": 0.2, "b": 0.5, "c": 0.8, "": 0.5}).to_numpy()
    targets = (generator.random(120) < likely).astype(int)
    positive = (likely + generator.normal(0, 0.1, 120)).round(2).clip(0, 1)
    predictions = SubjectPredictions(
        subject_ids=np.array([f"s{index:03d}" for index in range(120)]),
        targets=targets,
        folds=np.arange(120) % 4,
        probabilities=np.stack([1 - positive, positive], axis=1),
        thresholds=np.full(120, 0.5),
        classes=("CN", "AD"),
    )
    return predictions, sites


def test_pairs_within_sites_are_counted_one_by_one() -> None:
    predictions, sites = _of_sites()
    weights = np.random.default_rng(1).integers(0, 3, (3, 120)).astype(float)
    expected = []
    for drawn in weights:
        wins = pairs = 0.0
        for first, second in itertools.product(range(120), repeat=2):
            if sites[first] == sites[second] != "" and predictions.targets[first] > predictions.targets[second]:
                gap = predictions.probabilities[first, 1] - predictions.probabilities[second, 1]
                wins += drawn[first] * drawn[second] * ((gap > 0) + (gap == 0) / 2)
                pairs += drawn[first] * drawn[second]
        expected.append(wins / pairs)
    np.testing.assert_allclose(within_site_auc(predictions, sites, weights), expected)


def test_a_network_that_only_knows_the_site_is_found_out_and_few_people_say_nothing() -> None:
    predictions, sites = _of_sites()
    table = pd.DataFrame({"case_id": predictions.subject_ids, "subject_id": predictions.subject_ids, "site": sites})
    table.loc[:3, "site"] = "small"  # of one class only
    predictions.targets[:4] = 0
    within = describe_within_site(predictions, table, resamples_of(predictions, 300))
    assert within.sites == 3
    assert sum(within.subjects_by_class) == (~table["site"].isin(["", "small"])).sum()
    assert within.auc.low < 0.5 < within.auc.high
    assert roc_auc_score(predictions.targets, predictions.probabilities[:, 1]) > 0.6
    few = replace(predictions, targets=np.where(np.cumsum(predictions.targets) > 9, 0, predictions.targets))
    assert describe_within_site(few, table, resamples_of(few, 10)).auc is None
    assert describe_within_site(predictions, table.assign(site="one"), resamples_of(predictions, 10)) is None
