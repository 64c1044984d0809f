"""What is said of a classifier beyond its scores, on a cohort whose probabilities are known to be too sure."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit
from sklearn.metrics import brier_score_loss, confusion_matrix

from adnext_plugin.errors import SettingsError
from adnext_plugin.evaluation.studies.details import describe_classifier
from adnext_plugin.evaluation.subjects.predictions import per_subject
from adnext_plugin.evaluation.uncertainty.intervals import resamples_of
from adnext_plugin.task import Task

TASK = Task(name="AD", target="diagnosis", classes=("CN", "AD"))


def _overconfident(people: int = 800) -> pd.DataFrame:
    """True risks, told with logits three times too large; two scans of everybody, two folds."""
    generator = np.random.default_rng(0)
    rows = []
    for index in range(people):
        logit = generator.normal(0, 1.5)
        target = TASK.classes[int(generator.random() < expit(logit))]
        fold, part = index % 2, ("val", "selection")[index // 2 % 2]
        rows += [(fold, part, f"s{index:03d}", target, expit(3 * logit))] * 2
    table = pd.DataFrame(rows, columns=["fold", "part", "subject_id", "target", "prob_AD"])
    return table.assign(prob_CN=1 - table["prob_AD"])


def _describe(**changes):
    table = _overconfident()
    network = per_subject(table, TASK)
    options = {"sensitivity": 0.9, "prevalences": (0.02, 0.5), **changes}
    return network, describe_classifier(table, network, TASK, resamples_of(network, 200), **options)


def test_temperature_undoes_overconfidence_and_changes_no_decision() -> None:
    network, details = _describe()
    assert [one.value for one in details.temperatures] == pytest.approx([3, 3], rel=0.25)
    before = brier_score_loss(network.targets, network.probabilities[:, 1])
    after = details.calibration_after_temperature
    assert after["brier"].value < before - 0.02
    assert after["ece_debiased"].value < 0.06


def test_decisions_at_a_wanted_sensitivity_and_their_predictive_values() -> None:
    network, details = _describe()
    binary = details.binary
    assert binary.at_sensitivity["sensitivity"].value == pytest.approx(0.9, abs=0.06)
    called = network.probabilities[:, 1] >= network.thresholds
    (true_negative, false_positive), (false_negative, true_positive) = confusion_matrix(network.targets, called)
    sensitivity = true_positive / (true_positive + false_negative)
    specificity = true_negative / (true_negative + false_positive)
    assert binary.wilson["sensitivity"].value == pytest.approx(sensitivity)
    assert binary.wilson["ppv"].value == pytest.approx(true_positive / (true_positive + false_positive))
    rare = binary.predictive_values[0]
    expected = sensitivity * 0.02 / (sensitivity * 0.02 + (1 - specificity) * 0.98)
    assert rare.ppv == pytest.approx(expected)
    assert binary.delong.low < binary.delong.value < binary.delong.high
    by_risk = {point.threshold: point.gain_over_both for point in binary.decision_curve}
    assert by_risk[0.5] > 0.1 and abs(by_risk[0.05]) < 0.01  # nearly everybody is treated either way
    assert 0.5 < binary.detectable_area < 0.6
    assert sum(point.subjects for point in binary.reliability) == len(network.targets)


def test_impossible_wishes_are_refused() -> None:
    with pytest.raises(SettingsError, match="sensitivity must be above 0"):
        _describe(sensitivity=1.5)
    with pytest.raises(SettingsError, match="prevalence must be between"):
        _describe(prevalences=(20,))
