"""Recalibration on other people: it mends what is known to be wrong, crosswise, and leaves the frozen result alone."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit
from sklearn.metrics import log_loss

from adnext_plugin.errors import SettingsError
from adnext_plugin.evaluation.studies.recalibration import _FITS, recalibrate, require_method
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions
from adnext_plugin.evaluation.uncertainty.intervals import resamples_of
from adnext_plugin.task import Task

PEOPLE = 600


def _predictions(slope: float, shift: float, people: int = PEOPLE) -> SubjectPredictions:
    """True risks, told with log-odds that are stretched and shifted."""
    generator = np.random.default_rng(0)
    odds = generator.normal(0, 1.5, people)
    told = expit(slope * odds + shift)
    return SubjectPredictions(
        subject_ids=np.array([f"s{index:03d}" for index in range(people)]),
        targets=(generator.random(people) < expit(odds)).astype(int),
        folds=np.zeros(people, dtype=int),
        probabilities=np.stack([1 - told, told], axis=1),
        thresholds=np.full(people, 0.5),
        classes=("CN", "AD"),
    )


@pytest.mark.parametrize(
    ("method", "slope", "shift", "expected"),
    [("temperature", 3, 0, (3,)), ("intercept", 1, 1.5, (-1.5,)), ("logistic", 2, 1, (0.5, -0.5))],
)
def test_each_method_undoes_its_own_error(method: str, slope: float, shift: float, expected: tuple) -> None:
    frozen = _predictions(slope, shift)
    before = frozen.probabilities.copy()
    found = recalibrate(frozen, method, resamples_of(frozen, 100))
    assert np.mean(found.parameters, axis=0) == pytest.approx(expected, rel=0.25, abs=0.25)
    assert found.recalibrated["log_loss"].value < found.frozen["log_loss"].value - 0.05
    assert found.recalibrated["ece_debiased"].value < 0.06 < found.frozen["ece_debiased"].value
    assert found.frozen["log_loss"].value == pytest.approx(log_loss(frozen.targets, before[:, 1]))
    np.testing.assert_array_equal(frozen.probabilities, before)
    assert "RECALIBRATED" in found.warning


def test_fits_are_those_of_the_smallest_log_loss() -> None:
    frozen = _predictions(2, 1, people=80)
    odds, targets = logit(frozen.probabilities[:, 1]), frozen.targets

    def best(change, start) -> np.ndarray:
        return minimize(lambda x: log_loss(targets, expit(change(x))), start, method="Nelder-Mead", tol=1e-8).x

    for method, change, start in (
        ("temperature", lambda x: odds / x[0], [1.0]),
        ("intercept", lambda x: odds + x[0], [0.0]),
        ("logistic", lambda x: x[0] * odds + x[1], [1.0, 0.0]),
    ):
        parameters, _ = _FITS[method](frozen.probabilities, targets)
        assert parameters == pytest.approx(best(change, start), abs=2e-3)


def test_what_chance_would_fit_is_not_gained_by_the_crosswise_result() -> None:
    """Of a frozen model that is right already, fitting can only lose."""
    frozen = _predictions(1, 0, people=60)
    found = recalibrate(frozen, "logistic", resamples_of(frozen, 100))
    assert found.recalibrated["log_loss"].value > found.frozen["log_loss"].value


def test_too_few_people_and_unfit_methods_are_refused() -> None:
    with pytest.raises(SettingsError, match="is for two classes; use temperature for CN, MCI, AD"):
        require_method("intercept", Task(name="S", target="stage", classes=("CN", "MCI", "AD")))
    with pytest.raises(SettingsError, match="is for probabilities"):
        require_method("temperature", Task(name="S", target="age", kind="regression"))
    with pytest.raises(SettingsError, match="needs 5 subjects of every class, and one has"):
        few = _predictions(1, 0, people=8)
        recalibrate(few, "temperature", resamples_of(few, 100))
