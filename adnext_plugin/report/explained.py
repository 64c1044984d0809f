"""The sections of a report about what the networks look at: one for each method that maps were made with."""

from collections.abc import Sequence
from dataclasses import dataclass

from adnext_plugin.report.page import Section, Table, Viewer

SHOWN_REGIONS = 12


@dataclass(frozen=True, kw_only=True)
class RegionLine:
    """Means over people of a region on one side; `by_class` is `times_chance` of each class."""

    region: str
    side: str
    share: float
    low: float | None
    high: float | None
    share_of_brain: float
    times_chance: float
    asymmetry: float | None
    by_class: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ExplainedMethod:
    """What `adnext_explain` found with one method.

    `findings` say whether to believe the maps, `failures` where not. `regions` are of everybody, in any order, and
    `classes` what their columns by class are. `viewers` are of mean maps.
    """

    method: str
    target: str
    cases: int
    people: int
    findings: tuple[str, ...]
    failures: tuple[str, ...]
    regions_name: str | None
    regions: Sequence[RegionLine]
    classes: tuple[str, ...]
    viewers: tuple[Viewer, ...]
    missing: tuple[str, ...] = ()


def explanations(found: Sequence[ExplainedMethod]) -> list[Section]:
    """A section for each method."""
    return [_section(one) for one in found]


def _section(one: ExplainedMethod) -> Section:
    about = (
        f"Maps of what speaks for {one.target}, of {one.cases} held-out scans of {one.people} people, each by the "
        "network that did not see them. A map says where the score hangs on the image, not what there is about that "
        "place, and not that the network is right."
    )
    passed = tuple(line for line in one.findings if line not in one.failures)
    return Section(
        key=f"explanations-{one.method.replace('_', '-')}",
        title=f"What the networks look at: {one.method}",
        alerts=one.failures,
        paragraphs=(about, *passed),
        tables=(_regions(one),) if one.regions else (),
        viewers=one.viewers,
        missing=one.missing,
    )


def _regions(one: ExplainedMethod) -> Table:
    most = sorted(one.regions, key=lambda line: -line.times_chance)[:SHOWN_REGIONS]
    return Table(
        caption=(
            f"The {len(most)} regions of {one.regions_name} (MNI152) that hold most of the maps for their size; 1 time "
            "is chance. Asymmetry is from -1, all on the right, to 1, all on the left"
        ),
        header=(
            "region",
            "side",
            "share of the map, 95 % interval",
            "share of the brain",
            "times chance",
            *(f"times chance, {name}" for name in one.classes),
            "asymmetry",
        ),
        rows=tuple(_row(line) for line in most),
    )


def _row(line: RegionLine) -> tuple[str, ...]:
    interval = "" if line.low is None or line.high is None else f" ({line.low:.1%} to {line.high:.1%})"
    return (
        line.region,
        line.side,
        f"{line.share:.1%}{interval}",
        f"{line.share_of_brain:.1%}",
        f"{line.times_chance:.2f}",
        *(f"{value:.2f}" for value in line.by_class),
        "–" if line.asymmetry is None else f"{line.asymmetry:+.2f}",
    )
