"""What an evaluation finds, as records, and `metrics.json`, which holds them.

Made by `evaluation`, shown by `report` and by commands, read again by prediction and by comparisons.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit, logit, softmax

from adnext_plugin.files import read_json, write_json
from adnext_plugin.formats import Format
from adnext_plugin.records import from_json, record
from adnext_plugin.settings import Protocol

METRICS = Format(
    name="adnext_metrics",
    version=1,
    known_by="splits_sha256",
    words="what adnext_evaluate writes of a run",
    remedy="evaluate the run again with adnext_evaluate",
)


@record
class Estimate:
    """A score and its 95 % interval; None where it does not exist."""

    value: float | None
    low: float | None
    high: float | None


@record
class FoldScores:
    """The scores of one held-out fold, and the threshold chosen on its `selection` part."""

    fold: int
    subjects: int
    threshold: float | None
    scores: dict[str, float | None]


@record
class FoldMean:
    """Mean and standard deviation (of a sample) of a score over the folds that have it."""

    mean: float | None
    standard_deviation: float | None


@record
class BaselineResult:
    """A baseline's scores, and by how much the network is better: in AUC (mean of folds), or in mean absolute error."""

    name: str
    scores: dict[str, Estimate]
    gain_of_network: Estimate


@record
class AreaInterval:
    """An area with its 95 % interval; `note` says what is special about it. None where it does not exist."""

    value: float | None
    standard_error: float | None
    low: float | None
    high: float | None
    note: str | None = None


@record
class Temperature:
    """What to divide logits by; `at_limit` where the search ended at the edge of what is allowed."""

    value: float
    at_limit: bool = False

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated probabilities, (N, classes), of logits or of logarithms of probabilities."""
        return softmax(logits / self.value, axis=1)

    def threshold(self, probability: float) -> float:
        """What a threshold on the positive of two classes becomes, so that calibration changes no call."""
        return float(expit(logit(probability) / self.value))


@record
class ReliabilityBin:
    """Subjects of similar probability: its mean, and how many of them are of the class, with Wilson's interval."""

    subjects: int
    mean_probability: float
    observed: Estimate


@record
class NetBenefit:
    """True positives per subject, less false ones at the odds of the threshold; that of treating nobody is 0."""

    threshold: float
    model: Estimate
    treat_all: Estimate
    gain_over_both: float  # of the model over the better of treating everybody and nobody


@record
class PredictiveValues:
    """Chance that a positive, or negative, call is right where this share of people is positive."""

    prevalence: float
    ppv: float | None
    npv: float | None


@record
class BinaryDetails:
    """Of two classes. Decisions are at the folds' thresholds unless said otherwise.

    `wilson` holds intervals of proportions; `at_sensitivity` the scores of calls at thresholds that reach
    `wanted_sensitivity` on `selection`; `decision_curve` is of calibrated probabilities.
    """

    delong: AreaInterval
    wilson: dict[str, Estimate]
    reliability: tuple[ReliabilityBin, ...]
    reliability_after_temperature: tuple[ReliabilityBin, ...]
    decision_curve: tuple[NetBenefit, ...]
    wanted_sensitivity: float
    at_sensitivity: dict[str, Estimate]
    predictive_values: tuple[PredictiveValues, ...]
    detectable_area: float | None


@record
class ClassifierDetails:
    """Of any number of classes; one temperature per fold."""

    temperatures: tuple[Temperature, ...]
    calibration_after_temperature: dict[str, Estimate]
    binary: BinaryDetails | None


@record
class WithinSite:
    """Of the `sites` that have more than one class. `auc` is None where they have fewer than 10 subjects of a class."""

    sites: int
    subjects_by_class: tuple[int, ...]
    auc: Estimate | None


@record
class Spread:
    """Of a score over seeds; the standard deviation is that of a sample. None where a seed has no such score."""

    by_seed: tuple[float | None, ...]
    mean: float | None
    standard_deviation: float | None
    lowest: float | None
    highest: float | None


@record
class SeedSpread:
    """All scores over the seeds that a run was repeated with, the first being the run's own."""

    seeds: tuple[int, ...]
    scores: dict[str, Spread]
    # of the mean of all seeds' predictions, with intervals over subjects
    together: dict[str, Estimate]


@record
class InflatedScore:
    """A score of the run as it is, of its best held-out epochs, and by how much the latter flatters."""

    honest: float | None
    best_held_out_epoch: float | None
    inflated_by: float | None


@record
class InflationMeter:
    """Scores as the paper's protocol would have printed them. Never to be reported as results.

    `epochs` are those that every fold would have kept, of `epochs_seen`. `scores` of `..._any_epoch` go further and
    take each fold's epoch by that very score.
    """

    warning: str
    epochs: tuple[int, ...]
    epochs_seen: tuple[int, ...]
    scores: dict[str, InflatedScore]


@record
class Probe:
    """What the features of held-out subjects tell of a column.

    Classes with fewer than 10 subjects, or fewer than two in some fold, are left out; `scores` are None where so fewer
    than two classes remain. With more than two classes the area is the mean of each against the rest.
    """

    column: str
    classes: tuple[str, ...]
    subjects_by_class: tuple[int, ...]
    scores: dict[str, Estimate] | None


@record
class RunMetrics:
    """`metrics.json` of a run: what was evaluated, and what was found of it.

    `unit` is what was scored, a subject. `scores` are over all held-out subjects, by name, in the order of the table of
    scores; `primary_score` is the one that gains over baselines are in. `warning` is what all of it is stamped with.
    """

    warning: str | None = None
    dataset: str
    trainer: str
    protocol: Protocol
    unit: str
    kind: str
    classes: tuple[str, ...]
    splits_sha256: str
    resamples: int
    best_epochs: tuple[int | None, ...]
    notes: tuple[str, ...]
    subjects: int
    primary_score: str
    folds: tuple[FoldScores, ...]
    means_of_folds: dict[str, FoldMean]
    scores: dict[str, Estimate]
    baselines: tuple[BaselineResult, ...]
    details: ClassifierDetails | None  # None of a regression
    within_site: WithinSite | None
    seeds: SeedSpread | None
    inflation_meter: InflationMeter | None
    probes: tuple[Probe, ...] | None = None  # None where none were asked for


def write_metrics(metrics: RunMetrics, path: Path) -> None:
    """Write `metrics.json`; a warning and probes only where there are any."""
    content = asdict(metrics)
    unsaid = [name for name in ("warning", "probes") if content[name] is None]
    write_json(METRICS.stamped({name: value for name, value in content.items() if name not in unsaid}), path)


def read_metrics(path: Path) -> RunMetrics:
    """Read `metrics.json`.

    Raises:
        PathsError: there is none, or it is damaged.
        FormatError: it is another program's, or a later version's.
        SettingsError: a key is unknown or missing.
    """
    content: dict[str, Any] = METRICS.content_of(read_json(path), str(path))
    return from_json(RunMetrics, content, str(path))
