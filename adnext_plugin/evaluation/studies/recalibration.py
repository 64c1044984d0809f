"""Probabilities fitted anew to other people, beside those of the frozen model and never in their place.

What is fitted on a dataset cannot be judged on the same people: subjects are divided into parts, and each part is
recalibrated by what was fitted on the others.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold

from adnext_plugin.errors import SettingsError
from adnext_plugin.evaluation.scores.calibration import calibration_scores, fit_temperature
from adnext_plugin.evaluation.subjects.predictions import SubjectPredictions
from adnext_plugin.evaluation.uncertainty.bootstrap import Resamples, bootstrap
from adnext_plugin.findings import Recalibration
from adnext_plugin.task import Task

Method = Literal["temperature", "intercept", "logistic"]
PARTS = 5
FARTHEST = 50.0  # shift of log-odds that is looked for
NEARLY_ONE = 1 - 1e-12

Change = Callable[[np.ndarray], np.ndarray]


def require_method(method: Method, task: Task) -> None:
    """Make sure that a method is for a kind of task.

    Raises:
        SettingsError: it is not.
    """
    if task.kind != "classification":
        raise SettingsError(f"--recalibrate is for probabilities, and {task.name} is for {task.kind}")
    if method != "temperature" and len(task.classes) != 2:
        raise SettingsError(f"--recalibrate {method} is for two classes; use temperature for {', '.join(task.classes)}")


def recalibrate(predictions: SubjectPredictions, method: Method, resamples: Resamples) -> Recalibration:
    """Fit probabilities to the people they are of, crosswise.

    `temperature` divides logits (Guo 2017), `intercept` shifts log-odds until their mean is right, and `logistic` also
    stretches them (Cox 1958, Biometrika 45:562; Steyerberg 2004, Stat Med 23:2567).

    Args:
        predictions: of the frozen model, by subject; not modified.
        method: which of them; all but the temperature are for two classes.
        resamples: of the subjects.

    Raises:
        SettingsError: there are too few subjects to divide.
    """
    fewest = int(np.bincount(predictions.targets, minlength=len(predictions.classes)).min())
    if fewest < PARTS:
        raise SettingsError(f"--recalibrate needs {PARTS} subjects of every class, and one has {fewest}")
    probabilities, parameters = predictions.probabilities.copy(), []
    parts = StratifiedGroupKFold(PARTS, shuffle=True, random_state=0)
    for rest, part in parts.split(probabilities, predictions.targets, predictions.subject_ids):
        found, change = _FITS[method](predictions.probabilities[rest], predictions.targets[rest])
        probabilities[part] = change(predictions.probabilities[part])
        parameters.append(found)
    after = replace(predictions, probabilities=probabilities)
    return Recalibration(
        warning=f"RECALIBRATED ({method}) on the external subjects themselves, crosswise: not the frozen model",
        method=method,
        parameters=tuple(parameters),
        **{
            name: bootstrap(partial(calibration_scores, it.targets, it.probabilities), resamples)
            for name, it in (("frozen", predictions), ("recalibrated", after))
        },
    )


def _temperature(probabilities: np.ndarray, targets: np.ndarray) -> tuple[tuple[float, ...], Change]:
    found = fit_temperature(_logarithms(probabilities), targets)
    return (found.value,), lambda others: found.probabilities(_logarithms(others))


def _intercept(probabilities: np.ndarray, targets: np.ndarray) -> tuple[tuple[float, ...], Change]:
    odds = _log_odds(probabilities)
    # where the derivative of the log-loss is 0, the mean probability is the share of positives
    shift = float(brentq(lambda b: expit(odds + b).mean() - targets.mean(), -FARTHEST, FARTHEST))
    return (shift,), lambda others: _both(expit(_log_odds(others) + shift))


def _logistic(probabilities: np.ndarray, targets: np.ndarray) -> tuple[tuple[float, ...], Change]:
    model = LogisticRegression(C=np.inf, max_iter=1000).fit(_log_odds(probabilities)[:, None], targets)
    parameters = (float(model.coef_[0, 0]), float(model.intercept_[0]))
    return parameters, lambda others: model.predict_proba(_log_odds(others)[:, None])


_FITS: dict[str, Callable[[np.ndarray, np.ndarray], tuple[tuple[float, ...], Change]]] = {
    "temperature": _temperature,
    "intercept": _intercept,
    "logistic": _logistic,
}


def _logarithms(probabilities: np.ndarray) -> np.ndarray:
    return np.log(np.clip(probabilities, np.finfo(float).tiny, 1))


def _log_odds(probabilities: np.ndarray) -> np.ndarray:
    return logit(np.clip(probabilities[:, 1], 1 - NEARLY_ONE, NEARLY_ONE))


def _both(positive: np.ndarray) -> np.ndarray:
    return np.stack([1 - positive, positive], axis=1)
