"""Whether acting on a network's calls does more good than acting on everybody or on nobody.

Source: Vickers and Elkin 2006, Med Decis Making 26:565.
"""

import numpy as np

from adnext_plugin.evaluation.uncertainty.bootstrap import Resamples, bootstrap
from adnext_plugin.findings import Estimate, NetBenefit

THRESHOLDS = tuple(np.linspace(0.05, 0.95, 19).round(2).tolist())


def net_benefit(
    is_positive: np.ndarray, probabilities: np.ndarray, weights: np.ndarray, thresholds: tuple[float, ...] = THRESHOLDS
) -> np.ndarray:
    """Net benefit of calling positive from each threshold on, (R, thresholds).

    It is that of a population with the cohort's share of positives.

    Args:
        is_positive: (N,) booleans.
        probabilities: (N,), calibrated: a threshold is a risk.
        weights: (R, N).
        thresholds: risks from which one would act, within 0 and 1, 1 excluded.
    """
    odds = np.divide(thresholds, np.subtract(1, thresholds))
    called = probabilities[:, None] >= np.array(thresholds)
    worth = called * np.where(is_positive[:, None], 1, -odds)
    return weights @ worth / weights.sum(axis=1, keepdims=True)


def decision_curve(is_positive: np.ndarray, probabilities: np.ndarray, resamples: Resamples) -> tuple[NetBenefit, ...]:
    """Net benefit of the model and of treating everybody, with intervals, at risks from 0.05 to 0.95."""
    everybody = np.ones(len(probabilities))

    def curves(block: np.ndarray) -> dict[str, np.ndarray]:
        by_name = {
            "model": net_benefit(is_positive, probabilities, block),
            "all": net_benefit(is_positive, everybody, block),
        }
        return {f"{name}{index}": by_name[name][:, index] for name in by_name for index in range(len(THRESHOLDS))}

    found = bootstrap(curves, resamples)
    return tuple(
        _net_benefit(threshold, found[f"model{index}"], found[f"all{index}"])
        for index, threshold in enumerate(THRESHOLDS)
    )


def _net_benefit(threshold: float, model: Estimate, treat_all: Estimate) -> NetBenefit:
    assert model.value is not None and treat_all.value is not None  # they exist wherever there is a subject
    gain = model.value - max(0.0, treat_all.value)
    return NetBenefit(threshold=threshold, model=model, treat_all=treat_all, gain_over_both=gain)
