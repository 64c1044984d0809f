"""The probe finds what features tell of people, and only that."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from adnext_plugin.evaluation.studies.probe import probe

PEOPLE = 160


def _features(strength: float) -> tuple[np.ndarray, np.ndarray, pd.Series]:
    """Of two folds, whose networks say it in different units of different directions."""
    generator = np.random.default_rng(0)
    sex = np.where(generator.random(PEOPLE) < 0.4, "M", "F")
    folds = np.arange(PEOPLE) % 2
    features = generator.normal(size=(PEOPLE, 12))
    features[np.arange(PEOPLE), np.where(folds == 0, 3, 7)] += strength * (sex == "M") * np.where(folds == 0, 1, -1)
    return features, folds, pd.Series(sex, name="sex")


def test_features_that_tell_the_sex_are_found_out_and_others_are_not() -> None:
    ids = [f"s{index:03d}" for index in range(PEOPLE)]
    told = probe(_features(3)[0], ids, *_features(3)[1:], resamples=200)
    untold = probe(_features(0)[0], ids, *_features(0)[1:], resamples=200)
    assert told.classes == ("F", "M") and sum(told.subjects_by_class) == PEOPLE
    assert told.scores["auc_mean_of_folds"].low > 0.8
    assert untold.scores["auc_mean_of_folds"].low < 0.5 < untold.scores["auc_mean_of_folds"].high


def test_the_probe_is_a_logistic_regression_of_each_fold_fitted_on_other_subjects() -> None:
    features, folds, sex = _features(1)
    found = probe(features, [f"s{index:03d}" for index in range(PEOPLE)], folds, sex, resamples=100)
    areas = []
    for fold in (0, 1):
        x, y = features[folds == fold], (sex[folds == fold] == "M").to_numpy()
        risk = np.empty(len(y))
        for train, test in StratifiedKFold(5, shuffle=True, random_state=0).split(x, y):
            mean, spread = x[train].mean(axis=0), x[train].std(axis=0)
            model = LogisticRegression(C=0.1, class_weight="balanced").fit((x[train] - mean) / spread, y[train])
            risk[test] = model.predict_proba((x[test] - mean) / spread)[:, 1]
        areas.append(roc_auc_score(y, risk))
    assert found.scores["auc_mean_of_folds"].value == pytest.approx(np.mean(areas), abs=0.01)


def test_several_scans_of_a_person_count_once_and_never_on_both_sides() -> None:
    features, folds, sex = _features(0)
    ids = [f"s{index:03d}" for index in range(PEOPLE)]
    once = probe(features, ids, folds, sex, resamples=100)
    # scans of one person are alike: a division by scan would recognise the person
    noise = np.random.default_rng(1).normal(0, 1e-9, features.shape)
    both = np.concatenate([features + noise, features - noise])
    twice = probe(both, ids * 2, np.tile(folds, 2), pd.Series(np.tile(sex, 2), name="sex"), resamples=100)
    assert twice.subjects_by_class == once.subjects_by_class
    assert twice.scores["auc_mean_of_folds"].value == pytest.approx(once.scores["auc_mean_of_folds"].value)


def test_rare_classes_and_unknown_ones_are_left_out() -> None:
    features, folds, _ = _features(0)
    ids = [f"s{index:03d}" for index in range(PEOPLE)]
    site = pd.Series(np.array(["one", "two", "three"])[np.arange(PEOPLE) // 2 % 3], name="site")
    site[:9], site[9:20] = "rare", None
    found = probe(features, ids, folds, site, resamples=100)
    assert found.classes == ("one", "three", "two") and sum(found.subjects_by_class) == PEOPLE - 20
    assert found.scores["balanced_accuracy"].value < 0.5
    alone = probe(features, ids, folds, site.where(site == "one"), resamples=100)
    assert alone.classes == ("one",) and alone.scores is None
