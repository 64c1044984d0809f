"""What an evaluation finds, as records: made by `evaluation`, kept in `metrics.json`, shown by reports and commands."""

from typing import TYPE_CHECKING, Literal

from adnext_plugin.records import record

if TYPE_CHECKING:
    import numpy as np


@record
class Estimate:
    """A score and its 95 % interval, which contains it; None where it does not exist, and `note` says why."""

    value: float | None
    low: float | None
    high: float | None
    note: str | None = None


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
class RepeatScores:
    """The scores of one repeat of a cross-validation, over all of its folds."""

    repeat: int
    folds: tuple[int, ...]
    scores: dict[str, float | None]


@record
class StudyDesign:
    """Folds that are not one cross-validation; of `subjects` in the dataset, `held_out` are scored."""

    kind: Literal["repeated cross-validation", "fixed hold-out"]
    held_out: int
    subjects: int
    repeats: tuple[RepeatScores, ...] = ()


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

    def probabilities(self, logits: "np.ndarray") -> "np.ndarray":
        """Calibrated probabilities, (N, classes), of logits or of logarithms of probabilities."""
        from scipy.special import softmax

        return softmax(logits / self.value, axis=1)

    def threshold(self, probability: float) -> float:
        """What a threshold on the positive of two classes becomes, so that calibration changes no call."""
        from scipy.special import expit, logit

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
class Recalibration:
    """Calibration of an external dataset's probabilities after they were fitted to it, and what was fitted.

    `parameters` are by part: the temperature; the shift of the log-odds; or their slope and shift.
    """

    warning: str
    method: str
    parameters: tuple[tuple[float, ...], ...]
    frozen: dict[str, Estimate]
    recalibrated: dict[str, Estimate]


@record
class Subgroup:
    """A part of the held-out subjects: how many of each class, and their pooled AUC or mean absolute error.

    `score` is None where a class has fewer than 10 subjects; `auc` of more than two classes is the mean of them.
    """

    column: str
    value: str
    subjects_by_class: tuple[int, ...]
    score: Estimate | None


@record
class ScoreLine:
    """What a report needs to know of a score beside its values: what it is called, where it stands, a guess's value."""

    title: str
    within_fold: str | None  # its name among the scores of one fold
    in_report: bool
    by_fold: bool
    chance: float | None


@record
class ColumnProbe:
    """How well linear models of frozen features tell a column, and of what stands beside them.

    `score` is the one that `models` and `gains` are in: the area under the ROC curve, or the mean absolute error.
    `gains` are the encoder's over each other model, paired. Of a column with too few people there are none.
    """

    column: str
    kind: Literal["classification", "regression", "unlabelled", "too few"]
    classes: tuple[str, ...]
    subjects: int
    score: str
    models: dict[str, Estimate]
    gains: dict[str, Estimate]


@record
class Reliability:
    """Of features, over two scans of the same people: the median of the features' ICC(1,1), with its interval.

    `share_recognised` of the second scans are nearer to the same person's first one than to anybody else's.
    """

    people: int
    median_icc: float
    low: float
    high: float
    share_recognised: float


@record
class FrozenProbes:
    """What `adnext_probe` found out about an encoder; `reliability` by encoder, empty where nobody came twice."""

    dataset: str
    network: str
    weights: str | None
    features: int
    columns: tuple[ColumnProbe, ...]
    reliability: dict[str, Reliability]
