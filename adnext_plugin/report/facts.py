"""All that a report knows of a run, gathered before anything is worded or drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from adnext_plugin.cohort import Cohort
from adnext_plugin.task import Task


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """A cross-validated and evaluated run.

    `cohort` has the targets that were trained on. `metrics` is content of metrics.json, `runs` that of each fold's
    run.json, `plan` the `adnext` block of the plans. `learning_curves` are by fold, `roc` and `precision_recall` by
    class: `value`, `low`, `high` over `grid`. `subgroups` have `column`, `value`, `subjects_by_class` and `score`.
    `confusion` counts subjects by true and predicted class; `truth_and_prediction` (2, N) is a regression's.
    `comparison` is what adnext_compare wrote. `preparation` says what every scan went through, a few words a step.
    """

    cohort: Cohort
    metrics: Mapping
    runs: Sequence[Mapping]
    plan: Mapping
    preparation: Sequence[str]
    learning_curves: Mapping[str, Mapping[str, Sequence[float]]]
    grid: Sequence[float] = ()
    roc: Mapping[str, Mapping] | None = None
    precision_recall: Mapping[str, Mapping] | None = None
    subgroups: Sequence[Mapping] = ()
    confusion: np.ndarray | None = None
    truth_and_prediction: np.ndarray | None = None
    comparison: Mapping | None = None

    @property
    def task(self) -> Task:
        """What was to be learned."""
        return self.cohort.task

    @property
    def subjects(self) -> pd.DataFrame:
        """One row per case."""
        return self.cohort.subjects

    @property
    def people(self) -> pd.DataFrame:
        """One row per subject, their first scan's."""
        return self.cohort.people

    @property
    def binary(self) -> Mapping | None:
        """What metrics.json says of two classes beyond scores; None where it does not."""
        return (self.metrics.get("details") or {}).get("binary")

    @property
    def positive(self) -> str:
        """The positive class."""
        return self.task.classes[-1]


def number(value: float | None, digits: int = 3) -> str:
    """A number as the report shows it."""
    return "–" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def estimate(content: Mapping | None) -> str:
    """A score with its interval."""
    if content is None or content.get("value") is None:
        return "–"
    if content.get("low") is None:
        return number(content["value"])
    return f"{number(content['value'])} ({number(content['low'])} to {number(content['high'])})"
