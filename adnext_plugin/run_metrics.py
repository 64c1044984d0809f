"""`metrics.json`: what was evaluated and what was found of it, written once and read by whatever comes later."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adnext_plugin.files import read_json, write_json
from adnext_plugin.findings import (
    BaselineResult,
    ClassifierDetails,
    Estimate,
    FoldMean,
    FoldScores,
    InflationMeter,
    Probe,
    Recalibration,
    SeedSpread,
    StudyDesign,
    WithinSite,
)
from adnext_plugin.formats import Format
from adnext_plugin.records import from_json, record
from adnext_plugin.settings import Protocol
from adnext_plugin.stamps import without_reasons

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

METRICS = Format(
    name="adnext_metrics",
    version=1,
    known_by="splits_sha256",
    words="what adnext_evaluate writes of a run",
    remedy="evaluate the run again with adnext_evaluate",
)
EXTERNAL = Format(
    name="adnext_external_metrics",
    version=1,
    known_by="trained_on",
    words="what adnext_evaluate --external writes of a run",
    remedy="evaluate the run again with adnext_evaluate --external",
)

OPTIONAL = ("warning", "positive_class", "design", "probes")


class _Content:
    def content(self) -> dict[str, Any]:
        """As a JSON object; what there need not be only where there is any."""
        said = asdict(cast("DataclassInstance", self))
        return {name: value for name, value in said.items() if value is not None or name not in OPTIONAL}


@record
class RunMetrics(_Content):
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
    positive_class: str | None = None
    splits_sha256: str
    design: StudyDesign | None = None  # None of one cross-validation
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


@record
class ExternalMetrics(_Content):
    """`metrics.json` of a run's networks together on a dataset of other people, `dataset`.

    `threshold` and `temperatures` are those that were chosen on the dataset trained on, and `baselines` were fitted
    there; `recalibration` stands beside the frozen scores where it was asked for.
    """

    warning: str | None = None
    dataset: str
    trained_on: str
    trainer: str
    protocol: Protocol
    unit: str
    kind: str
    classes: tuple[str, ...]
    positive_class: str | None = None
    networks: int
    threshold: float | None
    temperatures: tuple[float, ...]
    subjects: int
    resamples: int
    scores: dict[str, Estimate]
    baselines: tuple[BaselineResult, ...] = ()
    notes: tuple[str, ...] = ()
    recalibration: Recalibration | None


def write_metrics(metrics: RunMetrics | ExternalMetrics, path: Path) -> None:
    """Write `metrics.json`."""
    of = METRICS if isinstance(metrics, RunMetrics) else EXTERNAL
    write_json(of.stamped(metrics.content()), path)


def read_metrics(path: Path) -> RunMetrics:
    """Read `metrics.json` of a run on its own dataset.

    Raises:
        PathsError: there is none, or it is damaged.
        FormatError: it is another program's, or a later version's.
        SettingsError: a key is unknown or missing.
    """
    return from_json(RunMetrics, _stored(METRICS, path), str(path))


def read_external_metrics(path: Path) -> ExternalMetrics:
    """Read `metrics.json` of a dataset of other people, as `read_metrics`."""
    return from_json(ExternalMetrics, _stored(EXTERNAL, path), str(path))


def _stored(of: Format, path: Path) -> dict[str, Any]:
    content = of.content_of(read_json(path), str(path))
    if isinstance(content.get("warning"), str):  # to which earlier versions added what the user wrote of people
        content["warning"] = "; ".join(without_reasons([content["warning"]]))
    return content
