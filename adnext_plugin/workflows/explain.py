"""Maps of what a run's networks look at in the people whom they never saw, and whether to believe the maps."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adnext_plugin.errors import SettingsError
from adnext_plugin.files import write_json
from adnext_plugin.workflows.common import RunRequest, Tell
from adnext_plugin.workflows.explanation_files import CaseFiles, GroupMaps
from adnext_plugin.workflows.explanation_findings import checked, findings, localised, of_people
from adnext_plugin.workflows.explanation_job import SETTINGS, Job, look_up

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from adnext_plugin.explanations.animation import Form
    from adnext_plugin.explanations.localisation import Localisation
    from adnext_plugin.explanations.summary import ExplanationSummary
    from adnext_plugin.images import Volume
    from adnext_plugin.prediction.held_out_explanations import Checks, ExplainedCase
    from adnext_plugin.prediction.in_template import InTemplate

TABLE, SUMMARY = "maps.csv", "findings.json"
REGIONS, REGION_MEANS = "regions.csv", "regions_of_people.csv"

ToMNI = Literal["auto", "aligned", "scans", "register", "none"]


@dataclass(frozen=True, kw_only=True)
class Request(RunRequest):
    """Which run, whom of its held-out people, and how.

    `method` and `settings`: of an explanation, by name. `threshold`: fields of `ThresholdSettings`. `target`: class or
    quantity; None for the positive class, the last of several, or the quantity. `cases`: none for all. `checks`: of how
    many cases maps are checked. `animate`: form of the films; None for none. `truth`: NIfTI mask of the right regions,
    in the space of every scan. `mni`: how maps come to MNI152, for groups and regions: by the plan's alignment, because
    scans lie there, by an alignment that is found now, or not at all; "auto" is the first where there is one. `atlas`
    and `labels`: regions, a NIfTI file in MNI152 and a table; None for blocks. `output`: a folder; None for one below
    the run.
    """

    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    threshold: Mapping[str, Any] = field(default_factory=dict)
    target: str | None = None
    cases: tuple[str, ...] = ()
    checks: int = 8
    animate: "Form | None" = None
    truth: Path | None = None
    mni: ToMNI = "auto"
    atlas: Path | None = None
    labels: Path | None = None
    output: Path | None = None
    device: str | None = None

    def __post_init__(self) -> None:
        if self.checks < 0:
            raise SettingsError(f"--checks must be 0 or more, got {self.checks}")
        if (self.atlas is None) != (self.labels is None):
            raise SettingsError("give --atlas and --labels together: the regions, and what they are called")
        if self.atlas is not None and self.mni == "none":
            raise SettingsError("--atlas needs maps in MNI152; leave out --mni none")


@dataclass(frozen=True, kw_only=True)
class Result:
    """Where maps are, of how many cases; `findings` say whether to believe them, a line each.

    `regions`: the table of regions, where maps came to MNI152.
    """

    folder: Path
    table: Path
    cases: int
    findings: tuple[str, ...]
    regions: "pd.DataFrame | None" = None


@dataclass(kw_only=True)
class _Found:
    """What has been gathered so far: rows of both tables, and profiles over regions by kind of comparison and case."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    regions: "list[pd.DataFrame]" = field(default_factory=list)
    profiles: "dict[str, dict[str, np.ndarray]]" = field(default_factory=lambda: {"own": {}, "folds": {}, "seeds": {}})


def explain(request: Request, tell: Tell) -> Result:
    """Write a map of every case, a picture and a row of a table; check some of the maps, and sum up regions and groups.

    Raises:
        UnknownNameError: there is no such method, layer, target or case.
        SettingsError: settings do not fit, or the run holds nobody out.
        PathsError: the folder holds maps that were made otherwise.
        AdnextError: the run or its dataset is not complete any more.
    """
    import pandas as pd

    from adnext_plugin.csv_files import write_csv
    from adnext_plugin.progress import progress_bar
    from adnext_plugin.records import to_json

    job = look_up(request, tell)
    method = job.how["method"]
    tell(f"{method} of {job.held_out.target_name}: {len(job.cases)} cases, each by the network that did not see it")
    if cost := job.held_out.cost_in_words(job.cases[0]):
        tell(f"{method} takes {cost}, and as many for each map that is compared with it")
    checks = _spread(job.cases, request.checks)
    people = {case: job.networks.subject_of(case) for case in job.cases}
    groups = GroupMaps(people, job.classes)
    found, files = _Found(), CaseFiles(job.threshold, job.folder, job.networks.task, request.animate)
    with progress_bar(job.cases, desc="Explaining", unit="case") as shown:  # closed before an error is told
        for case in shown:
            _one(job, case, groups, found, files, is_checked=case in checks)
        files.finish()
    table = pd.DataFrame(found.rows)
    write_csv(table, job.folder / TABLE)
    counts = groups.write(job.threshold, job.folder)
    regions = _write_regions(job, found) if found.regions else None
    summary = _summary(job, table, counts, found)
    write_json(to_json(summary), job.folder / SUMMARY)
    return Result(
        folder=job.folder,
        table=job.folder / TABLE,
        cases=len(job.cases),
        findings=summary.findings,
        regions=regions,
    )


