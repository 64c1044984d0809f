"""All that a report knows of a run, gathered before anything is worded or drawn."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from adnext_plugin.cohort import Cohort
from adnext_plugin.findings import BinaryDetails, Estimate, ScoreLine, Subgroup
from adnext_plugin.report.brains import BrainPictures
from adnext_plugin.report.explained import ExplainedMethod
from adnext_plugin.run_metrics import RunMetrics
from adnext_plugin.run_records import RunInfo
from adnext_plugin.task import Task


@dataclass(frozen=True, kw_only=True)
class TwoClassAnswers:
    """Of every held-out subject, (N,): probability of the positive class, whether they are of it, and the fold."""

    probabilities: np.ndarray
    is_positive: np.ndarray
    folds: np.ndarray


@dataclass(frozen=True, kw_only=True)
class RunFacts:
    """A cross-validated and evaluated run.

    `cohort` has the targets that were trained on. `metrics` is content of metrics.json, `runs` that of each fold's
    run.json, `plan` the `adnext` block of the plans. `learning_curves` are by fold, `roc` and `precision_recall` by
    class: `value`, `low`, `high` over `grid`. `score_lines` say of each score how it is called and where it stands.
    `confusion` counts subjects by true and predicted class; `truth_and_prediction` (2, N) is a regression's.
    `deviations` are age- and sex-adjusted z-scores of regions, a row for each held-out case; None where there are none.
    `comparison` is what adnext_compare wrote, `explained` what adnext_explain found. `preparation` says what every scan
    went through, a few words a step. `answers` are of a task of two classes, `brains` what is shown of scans, `flow`
    how many scans came into the dataset, and why others did not.
    """

    cohort: Cohort
    metrics: RunMetrics
    runs: Sequence[RunInfo]
    plan: Mapping
    preparation: Sequence[str]
    learning_curves: Mapping[str, Mapping[str, Sequence[float]]]
    grid: Sequence[float] = ()
    roc: Mapping[str, Mapping] | None = None
    precision_recall: Mapping[str, Mapping] | None = None
    subgroups: Sequence[Subgroup] = ()
    score_lines: Mapping[str, ScoreLine] = field(default_factory=dict)
    confusion: np.ndarray | None = None
    truth_and_prediction: np.ndarray | None = None
    comparison: Mapping | None = None
    explained: Sequence[ExplainedMethod] = ()
    deviations: pd.DataFrame | None = None
    answers: "TwoClassAnswers | None" = None
    brains: BrainPictures | None = None
    flow: Sequence[str] = ()

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
    def binary(self) -> BinaryDetails | None:
        """What metrics.json says of two classes beyond scores; None where it does not."""
        return None if self.metrics.details is None else self.metrics.details.binary

    def line_of(self, score: str) -> ScoreLine:
        """What is known of a score; of one whose package is gone by now, its name."""
        unknown = ScoreLine(title=score.replace("_", " "), within_fold=None, in_report=True, by_fold=False, chance=None)
        return self.score_lines.get(score, unknown)

    @property
    def held_out_in_words(self) -> str:
        """Who was held out, and how often."""
        design, folds = self.metrics.design, len(self.metrics.folds)
        if design is None:
            return f"{self.metrics.subjects} subjects were held out once each in {folds} folds"
        if design.kind == "fixed hold-out":
            return (
                f"{design.held_out} of {design.subjects} subjects ({design.held_out / design.subjects:.0%}) were held "
                "out, a fixed part; nothing is known of the others"
            )
        return (
            f"{design.held_out} subjects were held out once in each of {len(design.repeats)} repeats of "
            f"{folds // len(design.repeats)} folds; scores are means of the repeats, figures are of the first"
        )

    @property
    def together(self) -> str:
        """What all predictions of one figure are called."""
        return "all folds pooled" if len(self.metrics.folds) > 1 else "held-out subjects"

    @property
    def positive(self) -> str:
        """The positive class."""
        return self.task.classes[-1]


def number(value: float | None, digits: int = 3) -> str:
    """A number as the report shows it."""
    return "–" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def estimate(content: Estimate | None) -> str:
    """A score with its interval."""
    if content is None or content.value is None:
        return "–"
    if content.low is None:
        return f"{number(content.value)} (no interval)"
    return f"{number(content.value)} ({number(content.low)} to {number(content.high)})"