def _spread(cases: Sequence[str], count: int) -> set[str]:
    """So many cases, spread evenly over the list and so over the folds."""
    count = min(count, len(cases))
    return {cases[index * len(cases) // count] for index in range(count)}


def _one(job: Job, case: str, groups: GroupMaps, found: _Found, files: CaseFiles, *, is_checked: bool) -> None:
    """Explain one case and take in all that is found."""
    from adnext_plugin.explanations.region_table import region_rows
    from adnext_plugin.prediction.in_template import place

    explained = job.held_out.explain(case)
    placed: InTemplate | None = None
    if job.way is not None:
        image = explained.image_zyx
        placed = place(job.way, explained.properties, image, explained.affine, job.regions, case)
    if not found.rows:  # so that settings which do not fit the network leave nothing behind
        write_json(job.how, job.folder / SETTINGS)
    row = files.add(explained)
    if placed is not None:
        relative_zyx = placed.relative(explained.map_zyx)
        groups.add(case, relative_zyx)
        who = {"case_id": case, "subject_id": explained.subject_id}
        found.regions.append(region_rows(relative_zyx, job.regions).assign(**who))
        found.profiles["own"][case] = placed.profile(explained.map_zyx)
    if job.truth is not None:
        row |= _localised(explained, explained.map_zyx, job.truth)
    if is_checked:
        row |= _checked(job, explained, placed, found)
    found.rows.append(row)


def _checked(job: Job, explained: "ExplainedCase", placed: "InTemplate | None", found: _Found) -> dict[str, float]:
    import numpy as np

    others = job.held_out.other_maps(explained)
    numbers = _numbers(job.held_out.check(explained, others))
    if job.truth is not None:
        shuffled = _localised(explained, others.all_new, job.truth)
        numbers |= {f"shuffled_{name}": value for name, value in shuffled.items() if name == "average_precision"}
    if placed is not None:
        # in the order of the folds, whichever is the case's own
        by_folds = list(others.folds)
        by_folds.insert(job.networks.folds.index(job.networks.fold_of(explained.case_id)), explained.map_zyx)
        for kind, maps in (("folds", by_folds), ("seeds", [explained.map_zyx, *others.seeds])):
            if len(maps) > 1:
                found.profiles[kind][explained.case_id] = np.stack([placed.profile(one) for one in maps])
    return numbers


def _localised(explained: "ExplainedCase", map_zyx: "np.ndarray", truth: "Volume") -> dict[str, float]:
    from adnext_plugin.explanations.localisation import localisation
    from adnext_plugin.explanations.placement import on_map

    result = localisation(map_zyx, on_map(truth, explained.affine, map_zyx.shape), explained.brain_zyx)
    return {} if result is None else _numbers(result)


def _numbers(found: "Checks | Localisation") -> dict[str, float]:
    """The fields as numbers; what is not known is not one."""
    return {name: float("nan" if value is None else value) for name, value in asdict(found).items()}


def _write_regions(job: Job, found: _Found) -> "pd.DataFrame":
    """Write the rows of all cases, and the means over people that are given back."""
    import pandas as pd

    from adnext_plugin.csv_files import write_csv
    from adnext_plugin.explanations.region_table import over_people

    rows = pd.concat(found.regions)
    table = over_people(rows, job.classes)
    first = ["case_id", "subject_id"]
    write_csv(rows[[*first, *(name for name in rows if name not in first)]], job.folder / REGION_MEANS)
    write_csv(table, job.folder / REGIONS)
    return table


def _summary(job: Job, table: "pd.DataFrame", counts: dict[str, int], found: _Found) -> "ExplanationSummary":
    from adnext_plugin.explanations.agreement import agreement
    from adnext_plugin.explanations.summary import ExplanationSummary

    numbers = of_people(table)
    people, means = checked(numbers)
    profiles = {kind: list(of_case.values()) for kind, of_case in found.profiles.items() if kind != "own"}
    profiles["sessions"] = _sessions(table, found.profiles["own"])
    agreements = {kind: one for kind, of_kind in profiles.items() if (one := agreement(of_kind)) is not None}
    places = localised(numbers)
    lines, failures = findings(job.request.method, people, means, agreements, places)
    return ExplanationSummary(
        run=job.how["run"],
        method=job.how["method"],
        settings=job.how["settings"],
        target=job.how["target"],
        cases=len(table),
        people=len(numbers),
        groups=counts,
        mni=job.way,
        regions=job.regions_name,
        checked=people,
        checks=means,
        agreement=agreements,
        localisation=places,
        failures=tuple(failures),
        findings=tuple(lines),
    )


def _sessions(table: "pd.DataFrame", profiles: "Mapping[str, np.ndarray]") -> "list[np.ndarray]":
    """The profiles of the first two scans of those who have two, in the order of their case ids."""
    import numpy as np

    found = []
    for _, rows in table.groupby("subject_id"):
        cases = [case for case in sorted(rows["case_id"]) if case in profiles][:2]
        if len(cases) == 2:
            found.append(np.stack([profiles[case] for case in cases]))
    return found
